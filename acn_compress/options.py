"""What can be asked for: every option of every verb, said once.

A verb is a class, a field is an option: its name, type, bounds, default and one sentence. The
command line, the steps of a recipe, the Python functions (`surface.py`), `recipe.schema.json` and
`docs/options.md` are made from it. A verb inherits the groups of options that it takes; a group is
a panel of the help. Importing this file is light: no torch.
"""

import re
from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    Self,
    TypeAlias,
    TypeVar,
    get_args,
)

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from acn_compress.form import LayerKind as LayerKind

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from transformers import PreTrainedModel

    DataSpec: TypeAlias = str | Path | Dataset | DatasetDict
    ModelSpec: TypeAlias = str | Path | PreTrainedModel
    PathSpec: TypeAlias = str | Path
    FileSpec: TypeAlias = str | Path
    SizeSpec: TypeAlias = int | str
else:
    DataSpec = ModelSpec = PathSpec = SizeSpec = Any
    FileSpec = str


def _path(value: object) -> object:
    """A path as a text."""
    return fspath(value) if isinstance(value, PathLike) else value


def _data_spec(value: object) -> object:
    """A name, a path as a name, or a data set in memory (told without importing its library)."""
    value = _path(value)
    if isinstance(value, str) or type(value).__module__.partition(".")[0] == "datasets":
        return value
    raise ValueError("a data set: its name, files or folder, or a datasets.Dataset")


def model_spec(value: object) -> object:
    """A name, a path as a name, or a model in memory."""
    value = _path(value)
    if isinstance(value, str) or (hasattr(value, "config") and hasattr(value, "state_dict")):
        return value
    raise ValueError("a model directory, a Hub id, a weight file, or a loaded transformers model")


def _numbers(value: object) -> object:
    """3,4,6 as a tuple; anything that is not a text is left to the check that follows."""
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


def _words(value: object) -> object:
    """influence,cka as a tuple; also several texts of which each may hold commas."""
    parts = [value] if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)) or not all(isinstance(p, str) for p in parts):
        return value
    return tuple(word.strip() for part in parts for word in part.split(","))


def _bytes(value: object) -> int:
    """20MB as 20,000,000 bytes."""
    found = re.fullmatch(r"\s*(\d+\.?\d*)\s*([kKMG]?)B?\s*", str(value))
    if found is None or (count := round(float(found[1]) * UNITS[found[2]])) < 1:
        raise ValueError("a size, such as 20MB or 500KB")
    return count


Share = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Workers = Annotated[int, Field(ge=0, le=256)]
Size = Annotated[SizeSpec, BeforeValidator(_bytes), WithJsonSchema({"type": ["string", "integer"]})]
Tokens = Annotated[int, Field(ge=2)]
Depths = Annotated[tuple[Count, ...], BeforeValidator(_numbers)]
DataSet = Annotated[DataSpec, BeforeValidator(_data_spec), WithJsonSchema({"type": "string"})]
Model = Annotated[ModelSpec, BeforeValidator(model_spec), WithJsonSchema({"type": "string"})]
File = Annotated[FileSpec, BeforeValidator(_path)]

Keep = Literal["first", "even", "best", "auto"]
Stay = Literal["first", "best"]
Bound = Literal["upper", "point"]
Init = Literal["source", "random"]
Precision = Literal["auto", "fp32", "bf16"]
Augment = Literal["crop", "flip-crop"]
Scope = Literal["global", "layer"]
Method = Literal["structured", "magnitude", "obs", "movement"]
PRUNES_IN_TRAINING: frozenset[Method] = frozenset({"movement"})  # not without data and epochs
KEEPS_PATTERNS: frozenset[Method] = frozenset({"magnitude", "obs"})
USUAL_SCOPES: Mapping[str, Scope] = {"obs": "layer"}  # where it is not global
Pattern = Literal["2:4", "4:8"]
Score = Literal["obs", "fisher", "taylor", "activation", "magnitude"]
Format = Literal["onnx", "openvino", "torch-export", "executorch", "safetensors"]
# packages that are installed only if asked for: by which extra, and what they are for
EXTRAS: Mapping[str, tuple[str, str]] = {
    "timm": ("timm", "timm's models"),
    "peft": ("peft", "LoRA adapters"),
    "soundfile": ("audio", "audio files"),
    "soxr": ("audio", "audio of another sampling rate"),
    "openvino": ("openvino", "export to OpenVINO"),
    "executorch": ("executorch", "export to ExecuTorch"),
}
Quantize = Literal["fp16", "int8", "int8-static", "int4"]
Automatic = Literal["auto"]
Backend = Literal["torch", "onnx"]
Reference = Literal["source", "original"]
Want = Literal["faster", "smaller", "lossless", "any-depth"]
Budget = Literal["none", "short", "long"]
Measure = Literal["influence", "cka", "leave-one-out", "taylor", "worth"]
Route = Literal[
    "drop-last",
    "evenly-spaced",
    "best-blocks",
    "residual-prefix",
    "acn-cut-first",
    "acn-one-run",
    "acn-then-cut",
]
BASELINE: Route = "drop-last"  # the plain one
Task = Literal[
    "image-classification",
    "image-multi-label",
    "audio-classification",
    "text-classification",
    "text-multi-label",
    "text-regression",
    "token-classification",
    "question-answering",
    "masked-lm",
    "causal-lm",
    "features",
]

Measures = Annotated[tuple[Measure, ...], BeforeValidator(_words)]
Backends = Annotated[tuple[Backend, ...], BeforeValidator(_words)]
Quantizations = Annotated[tuple[Quantize, ...], BeforeValidator(_words)]
Routes = Annotated[tuple[Route, ...], BeforeValidator(_words)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Learned = Annotated[bool, BeforeValidator(lambda v: True if v == "learned" else v)]  # as in 0.1.0
Opset = Annotated[int, Field(ge=18, le=24)]
Rounds = Annotated[int, Field(ge=5)]

UNITS = {"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}  # of bytes
DATA = "digits, a folder, parquet/csv/json file(s), or a Hub data set; with :split if needed."
T = TypeVar("T", bound="Options")


class Options(BaseModel):
    """Closed and frozen: an unknown name or a value out of bounds is told before any work."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
    panel: ClassVar[str] = "Options"
    renamed: ClassVar[Mapping[str, str]] = {}
    """Old names of options, that work for one release more."""
    dropped: ClassVar[Mapping[str, str]] = {}
    """Options that are gone, and why nothing is lost; they are passed over for one release more."""

    def given(self) -> dict[str, Any]:
        """Only what was said; everything else is the default."""
        return {name: getattr(self, name) for name in sorted(self.model_fields_set)}

    def plain(self) -> dict[str, Any]:
        """All of it as plain JSON, as provenance keeps it."""
        return {name: _plain(getattr(self, name)) for name in type(self).model_fields}

    def changed(self, **fields: object) -> Self:
        """A copy with some of them changed, to values known to be good."""
        return self.model_copy(update=fields)

    def part(self, cls: type[T], **changed: object) -> T:
        """The options of `cls` among these, some of them changed."""
        own = {name: getattr(self, name) for name in cls.model_fields if hasattr(self, name)}
        return cls.model_validate(own | changed)


def _plain(value: object) -> object:
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    fingerprint = getattr(value, "_fingerprint", None)  # of a data set in memory
    return f"{type(value).__name__}:{fingerprint}" if fingerprint else type(value).__name__


# groups


class Reads(Options):
    """What a checkpoint is, where it does not say so itself."""

    panel = "Model"
    renamed = {"architecture": "config"}
    config: File | None = None
    """What a bare weight file is: a config.json (or its directory), or the name of a timm model. Of
    an ONNX file: that of its original."""


class Headed(Options):
    """The head a checkpoint is read under."""

    panel = "Model"
    task: Task | None = None
    """Read SRC under the head of this task (features: sentence embeddings). finetune trains what
    SRC lacks of it from random weights."""


class Columns(Options):
    """What is read of the data."""

    panel = "Data"
    label_column: str | None = None
    """Column that holds the labels."""
    image_column: str | None = None
    """Column that holds the images."""
    audio_column: str | None = None
    """Column that holds the clips."""
    text_column: str | None = None
    """Column that holds the text; two with a comma between for pairs."""
    max_length: Tokens | None = None
    """Longest text, in tokens."""
    workers: Workers | None = None
    """Processes that read examples ahead, of each process that trains or measures. Default: 0,
    where images take more than 4 GiB and are decoded at every use one per further processor, at
    most 8."""


class Measured(Columns):
    """How a step measures."""

    limit: Count | None = None
    """Use at most this many examples."""
    batch_size: Count = 256
    """Examples per batch."""


class Seeded(Options):
    """How a step runs."""

    panel = "Output"
    seed: Seed = 0
    """Seed of everything random."""


class Placed(Options):
    """Where a step runs."""

    panel = "Output"
    device: str = "auto"
    """cpu, cuda, cuda:1, mps, or auto. ONNX Runtime runs on the CPU."""


class Runs(Placed, Seeded):
    """How a step runs, and where."""


class Writes(Runs):
    """How a step runs and writes."""

    overwrite: bool = False
    """Replace OUT if it exists, and holds nothing that others put there."""


class Resumes(Writes):
    """How a step runs that trains and writes."""

    resume: bool = False
    """Go on from the training checkpoint an interrupted run left beside OUT."""


class Training(Options):
    """How a network is trained. Which defaults were measured: docs/method.md."""

    panel = "Training"
    epochs: Positive = 3.0
    """Passes over the training data; a fraction is allowed."""
    batch_size: Count = 64
    """Examples per batch."""
    lr: Positive | None = None
    """Peak learning rate (AdamW, cosine decay to 0); default 5e-4 for images, 1e-4 for text and
    audio, and 0.3 of that where prune or compress refitted what is left."""
    warmup: BelowOne = 0.05
    """Share of the steps with rising learning rate."""
    weight_decay: NotNegative = 0.05
    """Weight decay; not on norms, biases and alphas."""
    max_grad_norm: Positive = 1.0
    """Gradients are scaled down to this norm where theirs is larger."""
    label_smoothing: Share = 0.0
    """Label smoothing of the task loss."""
    distil_weight: NotNegative = 1.0
    """Weight of the distillation loss."""
    task_weight: NotNegative = 0.5
    """Weight of the loss on the labels."""
    temperature: Positive = 2.0
    """Temperature of distillation."""
    hidden_weight: NotNegative = 0.0
    """Weight of matching the teacher's hidden states, behind the last block and behind every block
    that was kept, token by token."""
    accumulate: Count = 1
    """Batches per optimizer step."""
    precision: Precision = "auto"
    """auto uses bfloat16 where the hardware multiplies it and the model gains."""


class Prefixes(Training):
    """How a network is trained, readouts of its prefixes included."""

    prefix_loss: NotNegative = 0.0
    """Weight of the prefix loss: each step one random depth is read out and trained too. 0 =
    off."""
    prefix_depths: Depths = ()
    """Depths read out in every step instead of a random one, for example 3,4,6."""
    checkpointing: bool = False
    """Gradient checkpointing: less memory, more time."""

    @property
    def prefixes(self) -> int:
        """Prefix readouts per step."""
        return 0 if self.prefix_loss == 0 else len(self.prefix_depths) or 1

    @model_validator(mode="after")
    def _depths_need_a_loss(self) -> Self:
        if self.prefix_depths and self.prefix_loss == 0:
            raise ValueError("has prefix_depths, but prefix_loss is 0. Set it to 1, for example")
        return self


class TrainingData(Columns):
    """What is trained and measured on."""

    eval_data: DataSet | None = None
    """Data to measure on; default: the validation or test split of the data, if it has one."""
    limit: Count | None = None
    """Train on at most this many examples."""
    eval_limit: Count | None = None
    """Measure on at most this many examples."""
    augment: Augment | None = None
    """Random crops (and flips) of training images."""
    cache_teacher: bool = False
    """Ask the teacher once for every example and keep what it answers in the cache folder of
    datasets, instead of in every epoch and run; not with augment."""

    @model_validator(mode="after")
    def _kept_of_what_stays(self) -> Self:
        if self.cache_teacher and self.augment is not None:
            raise ValueError(
                f"has both cache_teacher and augment {self.augment}, which changes every image in "
                "every epoch. Leave one of them out"
            )
        return self


class Trained(Prefixes, TrainingData, Seeded):
    """All that training needs to know: how, and on what."""

    data: DataSet | None = Field(None, description=DATA)


class Cut(Options):
    """A cut that comes before training."""

    panel = "Options"
    depth: Count | None = None
    """Cut to DEPTH blocks before training."""
    keep: Keep = "auto"
    """With depth, which blocks: the first, evenly spaced ones, the best (what is left when the
    block without which the answers change least goes, again and again), or auto: best for a cut to
    a quarter or less of a pre-norm network if choosing costs at most a tenth of the training, even
    in a post-norm one with refit, else first."""
    refit: bool | None = None
    """With depth: before training, solve the kept blocks' output layers by least squares so that
    they follow the whole network. Default: where it can be done."""

    @model_validator(mode="after")
    def _of_a_cut(self) -> Self:
        for name in ("keep", "refit"):
            value = getattr(self, name)
            if self.depth is None and value != type(self).model_fields[name].default:
                raise ValueError(f"has {name} {_plain(value)}, which needs depth")
        return self


# verbs


class Argument(NamedTuple):
    """What a verb works on, by position."""

    name: str
    help: str
    type: str = "ModelSpec"
    many: bool = False


SRC = Argument("src", "Model directory, Hub id (NAME or NAME@REVISION), or weight file.")
OUT = Argument("out", "Directory to write; it appears whole or not at all.", "PathSpec")


class Verb(Options):
    """A verb. What a step of it does to a chain is asked of the object, never of its name."""

    verb: ClassVar[str]
    arguments: ClassVar[tuple[Argument, ...]] = (SRC, OUT)
    example: ClassVar[str]
    step: ClassVar[bool] = False
    """It can be a step of a recipe."""
    writes: ClassVar[bool] = True
    """A step of it writes a model that the next step reads."""
    converts: ClassVar[bool] = False
    """A step of it changes the form."""
    interrupted: ClassVar[str] = "interrupted; nothing was written."
    """What there is to say when it is."""

    @property
    def trains(self) -> bool:
        """Whether it trains."""
        return False

    @property
    def cuts(self) -> bool:
        """Whether it makes the network shallower."""
        return False

    @property
    def prepares(self) -> bool:
        """Whether what it makes is still the original that the rest of a chain is measured
        against."""
        return False

    @property
    def distils(self) -> bool:
        """Whether a teacher takes part in its training."""
        return self.trains

    @property
    def scratch(self) -> bool:
        """Whether it trains from random weights, and SRC is a config."""
        return getattr(self, "init", "source") == "random"


class Inspect(Reads, Verb):
    """Say what a checkpoint is: family, form, size, where it comes from."""

    verb = "inspect"
    arguments = (SRC,)
    example = "acn-compress inspect my-vit"


class Convert(Cut, Reads, Headed, Trained, Resumes, Verb):
    """Convert to ACN form: walk alpha from 1 to 0 while distilling from the unchanged source."""

    verb = "convert"
    example = "acn-compress convert my-vit acn --data digits --epochs 8 --prefix-loss 1"
    step = True
    converts = True
    renamed = {"alpha": "learned"}
    data: DataSet = Field(description=DATA)
    alpha_end: Share = 0.0
    """Alpha at the end: 0 is the ACN, between 0 and 1 a hybrid."""
    learned: Learned = False
    """Train alpha per layer from alpha_end on, once the walk is done, and store what it became."""
    pull: NotNegative = 0.0
    """Let alpha find its own way down instead, per layer: this much loss is added per unit of mean
    alpha, for example 0.1. 0 = the fixed walk to alpha_end."""
    layer: LayerKind = "block"
    """What one layer is: a block, each of its branches, or the paper's plain block."""
    anneal: Share = 0.5
    """Share of the steps in which alpha walks from 1 to alpha_end."""
    init: Init = "source"
    """random trains the form from scratch; SRC is then a config."""
    teacher: Model | None = None
    """Model to distil from; default: SRC itself."""

    @property
    def trains(self) -> bool:
        """Always."""
        return True

    @property
    def cuts(self) -> bool:
        """With depth."""
        return self.depth is not None

    @model_validator(mode="after")
    def _one_way_down(self) -> Self:
        if self.pull and self.learned:
            raise ValueError(
                "has both pull and learned. A pull trains alpha from the start; learned trains it "
                "after a fixed walk"
            )
        return self


class Finetune(Cut, Reads, Headed, Trained, Resumes, Verb):
    """Train a model in the form it has: recover after cutting, or train from scratch."""

    verb = "finetune"
    example = "acn-compress finetune my-vit half --data digits --depth 3 --teacher my-vit"
    step = True
    data: DataSet = Field(description=DATA)
    teacher: Model | None = None
    """Model to distil from; default: none, the labels alone teach."""
    init: Init = "source"
    """random trains from scratch; SRC is then a config."""
    alpha: Share | None = None
    """With init random: the form to train, 0 = ACN; default residual."""
    layer: LayerKind = "block"
    """With alpha: what one layer is."""
    keep: Keep = "first"
    """With depth, which blocks: first (the plain baseline), even, best, or auto, as in convert."""
    refit: bool | None = False
    """With depth: before training, solve the kept blocks' output layers by least squares so that
    they follow the whole network, as convert does."""

    @property
    def trains(self) -> bool:
        """Always."""
        return True

    @property
    def cuts(self) -> bool:
        """With depth."""
        return self.depth is not None

    @property
    def prepares(self) -> bool:
        """Without a cut."""
        return not self.cuts

    @property
    def distils(self) -> bool:
        """With a teacher."""
        return self.teacher is not None

    @model_validator(mode="after")
    def _alpha_from_scratch(self) -> Self:
        if self.alpha is not None and self.init != "random":
            raise ValueError(
                "has alpha, which can only be set with init random; to change the form of a "
                "trained "
                "model use convert"
            )
        return self


class Evaluate(Reads, Measured, Runs, Verb):
    """Measure quality with a 95 % interval, alone or paired against another model."""

    verb = "evaluate"
    arguments = (SRC,)
    example = "acn-compress evaluate small --data digits --against my-vit --noise gaussian:0.2"
    data: DataSet = Field(description=DATA)
    against: Model | None = None
    """Another model, measured on the same examples; the drop is paired. Default: the original of
    its chain, where that is on this machine as it was."""
    noise: str | None = None
    """gaussian:SD or salt-pepper:SHARE, on images in 0..1."""
    exit_entropy: float | None = None
    """Early exit too: leave at the first depth whose readout has at most this entropy, in nats (0
    is certainty), for example 0.7."""


class Profile(Measured, Runs, Verb):
    """Measure quality at every depth and what every block adds, in one pass; adds profile.json and
    a plot to SRC."""

    verb = "profile"
    arguments = (SRC,)
    example = "acn-compress profile acn --data digits --max-drop 0.02"
    step = True
    writes = False
    renamed = {"measure": "measures"}
    data: DataSet = Field(description=DATA)
    max_drop: NotNegative = 0.01
    """Tolerance of the cutoff, against all blocks of SRC (never the original of its chain), in the
    metric's own units: 0.01 = one point of accuracy."""
    bound: Bound = "upper"
    """What must pass: the upper end of the paired 95 % interval, or the measured drop (point)."""
    measures: Measures = ()
    """More measures, comma separated: influence, cka, leave-one-out, taylor; worth: what compress
    weighs, the rise of the loss without a block, and without all of its heads or features."""
    to: File | None = None
    """Directory for profile.json and profile.png instead of SRC."""


class Truncate(Reads, Measured, Writes, Verb):
    """Cut the deep blocks off, physically; exact, and checked. With keep best, others go, and a
    refit makes up for them."""

    verb = "truncate"
    example = "acn-compress truncate acn cut --max-drop 0.02 --data digits"
    step = True
    renamed = {"refit": "refit_data"}
    dropped = {"tail_only": "the last blocks are cut unless keep says otherwise"}
    depth: Count | None = None
    """Keep DEPTH blocks, the first ones unless keep says otherwise."""
    keep: Stay = "first"
    """With depth and refit_data, best: not the first blocks, but what is left when the block that
    the others make up for best goes, again and again."""
    max_drop: NotNegative | None = None
    """Or: the smallest depth whose drop is at most this, in the metric's own units."""
    against: Reference | None = None
    """With max_drop, what the drop is from: original, what the first step of the chain began with,
    or source, all blocks of SRC. Default: the original where it is on this machine as it was (or in
    the profile), else SRC."""
    data: DataSet | None = Field(None, description=DATA)
    bound: Bound = "upper"
    """What must pass: the upper end of the paired 95 % interval, or the measured drop (point)."""
    refit_data: DataSet | None = None
    """Afterwards, without training: solve the output layers that come before the cut by least
    squares on this data (its training split), so that the cut network follows the whole one."""
    profile: File | None = None
    """A profile.json that does not lie in SRC."""

    @property
    def cuts(self) -> bool:
        """Always."""
        return True

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if self.depth is not None and self.max_drop is not None:
            raise ValueError("needs either depth or max_drop, not both")
        if self.depth is None and self.max_drop is None:
            raise ValueError("needs depth or max_drop")
        for name in ("against", "bound", "profile"):
            value = getattr(self, name)
            if self.max_drop is None and value != type(self).model_fields[name].default:
                raise ValueError(f"has {name} {value}, which needs max_drop")
        if self.profile is not None and self.data is not None:
            raise ValueError("has both profile and data. Either is what the depth is chosen by")
        if self.keep == "best" and (self.depth is None or self.refit_data is None):
            raise ValueError("has keep best, which needs depth and refit_data")
        return self


def asked(method: str, share: float | None, pattern: Pattern | None) -> float:
    """The share that pruning is asked for.

    Raises:
        ValueError: if there is none, or a pattern that contradicts it or the method.
    """
    if pattern is None:
        if share is None:
            raise ValueError("needs target_sparsity, or a pattern")
        return share
    if method not in KEEPS_PATTERNS:
        raise ValueError(
            f"has pattern {pattern}, which method {method} does not make. Choose "
            f"{' or '.join(sorted(KEEPS_PATTERNS))}, or leave the pattern out"
        )
    kept, of = kept_of(pattern)
    if share not in (None, 1 - kept / of):
        raise ValueError(
            f"has target_sparsity {share:g}, but pattern {pattern} makes {1 - kept / of:g}. Leave "
            "one of them out"
        )
    return 1 - kept / of


def kept_of(pattern: Pattern) -> tuple[int, int]:
    """How many weights of a pattern stay, of how many."""
    kept, of = map(int, pattern.split(":"))
    return kept, of


class Prune(Reads, Trained, Resumes, Verb):
    """Remove heads and MLP features (structured) or set weights to zero (magnitude, obs, movement);
    recover with data and epochs."""

    verb = "prune"
    example = "acn-compress prune cut small --target-sparsity 0.3 --data digits --epochs 3"
    step = True
    target_sparsity: BelowOne | None = None
    """Share in 0..1. structured: of the parameters of attention heads and MLP features of the
    blocks, removed. Others: of the weights in the weight matrices of the blocks, set to zero; a
    pattern says it itself."""
    method: Method = "structured"
    """structured is smaller and faster; the others only set zeros: magnitude the smallest weights;
    obs those that are missed least, and lets the others make up for them (looks at some of the
    data, or at random inputs); movement those that training moves towards zero, while it trains
    (needs data and epochs)."""
    pattern: Pattern | None = None
    """magnitude, obs: of 4 (or 8) weights of an output beside each other 2 (or 4) become zero, in
    every matrix."""
    scope: Scope = "global"
    """One ranking over all blocks, or the same share in each layer, which is the default of obs."""
    score: Score = "obs"
    """structured, by what units are ranked: obs, what the loss rises by when a unit goes and the
    others make up for it; fisher and taylor, without the others; activation, the energy they hand
    on (needs data); magnitude of their weights. The first three look at some of the data, or at
    random inputs."""
    uniform: bool = False
    """structured: every block keeps the same number of heads and of MLP features, its own by the
    score, so that plain transformers loads the result where its config can say such widths; those
    it cannot say (fewer heads of BERT or GPT-2) are left alone if the share is reached without."""
    round_to: Count = 1
    """structured: keep multiples of this many features in every MLP and attention, for example
    8."""
    vocabulary: DataSet | None = None
    """Cut tokens that these texts (their training split) never use from tokenizer, embedding and
    head; alone or before heads and features. Special tokens, single characters and bytes stay, so
    that any other text is still read, in smaller pieces."""
    min_count: Count = 1
    """With vocabulary: tokens that occur fewer times go."""
    refit: bool = True
    """structured, afterwards: solve the layers that write into the stream so that they make up for
    what went, on some of the data, or on random inputs."""
    data: DataSet | None = Field(None, description=DATA)
    epochs: NotNegative = 0.0
    """Training after pruning (movement: while pruning), distilling from SRC; 0 = none, data is then
    only measured on."""

    @property
    def trains(self) -> bool:
        """With epochs."""
        return self.epochs > 0

    @property
    def share(self) -> float:
        """What is asked for: the target_sparsity, or what the pattern makes; 0 where only a
        vocabulary is cut."""
        if self.only_vocabulary:
            return 0.0
        return asked(self.method, self.target_sparsity, self.pattern)

    @property
    def only_vocabulary(self) -> bool:
        """Whether heads, features and weights are left alone."""
        return self.vocabulary is not None and self.target_sparsity is None and self.pattern is None

    @model_validator(mode="before")
    @classmethod
    def _scope_of_the_method(cls, said: Any) -> Any:
        usual = USUAL_SCOPES.get(str(said.get("method"))) if isinstance(said, dict) else None
        return {"scope": usual, **said} if usual else said

    @model_validator(mode="after")
    def _one_share(self) -> Self:
        if not self.only_vocabulary:
            asked(self.method, self.target_sparsity, self.pattern)
        if self.vocabulary is None and self.min_count > 1:
            raise ValueError("has min_count, but no vocabulary to count in")
        return self

    @model_validator(mode="after")
    def _widths_of_structured(self) -> Self:
        for name, said in (("uniform", self.uniform), ("round_to", self.round_to > 1)):
            if said and self.method != "structured":
                raise ValueError(f"has {name}, but method {self.method} removes no widths")
        if self.uniform and self.scope == "layer":
            raise ValueError(
                "has both uniform and scope layer, which removes the same share of heads and of "
                "features and so makes widths alike by itself. Leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _training_needs_data(self) -> Self:
        counted = set() if self.vocabulary is None else Columns.model_fields.keys()
        for name in Trained.model_fields.keys() - Seeded.model_fields.keys() - counted:
            value = getattr(self, name)
            if self.data is None and value != type(self).model_fields[name].default:
                shown = f"{value:g}" if isinstance(value, float) else value
                raise ValueError(f"has {name} {shown}, but no data to train on")
        return self


class Export(Reads, Columns, Writes, Verb):
    """Export, and compare the result with the source; on a mismatch nothing is left behind."""

    verb = "export"
    example = "acn-compress export small onnx"
    step = True
    writes = False
    format: Format = "onnx"
    """onnx; openvino (.xml and .bin; needs the openvino extra); torch-export (a .pt2, which torch
    loads by itself); executorch (a .pte, for telephones; needs the executorch extra); or
    safetensors: the compact model directory itself."""
    opset: Opset = 20
    """ONNX operator set."""
    tolerance: Positive = 1e-4
    """Largest difference to torch that is let through, over max(1, largest output)."""
    quantize: Quantizations = ()
    """More files beside the float one, in fewer bits, comma separated: fp16; int8 (activations on
    the fly); int8-static (calibrated on rows of the data that are not measured); int4 (weights).
    Each is judged by what changes in the answers."""
    data: DataSet | None = None
    """Measure every file on it beside the source: quality, paired drop, time; default: files in
    fewer bits are judged on random inputs."""
    limit: Count | None = None
    """Measure on at most this many examples."""
    max_drop: NotNegative | None = None
    """With quantize and data: a file in fewer bits may lose at most this against SRC (not the
    original of its chain), in the metric's own units, however much its scores change."""
    bound: Bound = "upper"
    """With max_drop, what must pass: the upper end of the paired 95 % interval, or the measured
    drop (point)."""
    exit_entropy: float | None = None
    """Early exit in the file: leave at the first depth whose readout has at most this entropy, in
    nats (0 is certainty), for example 0.7."""

    @model_validator(mode="after")
    def _data_to_look_at(self) -> Self:
        if self.data is None and "int8-static" in self.quantize:
            raise ValueError("has quantize int8-static, but no data to calibrate it on")
        if self.max_drop is not None and (self.data is None or not self.quantize):
            raise ValueError("has max_drop, which needs quantize and data")
        return self


class Benchmark(Placed, Verb):
    """Seconds and bytes side by side: interleaved, median and spread; a difference under the noise
    is called none."""

    verb = "benchmark"
    arguments = (
        Argument(
            "sources", "Model directories or .onnx files; ratios are to the first.", many=True
        ),
    )
    example = "acn-compress benchmark my-vit onnx"
    renamed = {"backend": "backends", "warmup": "warmup_rounds"}
    batch_size: Count = 1
    """Examples per call."""
    threads: Count = 1
    """Threads of torch and ONNX Runtime."""
    repeats: Rounds = 30
    """Rounds; in each every variant runs once."""
    warmup_rounds: Count = 3
    """Rounds before the first that counts."""
    length: Tokens = 128
    """Tokens per text."""
    backends: Annotated[Backends, Field(min_length=1)] = ("torch", "onnx")
    """What to run in, comma separated: torch, onnx."""


class Compare(Reads, Training, TrainingData, Runs, Verb):
    """Every way to a smaller depth at the same training budget: drop-last, evenly spaced, best
    blocks, prefix readouts, ACN."""

    verb = "compare"
    arguments = (SRC,)
    example = "acn-compress compare my-vit --data digits --depths 2,4 --epochs 2 --out routes"
    data: DataSet = Field(description=DATA)
    depths: Annotated[Depths, Field(min_length=1)]
    """Depths to compare at, for example 3,4,6."""
    out: File = "comparison"
    """Directory for report.html, compare.json, compare.png and README.md."""
    epochs: Positive = 3.0
    """The budget: what this many epochs of the whole network cost."""
    seeds: Count = 2
    """Runs of every route."""
    routes: Routes | None = None
    """Which routes, comma separated; default all."""
    noise: str | None = None
    """Also measure under this noise, for example gaussian:0.2."""
    alpha_end: Share | None = None
    """Alpha at the end of the ACN routes: 0 is the ACN, between 0 and 1 a hybrid. Default: alpha
    finds its own way."""
    pull: NotNegative = 0.1
    """Without alpha_end: with which alpha goes down in the ACN routes, as in convert."""
    winners: bool = False
    """Write the winner at every depth as a model directory, OUT/depth-K: the route that is ahead of
    drop-last beyond its interval by most, or else drop-last. Its first run is gone once more; with
    finished runs that is all that is trained."""
    overwrite: bool = False
    """Run again what is finished."""

    @model_validator(mode="after")
    def _winners_of_some(self) -> Self:
        if self.winners and self.routes is not None and BASELINE not in self.routes:
            raise ValueError(
                f"has winners, but routes without {BASELINE}, which they are told from. Add it"
            )
        return self


class Compress(Reads, Trained, Resumes, Verb):
    """The best model under a budget: search blocks, heads and features, measure candidates, take
    the one that keeps the limits, train it back if asked, export and verify it."""

    verb = "compress"
    example = "acn-compress compress my-vit small --data digits --speedup 2"
    step = True
    max_drop: NotNegative | None = None
    """Lose at most this, in the metric's own units: 0.01 = one point of accuracy. Alone it asks for
    the fastest model that keeps it."""
    bound: Bound = "upper"
    """With max_drop, what must pass: the upper end of the paired 95 % interval, or the measured
    drop (point)."""
    against: Reference | None = None
    """With max_drop, what the drop is from: original, what the first step of the chain began with,
    or source, SRC. Default: the original where it is on this machine as it was, else SRC."""
    speedup: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None = None
    """Be so many times as fast as SRC, on this machine."""
    max_latency_ms: Positive | None = None
    """Take at most so many milliseconds per call, on this machine."""
    target_params: Positive | None = None
    """Have at most this share of SRC's parameters (up to 1), or this number of them."""
    target_size: Size | None = None
    """Write an ONNX file of at most this size, for example 20MB."""
    data: DataSet = Field(description=DATA)
    epochs: NotNegative = 0.0
    """Training of the chosen candidate, distilling from SRC; 0 = none, minutes."""
    convert: bool = False
    """With epochs: train it into ACN form as well, and keep what does better on the rows that
    decide."""
    quantize: Automatic | None = None
    """auto: int8 takes part: where time or the size of a file is limited, candidates are measured
    in int8 too and the better one is taken; otherwise an int8 file is kept beside the float one if
    it loses no more than it may."""
    backend: Backend = "onnx"
    """What time is measured in: onnx or torch."""
    threads: Count = 1
    """Threads of a timed call."""
    calls: Count = 1
    """Examples per timed call."""
    length: Tokens = 128
    """Tokens per text of a timed call."""

    @property
    def trains(self) -> bool:
        """With epochs."""
        return self.epochs > 0

    @property
    def timed(self) -> bool:
        """A time is limited."""
        return self.speedup is not None or self.max_latency_ms is not None

    @property
    def sized(self) -> bool:
        """A size is limited."""
        return self.target_params is not None or self.target_size is not None

    @property
    def chooses_precision(self) -> bool:
        """int8 is searched: it does not make parameters fewer."""
        only_parameters = self.target_size is None and self.sized and not self.timed
        return self.quantize is not None and not only_parameters

    @model_validator(mode="after")
    def _some_limit(self) -> Self:
        limits = ("max_drop", "speedup", "max_latency_ms", "target_params", "target_size")
        if all(getattr(self, name) is None for name in limits):
            raise ValueError(f"needs a limit: one or several of {', '.join(limits)}")
        if self.against == "original" and self.max_drop is None:
            raise ValueError("has against original, which needs max_drop")
        if self.speedup is not None and self.max_latency_ms is not None:
            raise ValueError("has both speedup and max_latency_ms. Leave one of them out")
        if self.convert and not self.trains:
            raise ValueError("has convert, but no epochs to train in")
        if self.quantize is not None and self.backend != "onnx":
            raise ValueError(f"has quantize, but {self.backend} runs no int8. Use backend onnx")
        return self


RECIPE = Argument(
    "recipe",
    "A YAML file, or the name of a packaged recipe, such as quickstart.",
    "str | Path | Recipe",
)


class Run(Placed, Verb):
    """Run a recipe: one folder per step, finished steps are reused, a table with the plain baseline
    at the end."""

    verb = "run"
    arguments = (RECIPE,)
    example = "acn-compress run quickstart"
    interrupted = "interrupted. Finished steps stay: run the same command again to go on."
    out: File | None = None
    """Directory for the steps; default runs/NAME."""
    source: Model | None = None
    """Checkpoint to use instead of the recipe's."""
    data: DataSet | None = None
    """Data to use instead of the recipe's."""
    seed: Seed | None = None
    """Seed to use instead of the recipe's."""
    overwrite: bool = False
    """Run every step again, also those that are finished."""
    dry_run: bool = False
    """Do nothing: say what every step would take and make, and what is missing, then exit with 1 if
    something is."""


class Validate(Verb):
    """Check a recipe: every fault at once, with its place in the file."""

    verb = "validate"
    arguments = (RECIPE,)
    example = "acn-compress validate recipe.yaml"


class Push(Verb):
    """Upload a directory that a step wrote to the Hugging Face Hub, with its card; private unless
    asked otherwise."""

    verb = "push"
    arguments = (
        Argument("src", "Directory that a step wrote.", "PathSpec"),
        Argument("name", "Repository on the Hub: OWNER/NAME, or NAME of your own.", "str"),
    )
    example = "acn-compress push small my-name/small"
    writes = False
    public: bool = False
    """Make a new repository public; one that is there stays as it is."""


AT_ODDS = {("want", "any-depth"), ("budget", "none")}  # answers that do not go together


class Begin(Verb):
    """Write a recipe: asks four questions (or takes their answers as options)."""

    verb = "init"
    arguments = ()
    example = "acn-compress init --model my-vit --data digits --want faster --budget none"
    writes = False
    model: str | None = None
    """The trained checkpoint: model directory, Hub id or weight file."""
    data: str | None = None
    """To look at and to measure on: digits, a folder, files, or a Hub data set."""
    want: Want | None = None
    """faster: half the time per call; smaller: half the parameters; lossless: as fast as it gets
    within one point of the quality; any-depth: one network of which any number of blocks can be
    kept (ACN form)."""
    budget: Budget | None = None
    """Of training: none (minutes, nothing is trained), short (one epoch), long (ten epochs)."""
    out: File = "recipe.yaml"
    """The file to write."""
    overwrite: bool = False
    """Replace the file if it exists."""

    @model_validator(mode="after")
    def _answered(self) -> Self:
        if {("want", self.want), ("budget", self.budget)} >= AT_ODDS:
            raise ValueError("has want any-depth, which trains. Choose budget short or long")
        asked = ("model", "data", "want", "budget")
        if missing := [name for name in asked if getattr(self, name) is None]:
            one_of = {name: f" ({', '.join(c)})" for name in missing if (c := self.choices(name))}
            told = ", ".join(name + one_of.get(name, "") for name in missing)
            raise ValueError(f"needs {told}")
        return self

    @classmethod
    def choices(cls, name: str, given: Mapping[str, object] | None = None) -> list[str]:
        """What an option can be, where that is one of a few and goes with what is given."""
        kinds, others = get_args(cls.model_fields[name].annotation), (given or {}).items()
        found = [choice for kind in kinds for choice in get_args(kind)]
        return [choice for choice in found if not {*others, (name, choice)} >= AT_ODDS]


class Doctor(Verb):
    """Check this machine: versions, threads, extras, memory and disk, and that a small network
    exported to ONNX says what torch says."""

    verb = "doctor"
    arguments = ()
    example = "acn-compress doctor"
    writes = False


VERBS: dict[str, type[Verb]] = {
    cls.verb: cls
    for cls in (
        Inspect,
        Convert,
        Finetune,
        Evaluate,
        Profile,
        Truncate,
        Prune,
        Compress,
        Export,
        Benchmark,
        Compare,
        Run,
        Validate,
        Push,
        Begin,
        Doctor,
    )
}
STEPS = {name: cls for name, cls in VERBS.items() if cls.step}
