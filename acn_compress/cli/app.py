"""The command line: a thin shell over the functions of the same names. Heavy imports happen inside
commands.

Exit codes: 0 done, 1 a fault of the input (one line on stderr), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, Literal

import typer

from acn_compress import __version__, compat
from acn_compress.errors import AcnError, ConfigError
from acn_compress.training import interrupt

app = typer.Typer(
    help="Trained transformer checkpoint in, smaller, faster, verified model out (Auto-Compressing Networks).",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


Layer = Literal["block", "branch", "plain"]
Bound = Literal["upper", "point"]
Method = Literal["structured", "magnitude", "movement"]
Scope = Literal["global", "layer"]
Format = Literal["onnx", "safetensors"]
Keep = Literal["first", "even", "best", "auto"]
Precision = Literal["auto", "fp32", "bf16"]
Augment = Literal["crop", "flip-crop"]
Init = Literal["source", "random"]

SRC = Annotated[
    str,
    typer.Argument(
        metavar="SRC",
        help="Model directory, Hub id (NAME or NAME@REVISION), or weight file (with --config).",
    ),
]
OUT = Annotated[
    str, typer.Argument(metavar="OUT", help="Directory to write; it appears whole or not at all.")
]
DATA = Annotated[
    str,
    typer.Option(
        "--data",
        help="digits, a folder, parquet/csv/json file(s), or a Hub data set; with :split if needed.",
    ),
]
MAYBE_DATA = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="digits, a folder, parquet/csv/json file(s), or a Hub data set; with :split if needed.",
    ),
]
EVAL_DATA = Annotated[
    str | None,
    typer.Option(
        help="Data to measure on; default: the validation or test split of --data, if it has one."
    ),
]
CONFIG = Annotated[
    str | None,
    typer.Option(
        "--config",
        "--architecture",
        help="What a bare weight file is: a config.json (or its directory), or the name of a timm model.",
    ),
]
LABEL = Annotated[str | None, typer.Option(help="Column that holds the labels.")]
IMAGE = Annotated[str | None, typer.Option(help="Column that holds the images.")]
TEXT = Annotated[
    str | None, typer.Option(help="Column that holds the text; two with a comma between for pairs.")
]
LIMIT = Annotated[int | None, typer.Option(min=1, help="Use at most this many examples.")]
EVAL_LIMIT = Annotated[
    int | None, typer.Option(min=1, help="Measure on at most this many examples.")
]
MAX_LENGTH = Annotated[int | None, typer.Option(min=2, help="Longest text, in tokens.")]
JSON = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")
]
SEED = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]
DEVICE = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, or auto.")]
OVERWRITE = Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")]
ANY_SEED = Annotated[int, typer.Option("--seed", min=0, hidden=True)]
ANY_DEVICE = Annotated[str, typer.Option("--device", hidden=True)]
ANY_OVERWRITE = Annotated[bool, typer.Option("--overwrite", hidden=True)]
RESUME = Annotated[
    bool,
    typer.Option(
        "--resume", help="Go on from the training checkpoint an interrupted run left beside OUT."
    ),
]
BATCH = Annotated[int, typer.Option(min=1, help="Examples per batch.")]
EPOCHS = Annotated[
    float, typer.Option(help="Passes over the training data; a fraction is allowed.")
]
LR = Annotated[
    float | None, typer.Option(help="Peak learning rate; default 5e-4 for images, 1e-4 for text.")
]
WARMUP = Annotated[float, typer.Option(help="Share of the steps with rising learning rate.")]
DECAY = Annotated[float, typer.Option(help="Weight decay.")]
SMOOTHING = Annotated[float, typer.Option(help="Label smoothing of the task loss.")]
DISTIL = Annotated[float, typer.Option(help="Weight of the distillation loss.")]
TASK_WEIGHT = Annotated[float, typer.Option(help="Weight of the loss on the labels.")]
TEMPERATURE = Annotated[float, typer.Option(help="Temperature of distillation.")]
HIDDEN = Annotated[
    float,
    typer.Option(
        help="Weight of matching the teacher's hidden states, behind the last block and behind every block that was kept, token by token."
    ),
]
PREFIX = Annotated[
    float,
    typer.Option(
        help="Weight of the prefix loss: each step one random depth is read out and trained too. 0 = off."
    ),
]
PREFIX_DEPTHS = Annotated[
    str | None,
    typer.Option(help="Depths read out in every step instead of a random one, for example 3,4,6."),
]
ACCUMULATE = Annotated[int, typer.Option(min=1, help="Batches per optimizer step.")]
PRECISION = Annotated[
    Precision,
    typer.Option(help="auto uses bfloat16 where the hardware multiplies it and the model gains."),
]
CHECKPOINTING = Annotated[
    bool, typer.Option("--checkpointing", help="Gradient checkpointing: less memory, more time.")
]
AUGMENT = Annotated[
    Augment | None, typer.Option(help="Random crops (and flips) of training images.")
]
TASK = Annotated[
    str | None,
    typer.Option(
        help=(
            "Read SRC under the head of this task: text-classification, text-regression, token-classification, question-answering, masked-lm, "
            "causal-lm, features (sentence embeddings) or image-classification. finetune trains what SRC lacks of it from random weights."
        )
    ),
]
EXIT = Annotated[
    float | None,
    typer.Option(
        help=(
            "Early exit: leave at the first depth whose readout has at most this entropy, in nats (0 is certainty), for example 0.7."
        )
    ),
]
KEEP = Annotated[
    Keep,
    typer.Option(
        help=(
            "With --depth: the first blocks, evenly spaced ones, the best (what is left when the block without which the answers change least goes, again and "
            "again), or auto: best for a cut to a quarter or less of a pre-norm network if choosing costs at most a tenth of the training, even in a post-norm one "
            "with --refit, else first."
        )
    ),
]
REFIT = Annotated[
    bool | None,
    typer.Option(
        "--refit/--no-refit",
        help=(
            "With --depth: before training, solve the kept blocks' output layers by least squares so that they follow the whole network. convert does it by default."
        ),
    ),
]
TEACHER = Annotated[str | None, typer.Option(help="Model to distil from.")]


def command(run: Callable[..., dict[str, Any]]) -> Callable[..., None]:
    """Make a function that returns a report a command: errors in one line, JSON or tables, exit
    codes."""

    @wraps(run)
    def wrapper(*args: Any, json_: bool = False, **kwargs: Any) -> None:
        try:
            report = run(*args, **{name: value for name, value in kwargs.items() if name in own})
        except AcnError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(error.exit_code) from None
        except ModuleNotFoundError as error:  # transformers' for whatever it could not import
            if (advice := compat.broken_torchvision(error)) is None:
                raise
            typer.echo(f"error: {advice}", err=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt as stopped:
            typer.echo("error: interrupted; nothing was written.", err=True)
            raise typer.Exit(interrupt.exit_code(interrupt.number_of(stopped))) from None
        if json_:
            typer.echo(json.dumps(report))
        else:
            from acn_compress.cli import show as console

            console.show(report)

    own, signature = _signatures(run)
    wrapper.__signature__ = signature  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    return app.command(name=run.__name__.rstrip("_"))(wrapper)


def _signatures(run: Callable[..., Any]) -> tuple[set[str], Any]:
    """The parameters of a command's function, and the signature of the command: every command takes
    --json, --seed, --device and
    --overwrite, so that scripts may pass the same options to all; where one has no meaning it is
        not shown."""
    import inspect

    signature = inspect.signature(run, eval_str=True)
    parameters = list(signature.parameters.values())
    for name, default, annotation in (
        ("seed", 0, ANY_SEED),
        ("device", "auto", ANY_DEVICE),
        ("overwrite", False, ANY_OVERWRITE),
    ):
        if name not in signature.parameters:
            parameters.append(
                inspect.Parameter(
                    name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
                )
            )
    parameters.append(
        inspect.Parameter("json_", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=JSON)
    )
    return set(signature.parameters), signature.replace(
        parameters=parameters, return_annotation=None
    )


def _device(name: str) -> str:
    """Check a device name before any work."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device '{name}' cannot be used here ({str(error).splitlines()[0][:120]}). Use cpu or auto."
        ) from None
    return name


def _columns(label: str | None, image: str | None, text: str | None) -> Any:
    from acn_compress.data.load import Columns

    return Columns(label=label, image=image, text=text)


def _job(data: str, options: dict[str, Any]) -> Any:
    """The training options of a command, as every training command has them."""
    from acn_compress.training.job import Training, as_job

    columns = _columns(options["label_column"], options["image_column"], options["text_column"])
    known = {
        k: v
        for k, v in options.items()
        if k in Training.__annotations__ and k not in {"columns", "prefix_depths"}
    }
    if (given := options.get("prefix_depths")) is not None:
        known["prefix_depths"] = _numbers("prefix_depths", given)
    return as_job(data, {**known, "columns": columns})  # type: ignore[typeddict-item]


def _numbers(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(d) for d in text.split(","))
    except ValueError:
        raise ConfigError(
            f"{name} is '{text}', expected whole numbers with commas, for example 3,4,6."
        ) from None


def _progress() -> Any:
    from acn_compress.cli import show as console

    return console.training_progress()


@command
def inspect(src: SRC, config: CONFIG = None) -> dict[str, Any]:
    """Say what a checkpoint is: family, form, size, where it comes from."""
    from acn_compress.steps.inspect import inspect as step

    return step(src, config=config)


@command
def convert(
    src: SRC,
    out: OUT,
    data: DATA,
    alpha_end: Annotated[
        float, typer.Option(help="Alpha at the end: 0 is the ACN, between 0 and 1 a hybrid.")
    ] = 0.0,
    alpha: Annotated[
        str | None,
        typer.Option(
            help="'learned' trains alpha per layer from --alpha-end on, once the walk is done."
        ),
    ] = None,
    pull: Annotated[
        float,
        typer.Option(
            help="Let alpha find its own way down instead, per layer: this much loss is added per unit of mean alpha, for example 0.1."
        ),
    ] = 0.0,
    layer: Annotated[Layer, typer.Option(help="What one layer is.")] = "block",
    anneal: Annotated[
        float, typer.Option(help="Share of the steps in which alpha walks from 1 to --alpha-end.")
    ] = 0.5,
    depth: Annotated[
        int | None, typer.Option(min=1, help="Cut to DEPTH blocks before training.")
    ] = None,
    keep: KEEP = "auto",
    refit: REFIT = None,
    init: Annotated[
        Init, typer.Option(help="random trains the form from scratch; SRC is then a config.")
    ] = "source",
    task: TASK = None,
    teacher: TEACHER = None,
    eval_data: EVAL_DATA = None,
    epochs: EPOCHS = 3.0,
    batch_size: BATCH = 64,
    lr: LR = None,
    warmup: WARMUP = 0.05,
    weight_decay: DECAY = 0.05,
    label_smoothing: SMOOTHING = 0.0,
    distil_weight: DISTIL = 1.0,
    task_weight: TASK_WEIGHT = 0.5,
    temperature: TEMPERATURE = 2.0,
    hidden_weight: HIDDEN = 0.0,
    prefix_loss: PREFIX = 0.0,
    prefix_depths: PREFIX_DEPTHS = None,
    accumulate: ACCUMULATE = 1,
    precision: PRECISION = "auto",
    checkpointing: CHECKPOINTING = False,
    augment: AUGMENT = None,
    limit: LIMIT = None,
    eval_limit: EVAL_LIMIT = None,
    max_length: MAX_LENGTH = None,
    label_column: LABEL = None,
    image_column: IMAGE = None,
    text_column: TEXT = None,
    config: CONFIG = None,
    seed: SEED = 0,
    device: DEVICE = "auto",
    resume: RESUME = False,
    overwrite: OVERWRITE = False,
) -> dict[str, Any]:
    """Convert to ACN form: walk alpha from 1 to 0 while distilling from the unchanged source."""
    options = locals()
    if alpha not in {None, "learned"}:
        raise ConfigError(
            f"alpha is '{alpha}', expected 'learned'. For a fixed end of the walk use --alpha-end."
        )
    common = {
        "device": _device(device),
        "resume": resume,
        "overwrite": overwrite,
        "progress": _progress(),
    }
    if init == "random":
        from acn_compress.steps.finetune import finetune as scratch

        return scratch(
            src,
            out,
            _job(data, options),
            teacher=teacher,
            init="random",
            alpha=alpha_end,
            layer=layer,
            task=task,
            **common,
        )
    from acn_compress.steps.convert import convert as step

    return step(
        src,
        out,
        _job(data, options),
        alpha_end=alpha_end,
        layer=layer,
        learned=alpha == "learned",
        pull=pull,
        anneal=anneal,
        depth=depth,
        keep=keep,
        refit=refit,
        task=task,
        teacher=teacher,
        config=config,
        **common,
    )


@command
def finetune(
    src: SRC,
    out: OUT,
    data: DATA,
    teacher: TEACHER = None,
    init: Annotated[
        Init, typer.Option(help="random trains from scratch; SRC is then a config.")
    ] = "source",
    alpha: Annotated[
        float | None,
        typer.Option(help="With --init random: the form to train, 0 = ACN; default residual."),
    ] = None,
    layer: Annotated[Layer, typer.Option(help="With --alpha: what one layer is.")] = "block",
    depth: Annotated[
        int | None,
        typer.Option(min=1, help="Cut to DEPTH blocks before training (the plain baseline)."),
    ] = None,
    keep: KEEP = "first",
    refit: REFIT = False,
    task: TASK = None,
    eval_data: EVAL_DATA = None,
    epochs: EPOCHS = 3.0,
    batch_size: BATCH = 64,
    lr: LR = None,
    warmup: WARMUP = 0.05,
    weight_decay: DECAY = 0.05,
    label_smoothing: SMOOTHING = 0.0,
    distil_weight: DISTIL = 1.0,
    task_weight: TASK_WEIGHT = 0.5,
    temperature: TEMPERATURE = 2.0,
    hidden_weight: HIDDEN = 0.0,
    prefix_loss: PREFIX = 0.0,
    prefix_depths: PREFIX_DEPTHS = None,
    accumulate: ACCUMULATE = 1,
    precision: PRECISION = "auto",
    checkpointing: CHECKPOINTING = False,
    augment: AUGMENT = None,
    limit: LIMIT = None,
    eval_limit: EVAL_LIMIT = None,
    max_length: MAX_LENGTH = None,
    label_column: LABEL = None,
    image_column: IMAGE = None,
    text_column: TEXT = None,
    config: CONFIG = None,
    seed: SEED = 0,
    device: DEVICE = "auto",
    resume: RESUME = False,
    overwrite: OVERWRITE = False,
) -> dict[str, Any]:
    """Train a model in the form it has: recover after cutting, or train from scratch."""
    options = locals()
    from acn_compress.steps.finetune import finetune as step

    return step(
        src,
        out,
        _job(data, options),
        teacher=teacher,
        init=init,
        alpha=alpha,
        layer=layer,
        task=task,
        depth=depth,
        keep=keep,
        refit=refit,
        config=config,
        device=_device(device),
        resume=resume,
        overwrite=overwrite,
        progress=_progress(),
    )


@command
def evaluate(
    src: SRC,
    data: DATA,
    against: Annotated[
        str | None,
        typer.Option(help="Another model, measured on the same examples; the drop is paired."),
    ] = None,
    noise: Annotated[
        str | None, typer.Option(help="gaussian:SD or salt-pepper:SHARE, on images in 0..1.")
    ] = None,
    exit_entropy: EXIT = None,
    limit: LIMIT = None,
    max_length: MAX_LENGTH = None,
    label_column: LABEL = None,
    image_column: IMAGE = None,
    text_column: TEXT = None,
    batch_size: BATCH = 256,
    config: CONFIG = None,
    seed: SEED = 0,
    device: DEVICE = "auto",
) -> dict[str, Any]:
    """Measure quality with a 95 % interval, alone or paired against another model."""
    from acn_compress.steps.evaluate import evaluate as step

    columns = _columns(label_column, image_column, text_column)
    return step(
        src,
        data=data,
        against=against,
        noise=noise,
        exit_entropy=exit_entropy,
        columns=columns,
        limit=limit,
        max_length=max_length,
        batch_size=batch_size,
        seed=seed,
        config=config,
        device=_device(device),
    )


@command
def profile(
    src: SRC,
    data: DATA,
    max_drop: Annotated[
        float,
        typer.Option(
            help="Tolerance of the cutoff, in the metric's own units: 0.01 = one point of accuracy."
        ),
    ] = 0.01,
    bound: Annotated[
        Bound,
        typer.Option(
            help="What must pass: the upper end of the paired 95 % interval, or the measured drop."
        ),
    ] = "upper",
    measure: Annotated[
        list[str] | None,
        typer.Option(help="More measures: influence, cka, leave-one-out, taylor. May be repeated."),
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="Directory for profile.json and profile.png instead of SRC.")
    ] = None,
    limit: LIMIT = None,
    max_length: MAX_LENGTH = None,
    label_column: LABEL = None,
    image_column: IMAGE = None,
    text_column: TEXT = None,
    batch_size: BATCH = 256,
    seed: SEED = 0,
    device: DEVICE = "auto",
) -> dict[str, Any]:
    """Measure quality at every depth and what every block adds, in one pass; adds profile.json and
    a plot to SRC."""
    from acn_compress.steps.profile import profile as step

    return step(
        src,
        data=data,
        max_drop=max_drop,
        bound=bound,
        measures=tuple(measure or ()),
        columns=_columns(label_column, image_column, text_column),
        limit=limit,
        max_length=max_length,
        batch_size=batch_size,
        seed=seed,
        to=to,
        device=_device(device),
    )


@command
def truncate(
    src: SRC,
    out: OUT,
    depth: Annotated[int | None, typer.Option(help="Keep the first DEPTH blocks.")] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="Or: the smallest depth whose drop is at most this, in the metric's own units."
        ),
    ] = None,
    data: MAYBE_DATA = None,
    bound: Annotated[
        Bound,
        typer.Option(
            help="What must pass: the upper end of the paired 95 % interval, or the measured drop."
        ),
    ] = "upper",
    refit: Annotated[
        str | None,
        typer.Option(
            "--refit",
            metavar="DATA",
            help=(
                "Afterwards, without training: solve the output layers that come before the cut by least squares on DATA, so that the cut network follows the whole one."
            ),
        ),
    ] = None,
    tail_only: Annotated[
        bool,
        typer.Option(
            "--tail-only",
            help="The rule anyway: only the last blocks are cut, because only prefixes are exact.",
        ),
    ] = True,
    profile: Annotated[
        str | None, typer.Option(help="A profile.json that does not lie in SRC.")
    ] = None,
    limit: LIMIT = None,
    max_length: MAX_LENGTH = None,
    label_column: LABEL = None,
    image_column: IMAGE = None,
    text_column: TEXT = None,
    batch_size: BATCH = 256,
    config: CONFIG = None,
    seed: SEED = 0,
    device: DEVICE = "auto",
    overwrite: OVERWRITE = False,
) -> dict[str, Any]:
    """Cut the deep blocks off, physically; exact, and checked."""
    from acn_compress.steps.truncate import truncate as step

    return step(
        src,
        out,
        depth=depth,
        max_drop=max_drop,
        data=data,
        bound=bound,
        profile=profile,
        refit=refit,
        columns=_columns(label_column, image_column, text_column),
        limit=limit,
        max_length=max_length,
        batch_size=batch_size,
        seed=seed,
        config=config,
        device=_device(device),
        overwrite=overwrite,
    )


@command
def prune(
    src: SRC,
    out: OUT,
    target_sparsity: Annotated[
        float,
        typer.Option(
            help=(
                "Share in 0..1. structured: of the parameters of attention heads and MLP features of the blocks, removed. "
                "magnitude, movement: of the weights in the weight matrices of the blocks, set to zero."
            )
        ),
    ],
    method: Annotated[
        Method,
        typer.Option(
            help=(
                "structured is smaller and faster; the others only set zeros: magnitude the smallest weights, then trains; "
                "movement those that training moves towards zero, while it trains (needs --data and --epochs)."
            )
        ),
    ] = "structured",
    scope: Annotated[
        Scope, typer.Option(help="One ranking over all blocks, or the same share in each layer.")
    ] = "global",
    data: MAYBE_DATA = None,
    epochs: Annotated[
        float,
        typer.Option(
            help="Training after pruning (movement: while pruning), distilling from SRC; 0 = none, --data is then only measured on."
        ),
    ] = 0.0,
    eval_data: EVAL_DATA = None,
    batch_size: BATCH = 64,
    lr: LR = None,
    warmup: WARMUP = 0.05,
    weight_decay: DECAY = 0.05,
    label_smoothing: SMOOTHING = 0.0,
    distil_weight: DISTIL = 1.0,
    task_weight: TASK_WEIGHT = 0.5,
    temperature: TEMPERATURE = 2.0,
    hidden_weight: HIDDEN = 0.0,
    prefix_loss: PREFIX = 0.0,
    prefix_depths: PREFIX_DEPTHS = None,
    accumulate: ACCUMULATE = 1,
    precision: PRECISION = "auto",
    checkpointing: CHECKPOINTING = False,
    augment: AUGMENT = None,
    limit: LIMIT = None,
    eval_limit: EVAL_LIMIT = None,
    max_length: MAX_LENGTH = None,
    label_column: LABEL = None,
    image_column: IMAGE = None,
    text_column: TEXT = None,
    config: CONFIG = None,
    seed: SEED = 0,
    device: DEVICE = "auto",
    resume: RESUME = False,
    overwrite: OVERWRITE = False,
) -> dict[str, Any]:
    """Remove heads and MLP features (structured) or set weights to zero (magnitude, movement);
    recover with --data and --epochs."""
    options = locals()
    from acn_compress.steps.prune import prune as step

    if epochs < 0 or (epochs > 0 and data is None):
        raise ConfigError(
            f"epochs is {epochs:g}: recovery training needs --data and more than 0 epochs."
        )
    job = None if data is None else _job(data, options | {"epochs": epochs or 1.0})
    return step(
        src,
        out,
        target_sparsity=target_sparsity,
        method=method,
        scope=scope,
        job=job,
        recover=epochs > 0,
        config=config,
        device=_device(device),
        resume=resume,
        overwrite=overwrite,
        progress=_progress(),
    )


@command
def export(
    src: SRC,
    out: Annotated[str, typer.Argument(metavar="OUT", help="Directory to write.")],
    format: Annotated[
        Format, typer.Option(help="onnx, or safetensors: the compact model directory itself.")
    ] = "onnx",
    opset: Annotated[int, typer.Option(min=18, max=24, help="ONNX operator set.")] = 20,
    tolerance: Annotated[
        float, typer.Option(help="Largest difference to torch that is let through.")
    ] = 1e-4,
    quantize: Annotated[
        str | None, typer.Option(help="int8: dynamic quantisation, judged by agreement with torch.")
    ] = None,
    exit_entropy: EXIT = None,
    config: CONFIG = None,
    seed: SEED = 0,
    overwrite: OVERWRITE = False,
) -> dict[str, Any]:
    """Export, and compare the result with the source; on a mismatch nothing is left behind."""
    from acn_compress.steps.export import export as step

    return step(
        src,
        out,
        format=format,
        opset=opset,
        tolerance=tolerance,
        quantize=quantize,
        exit_entropy=exit_entropy,
        config=config,
        seed=seed,
        overwrite=overwrite,
    )


@command
def benchmark(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SRC [OTHER]...",
            help="Model directories or .onnx files; ratios are to the first.",
        ),
    ],
    batch_size: Annotated[int, typer.Option(min=1, help="Examples per call.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch and ONNX Runtime.")] = 1,
    repeats: Annotated[
        int, typer.Option(min=5, help="Rounds; in each every variant runs once.")
    ] = 30,
    length: Annotated[int, typer.Option(min=2, help="Tokens per text.")] = 128,
    backend: Annotated[
        list[str] | None, typer.Option(help="torch, onnx; default both. May be repeated.")
    ] = None,
) -> dict[str, Any]:
    """Seconds and bytes side by side: interleaved, median and spread; a difference under the noise
    is called none."""
    from acn_compress.steps.benchmark import benchmark as step

    return step(
        sources,
        batch_size=batch_size,
        threads=threads,
        repeats=repeats,
        length=length,
        backends=tuple(backend or ("torch", "onnx")),
    )


@command
def compare(
    src: SRC,
    data: DATA,
    depths: Annotated[str, typer.Option(help="Depths to compare at, for example 3,4,6.")],
    out: Annotated[
        str, typer.Option(help="Directory for compare.json, compare.png and README.md.")
    ] = "comparison",
    epochs: Annotated[
        float, typer.Option(help="The budget: what this many epochs of the whole network cost.")
    ] = 3.0,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of every route.")] = 2,
    routes: Annotated[
        str | None, typer.Option(help="Which routes, comma separated; default all.")
    ] = None,
    noise: Annotated[
        str | None, typer.Option(help="Also measure under this noise, for example gaussian:0.2.")
    ] = None,
    alpha_end: Annotated[
        float | None,
        typer.Option(
            help="Alpha at the end of the ACN routes: 0 is the ACN, between 0 and 1 a hybrid. Default: alpha finds its own way."
        ),
    ] = None,
    pull: Annotated[
        float,
        typer.Option(
            help="Without --alpha-end: with which alpha goes down in the ACN routes, as in convert."
        ),
    ] = 0.1,
    eval_data: EVAL_DATA = None,
    batch_size: BATCH = 64,
    lr: LR = None,
    warmup: WARMUP = 0.05,
    weight_decay: DECAY = 0.05,
    label_smoothing: SMOOTHING = 0.0,
    distil_weight: DISTIL = 1.0,
    task_weight: TASK_WEIGHT = 0.5,
    temperature: TEMPERATURE = 2.0,
    hidden_weight: HIDDEN = 0.0,
    accumulate: ACCUMULATE = 1,
    precision: PRECISION = "auto",
    augment: AUGMENT = None,
    limit: LIMIT = None,
    eval_limit: EVAL_LIMIT = None,
    max_length: MAX_LENGTH = None,
    label_column: LABEL = None,
    image_column: IMAGE = None,
    text_column: TEXT = None,
    config: CONFIG = None,
    seed: SEED = 0,
    device: DEVICE = "auto",
    overwrite: OVERWRITE = False,
) -> dict[str, Any]:
    """Every way to a smaller depth at the same training budget: drop-last, evenly spaced, best
    blocks, prefix readouts, ACN."""
    options = locals()
    from acn_compress.steps.compare import compare as step

    return step(
        src,
        _job(data, options),
        depths=_numbers("depths", depths),
        out=out,
        seeds=seeds,
        routes=None if routes is None else tuple(routes.split(",")),
        noise=noise,
        alpha_end=alpha_end,
        pull=pull,
        config=config,
        device=_device(device),
        overwrite=overwrite,
        progress=_progress(),
    )


@command
def run(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="A YAML file, or the name of a packaged recipe, for example quickstart.",
        ),
    ],
    out: Annotated[
        str | None, typer.Option(help="Directory for the steps; default runs/NAME.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Checkpoint to use instead of the recipe's.")
    ] = None,
    data: MAYBE_DATA = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed to use instead of the recipe's.")
    ] = None,
    device: DEVICE = "auto",
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Run every step again, also those that are finished."),
    ] = False,
) -> dict[str, Any]:
    """Run a recipe: one folder per step, finished steps are reused, a table with the plain baseline
    at the end."""
    from acn_compress.cli import show as console
    from acn_compress.recipe.run import run as step
    from acn_compress.recipe.schema import read

    return step(
        read(recipe),
        out=out,
        source=source,
        data=data,
        seed=seed,
        device=_device(device),
        overwrite=overwrite,
        progress=console.training_progress(),
        on_step=console.step_started,
    )


@command
def validate(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A YAML file, or the name of a packaged recipe.")
    ],
) -> dict[str, Any]:
    """Check a recipe: every fault at once, with its place in the file."""
    from acn_compress.recipe.schema import read

    found = read(recipe)
    return {"step": "validate", "recipe": recipe, "name": found.name, "steps": len(found.steps)}


def _version(value: bool) -> None:
    if value:
        typer.echo(f"acn-compress {__version__}")
        raise typer.Exit()


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the command."""


def main() -> None:
    """Entry point of the console script."""
    if not sys.warnoptions:
        import warnings

        warnings.simplefilter("ignore")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with interrupt.handling():
        app()
