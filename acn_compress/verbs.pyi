# Made from acn_compress/options.py by `make docs`: do not edit.
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from acn_compress.events import Progress
from acn_compress.options import (
    Augment,
    Automatic,
    Backend,
    Backends,
    BelowOne,
    Bound,
    Budget,
    Count,
    DataSet,
    Depths,
    File,
    Format,
    Init,
    Keep,
    LayerKind,
    Learned,
    Measures,
    Method,
    Model,
    ModelSpec,
    NotNegative,
    Opset,
    PathSpec,
    Pattern,
    Positive,
    Precision,
    Quantizations,
    Reference,
    Rounds,
    Routes,
    Scope,
    Score,
    Seed,
    Share,
    Size,
    Stay,
    Task,
    Tokens,
    Want,
    Workers,
)
from acn_compress.recipe.schema import Recipe
from acn_compress.reports.compared import Compared
from acn_compress.reports.compressed import Compressed
from acn_compress.reports.helped import Begun, Doctored
from acn_compress.reports.inspected import Inspected, InspectedOnnx
from acn_compress.reports.made import Converted, Finetuned, PruneReport, Truncated
from acn_compress.reports.measured import Benchmarked, Evaluated, Profiled
from acn_compress.reports.planned import Planned
from acn_compress.reports.pushed import Pushed
from acn_compress.reports.ran import Ran, Validated
from acn_compress.targets.base import Exported

def inspect(
    src: ModelSpec,
    *,
    config: File | None = None,
    progress: bool | Progress | None = True,
) -> Inspected | InspectedOnnx:
    """Say what a checkpoint is: family, form, size, where it comes from.

    Args:
        src: Model directory, Hub id (NAME or NAME@REVISION), or weight file.
        config: What a bare weight file is: a config.json (or its directory), or the name of a timm
            model. Of an ONNX file: that of its original.

    Example:
        acn-compress inspect my-vit
    """

def convert(
    src: ModelSpec,
    out: PathSpec,
    data: DataSet,
    *,
    alpha_end: Share = 0.0,
    learned: Learned = False,
    pull: NotNegative = 0.0,
    layer: LayerKind = "block",
    anneal: Share = 0.5,
    init: Init = "source",
    teacher: Model | None = None,
    depth: Count | None = None,
    keep: Keep = "auto",
    refit: bool | None = None,
    label_column: str | None = None,
    image_column: str | None = None,
    audio_column: str | None = None,
    text_column: str | None = None,
    max_length: Tokens | None = None,
    workers: Workers | None = None,
    eval_data: DataSet | None = None,
    limit: Count | None = None,
    eval_limit: Count | None = None,
    augment: Augment | None = None,
    cache_teacher: bool = False,
    epochs: Positive = 3.0,
    batch_size: Count = 64,
    lr: Positive | None = None,
    warmup: BelowOne = 0.05,
    weight_decay: NotNegative = 0.05,
    max_grad_norm: Positive = 1.0,
    label_smoothing: Share = 0.0,
    distil_weight: NotNegative = 1.0,
    task_weight: NotNegative = 0.5,
    temperature: Positive = 2.0,
    hidden_weight: NotNegative = 0.0,
    accumulate: Count = 1,
    precision: Precision = "auto",
    prefix_loss: NotNegative = 0.0,
    prefix_depths: Depths = (),
    checkpointing: bool = False,
    task: Task | None = None,
    config: File | None = None,
    seed: Seed = 0,
    device: str = "auto",
    overwrite: bool = False,
    resume: bool = False,
    progress: bool | Progress | None = True,
) -> Converted:
    """Convert to ACN form: walk alpha from 1 to 0 while distilling from the unchanged source.

    Args:
        src: Model directory, Hub id (NAME or NAME@REVISION), or weight file.
        out: Directory to write; it appears whole or not at all.
        data: digits, a folder, parquet/csv/json file(s), or a Hub data set; with :split if needed.
        alpha_end: Alpha at the end: 0 is the ACN, between 0 and 1 a hybrid.
        learned: Train alpha per layer from alpha_end on, once the walk is done, and store what it
            became.
        pull: Let alpha find its own way down instead, per layer: this much loss is added per unit
            of mean alpha, for example 0.1. 0 = the fixed walk to alpha_end.
        layer: What one layer is: a block, each of its branches, or the paper's plain block.
        anneal: Share of the steps in which alpha walks from 1 to alpha_end.
        init: random trains the form from scratch; SRC is then a config.
        teacher: Model to distil from; default: SRC itself.
        depth: Cut to DEPTH blocks before training.
        keep: With depth, which blocks: the first, evenly spaced ones, the best (what is left when
            the block without which the answers change least goes, again and again), or auto: best
            for a cut to a quarter or less of a pre-norm network if choosing costs at most a tenth
            of the training, even in a post-norm one with refit, else first.
        refit: With depth: before training, solve the kept blocks' output layers by least squares so
            that they follow the whole network. Default: where it can be done.
        label_column: Column that holds the labels.
        image_column: Column that holds the images.
        audio_column: Column that holds the clips.
        text_column: Column that holds the text; two with a comma between for pairs.
        max_length: Longest text, in tokens.
        workers: Processes that read examples ahead, of each process that trains or measures.
            Default: 0, where images take more than 4 GiB and are decoded at every use one per
            further processor, at most 8.
        eval_data: Data to measure on; default: the validation or test split of the data, if it has
            one.
        limit: Train on at most this many examples.
        eval_limit: Measure on at most this many examples.
        augment: Random crops (and flips) of training images.
        cache_teacher: Ask the teacher once for every example and keep what it answers in the cache
            folder of datasets, instead of in every epoch and run; not with augment.
        epochs: Passes over the training data; a fraction is allowed.
        batch_size: Examples per batch.
        lr: Peak learning rate (AdamW, cosine decay to 0); default 5e-4 for images, 1e-4 for text
            and audio, and 0.3 of that where prune or compress refitted what is left.
        warmup: Share of the steps with rising learning rate.
        weight_decay: Weight decay; not on norms, biases and alphas.
        max_grad_norm: Gradients are scaled down to this norm where theirs is larger.
        label_smoothing: Label smoothing of the task loss.
        distil_weight: Weight of the distillation loss.
        task_weight: Weight of the loss on the labels.
        temperature: Temperature of distillation.
        hidden_weight: Weight of matching the teacher's hidden states, behind the last block and
            behind every block that was kept, token by token.
        accumulate: Batches per optimizer step.
        precision: auto uses bfloat16 where the hardware multiplies it and the model gains.
        prefix_loss: Weight of the prefix loss: each step one random depth is read out and trained
            too. 0 = off.
        prefix_depths: Depths read out in every step instead of a random one, for example 3,4,6.
        checkpointing: Gradient checkpointing: less memory, more time.
        task: Read SRC under the head of this task (features: sentence embeddings). finetune trains
            what SRC lacks of it from random weights.
        config: What a bare weight file is: a config.json (or its directory), or the name of a timm
            model. Of an ONNX file: that of its original.
        seed: Seed of everything random.
        device: cpu, cuda, cuda:1, mps, or auto. ONNX Runtime runs on the CPU.
        overwrite: Replace OUT if it exists, and holds nothing that others put there.
        resume: Go on from the training checkpoint an interrupted run left beside OUT.

    Example:
        acn-compress convert my-vit acn --data digits --epochs 8 --prefix-loss 1
    """

def finetune(
    src: ModelSpec,
    out: PathSpec,
    data: DataSet,
    *,
    teacher: Model | None = None,
    init: Init = "source",
    alpha: Share | None = None,
    layer: LayerKind = "block",
    keep: Keep = "first",
    refit: bool | None = False,
    depth: Count | None = None,
    label_column: str | None = None,
    image_column: str | None = None,
    audio_column: str | None = None,
    text_column: str | None = None,
    max_length: Tokens | None = None,
    workers: Workers | None = None,
    eval_data: DataSet | None = None,
    limit: Count | None = None,
    eval_limit: Count | None = None,
    augment: Augment | None = None,
    cache_teacher: bool = False,
    epochs: Positive = 3.0,
    batch_size: Count = 64,
    lr: Positive | None = None,
    warmup: BelowOne = 0.05,
    weight_decay: NotNegative = 0.05,
    max_grad_norm: Positive = 1.0,
    label_smoothing: Share = 0.0,
    distil_weight: NotNegative = 1.0,
    task_weight: NotNegative = 0.5,
    temperature: Positive = 2.0,
    hidden_weight: NotNegative = 0.0,
    accumulate: Count = 1,
    precision: Precision = "auto",
    prefix_loss: NotNegative = 0.0,
    prefix_depths: Depths = (),
    checkpointing: bool = False,
    task: Task | None = None,
    config: File | None = None,
    seed: Seed = 0,
    device: str = "auto",
    overwrite: bool = False,
    resume: bool = False,
    progress: bool | Progress | None = True,
) -> Finetuned:
    """Train a model in the form it has: recover after cutting, or train from scratch.

    Args:
        src: Model directory, Hub id (NAME or NAME@REVISION), or weight file.
        out: Directory to write; it appears whole or not at all.
        data: digits, a folder, parquet/csv/json file(s), or a Hub data set; with :split if needed.
        teacher: Model to distil from; default: none, the labels alone teach.
        init: random trains from scratch; SRC is then a config.
        alpha: With init random: the form to train, 0 = ACN; default residual.
        layer: With alpha: what one layer is.
        keep: With depth, which blocks: first (the plain baseline), even, best, or auto, as in
            convert.
        refit: With depth: before training, solve the kept blocks' output layers by least squares so
            that they follow the whole network, as convert does.
        depth: Cut to DEPTH blocks before training.
        label_column: Column that holds the labels.
        image_column: Column that holds the images.
        audio_column: Column that holds the clips.
        text_column: Column that holds the text; two with a comma between for pairs.
        max_length: Longest text, in tokens.
        workers: Processes that read examples ahead, of each process that trains or measures.
            Default: 0, where images take more than 4 GiB and are decoded at every use one per
            further processor, at most 8.
        eval_data: Data to measure on; default: the validation or test split of the data, if it has
            one.
        limit: Train on at most this many examples.
        eval_limit: Measure on at most this many examples.
        augment: Random crops (and flips) of training images.
        cache_teacher: Ask the teacher once for every example and keep what it answers in the cache
            folder of datasets, instead of in every epoch and run; not with augment.
        epochs: Passes over the training data; a fraction is allowed.
        batch_size: Examples per batch.
        lr: Peak learning rate (AdamW, cosine decay to 0); default 5e-4 for images, 1e-4 for text
            and audio, and 0.3 of that where prune or compress refitted what is left.
        warmup: Share of the steps with rising learning rate.
        weight_decay: Weight decay; not on norms, biases and alphas.
        max_grad_norm: Gradients are scaled down to this norm where theirs is larger.
        label_smoothing: Label smoothing of the task loss.
        distil_weight: Weight of the distillation loss.
        task_weight: Weight of the loss on the labels.
        temperature: Temperature of distillation.
        hidden_weight: Weight of matching the teacher's hidden states, behind the last block and
            behind every block that was kept, token by token.
        accumulate: Batches per optimizer step.
        precision: auto uses bfloat16 where the hardware multiplies it and the model gains.
        prefix_loss: Weight of the prefix loss: each step one random depth is read out and trained
            too. 0 = off.
        prefix_depths: Depths read out in every step instead of a random one, for example 3,4,6.
        checkpointing: Gradient checkpointing: less memory, more time.
        task: Read SRC under the head of this task (features: sentence embeddings). finetune trains
            what SRC lacks of it from random weights.
        config: What a bare weight file is: a config.json (or its directory), or the name of a timm
            model. Of an ONNX file: that of its original.
        seed: Seed of everything random.
        device: cpu, cuda, cuda:1, mps, or auto. ONNX Runtime runs on the CPU.
        overwrite: Replace OUT if it exists, and holds nothing that others put there.
        resume: Go on from the training checkpoint an interrupted run left beside OUT.

    Example:
        acn-compress finetune my-vit half --data digits --depth 3 --teacher my-vit
    """

def evaluate(
    src: ModelSpec,
    data: DataSet,
    *,
    against: Model | None = None,
    noise: str | None = None,
    exit_entropy: float | None = None,
    label_column: str | None = None,
    image_column: str | None = None,
    audio_column: str | None = None,
    text_column: str | None = None,
    max_length: Tokens | None = None,
    workers: Workers | None = None,
    limit: Count | None = None,
    batch_size: Count = 256,
    config: File | None = None,
    seed: Seed = 0,
    device: str = "auto",
    progress: bool | Progress | None = True,
) -> Evaluated:
    """Measure quality with a 95 % interval, alone or paired against another model.

    Args:
        src: Model directory, Hub id (NAME or NAME@REVISION), or weight file.
        data: digits, a folder, parquet/csv/json file(s), or a Hub data set; with :split if needed.
        against: Another model, measured on the same examples; the drop is paired. Default: the
            original of its chain, where that is on this machine as it was.
        noise: gaussian:SD or salt-pepper:SHARE, on images in 0..1.
        exit_entropy: Early exit too: leave at the first depth whose readout has at most this
            entropy, in nats (0 is certainty), for example 0.7.
        label_column: Column that holds the labels.
        image_column: Column that holds the images.
        audio_column: Column that holds the clips.
        text_column: Column that holds the text; two with a comma between for pairs.
        max_length: Longest text, in tokens.
        workers: Processes that read examples ahead, of each process that trains or measures.
            Default: 0, where images take more than 4 GiB and are decoded at every use one per
            further processor, at most 8.
        limit: Use at most this many examples.
        batch_size: Examples per batch.
        config: What a bare weight file is: a config.json (or its directory), or the name of a timm
            model. Of an ONNX file: that of its original.
        seed: Seed of everything random.
        device: cpu, cuda, cuda:1, mps, or auto. ONNX Runtime runs on the CPU.

    Example:
        acn-compress evaluate small --data digits --against my-vit --noise gaussian:0.2
    """

def profile(
    src: ModelSpec,
    data: DataSet,
    *,
    max_drop: NotNegative = 0.01,
    bound: Bound = "upper",
    measures: Measures = (),
    to: File | None = None,
    label_column: str | None = None,
    image_column: str | None = None,
    audio_column: str | None = None,
    text_column: str | None = None,
    max_length: Tokens | None = None,
    workers: Workers | None = None,
    limit: Count | None = None,
    batch_size: Count = 256,
    seed: Seed = 0,
    device: str = "auto",
    progress: bool | Progress | None = True,
) -> Profiled:
    """Measure quality at every depth and what every block adds, in one pass; adds profile.json
    and a plot to SRC.

    Args:
        src: Model directory, Hub id (NAME or NAME@REVISION), or weight file.
        data: digits, a folder, parquet/csv/json file(s), or a Hub data set; with :split if needed.
        max_drop: Tolerance of the cutoff, against all blocks of SRC (never the original of its
            chain), in the metric's own units: 0.01 = one point of accuracy.
        bound: What must pass: the upper end of the paired 95 % interval, or the measured drop
            (point).
        measures: More measures, comma separated: influence, cka, leave-one-out, taylor; worth: what
            compress weighs, the rise of the loss without a block, and without all of its heads or
            features.
        to: Directory for profile.json and profile.png instead of SRC.
        label_column: Column that holds the labels.
        image_column: Column that holds the images.
        audio_column: Column that holds the clips.
        text_column: Column that holds the text; two with a comma between for pairs.
        max_length: Longest text, in tokens.
        workers: Processes that read examples ahead, of each process that trains or measures.
            Default: 0, where images take more than 4 GiB and are decoded at every use one per
            further processor, at most 8.
        limit: Use at most this many examples.
        batch_size: Examples per batch.
        seed: Seed of everything random.
        device: cpu, cuda, cuda:1, mps, or auto. ONNX Runtime runs on the CPU.

    Example:
        acn-compress profile acn --data digits --max-drop 0.02
    """

def truncate(
    src: ModelSpec,
    out: PathSpec,
    data: DataSet | None = None,
    *,
    depth: Count | None = None,
    keep: Stay = "first",
    max_drop: NotNegative | None = None,
    against: Reference | None = None,
    bound: Bound = "upper",
    refit_data: DataSet | None = None,
    profile: File | None = None,
    label_column: str | None = None,
    image_column: str | None = None,
    audio_column: str | None = None,
    text_column: str | None = None,
    max_length: Tokens | None = None,
    workers: Workers | None = None,
    limit: Count | None = None,
    batch_size: Count = 256,
    config: File | None = None,
    seed: Seed = 0,
    device: str = "auto",
    overwrite: bool = False,
    progress: bool | Progress | None = True,
) -> Truncated:
    """Cut the deep blocks off, physically; exact, and checked. With keep best, others go, and a
    refit makes up for them.

    Args:
        src: Model directory, Hub id (NAME or NAME@REVISION), or weight file.
        out: Directory to write; it appears whole or not at all.
        depth: Keep DEPTH blocks, the first ones unless keep says otherwise.
        keep: With depth and refit_data, best: not the first blocks, but what is left when the block
            that the others make up for best goes, again and again.
        max_drop: Or: the smallest depth whose drop is at most this, in the metric's own units.
        against: With max_drop, what the drop is from: original, what the first step of the chain
            began with, or source, all blocks of SRC. Default: the original where it is on this
            machine as it was (or in the profile), else SRC.
        data: digits, a folder, parquet/csv/json file(s), or a Hub data set; with :split if needed.
        bound: What must pass: the upper end of the paired 95 % interval, or the measured drop
            (point).
        refit_data: Afterwards, without training: solve the output layers that come before the cut
            by least squares on this data (its training split), so that the cut network follows the
            whole one.
        profile: A profile.json that does not lie in SRC.
        label_column: Column that holds the labels.
        image_column: Column that holds the images.
        audio_column: Column that holds the clips.
        text_column: Column that holds the text; two with a comma between for pairs.
        max_length: Longest text, in tokens.
        workers: Processes that read examples ahead, of each process that trains or measures.
            Default: 0, where images take more than 4 GiB and are decoded at every use one per
            further processor, at most 8.
        limit: Use at most this many examples.
        batch_size: Examples per batch.
        config: What a bare weight file is: a config.json (or its directory), or the name of a timm
            model. Of an ONNX file: that of its original.
        seed: Seed of everything random.
        device: cpu, cuda, cuda:1, mps, or auto. ONNX Runtime runs on the CPU.
        overwrite: Replace OUT if it exists, and holds nothing that others put there.

    Example:
        acn-compress truncate acn cut --max-drop 0.02 --data digits
    """

def prune(
    src: ModelSpec,
    out: PathSpec,
    data: DataSet | None = None,
    *,
    target_sparsity: BelowOne | None = None,
    method: Method = "structured",
    pattern: Pattern | None = None,
    scope: Scope = "global",
    score: Score = "obs",
    uniform: bool = False,
    round_to: Count = 1,
    vocabulary: DataSet | None = None,
    min_count: Count = 1,
    refit: bool = True,
    epochs: NotNegative = 0.0,
    label_column: str | None = None,
    image_column: str | None = None,
    audio_column: str | None = None,
    text_column: str | None = None,
    max_length: Tokens | None = None,
    workers: Workers | None = None,
    eval_data: DataSet | None = None,
    limit: Count | None = None,
    eval_limit: Count | None = None,
    augment: Augment | None = None,
    cache_teacher: bool = False,
    batch_size: Count = 64,
    lr: Positive | None = None,
    warmup: BelowOne = 0.05,
    weight_decay: NotNegative = 0.05,
    max_grad_norm: Positive = 1.0,
    label_smoothing: Share = 0.0,
    distil_weight: NotNegative = 1.0,
    task_weight: NotNegative = 0.5,
    temperature: Positive = 2.0,
    hidden_weight: NotNegative = 0.0,
    accumulate: Count = 1,
    precision: Precision = "auto",
    prefix_loss: NotNegative = 0.0,
    prefix_depths: Depths = (),
    checkpointing: bool = False,
    config: File | None = None,
    seed: Seed = 0,
    device: str = "auto",
    overwrite: bool = False,
    resume: bool = False,
    progress: bool | Progress | None = True,
) -> PruneReport:
    """Remove heads and MLP features (structured) or set weights to zero (magnitude, obs,
    movement); recover with data and epochs.

    Args:
        src: Model directory, Hub id (NAME or NAME@REVISION), or weight file.
        out: Directory to write; it appears whole or not at all.
        target_sparsity: Share in 0..1. structured: of the parameters of attention heads and MLP
            features of the blocks, removed. Others: of the weights in the weight matrices of the
            blocks, set to zero; a pattern says it itself.
        method: structured is smaller and faster; the others only set zeros: magnitude the smallest
            weights; obs those that are missed least, and lets the others make up for them (looks at
            some of the data, or at random inputs); movement those that training moves towards zero,
            while it trains (needs data and epochs).
        pattern: magnitude, obs: of 4 (or 8) weights of an output beside each other 2 (or 4) become
            zero, in every matrix.
        scope: One ranking over all blocks, or the same share in each layer, which is the default of
            obs.
        score: structured, by what units are ranked: obs, what the loss rises by when a unit goes
            and the others make up for it; fisher and taylor, without the others; activation, the
            energy they hand on (needs data); magnitude of their weights. The first three look at
            some of the data, or at random inputs.
        uniform: structured: every block keeps the same number of heads and of MLP features, its own
            by the score, so that plain transformers loads the result where its config can say such
            widths; those it cannot say (fewer heads of BERT or GPT-2) are left alone if the share
            is reached without.
        round_to: structured: keep multiples of this many features in every MLP and attention, for
            example 8.
        vocabulary: Cut tokens that these texts (their training split) never use from tokenizer,
            embedding and head; alone or before heads and features. Special tokens, single
            characters and bytes stay, so that any other text is still read, in smaller pieces.
        min_count: With vocabulary: tokens that occur fewer times go.
        refit: structured, afterwards: solve the layers that write into the stream so that they make
            up for what went, on some of the data, or on random inputs.
        data: digits, a folder, parquet/csv/json file(s), or a Hub data set; with :split if needed.
        epochs: Training after pruning (movement: while pruning), distilling from SRC; 0 = none,
            data is then only measured on.
        label_column: Column that holds the labels.
        image_column: Column that holds the images.
        audio_column: Column that holds the clips.
        text_column: Column that holds the text; two with a comma between for pairs.
        max_length: Longest text, in tokens.
        workers: Processes that read examples ahead, of each process that trains or measures.
            Default: 0, where images take more than 4 GiB and are decoded at every use one per
            further processor, at most 8.
        eval_data: Data to measure on; default: the validation or test split of the data, if it has
            one.
        limit: Train on at most this many examples.
        eval_limit: Measure on at most this many examples.
        augment: Random crops (and flips) of training images.
        cache_teacher: Ask the teacher once for every example and keep what it answers in the cache
            folder of datasets, instead of in every epoch and run; not with augment.
        batch_size: Examples per batch.
        lr: Peak learning rate (AdamW, cosine decay to 0); default 5e-4 for images, 1e-4 for text
            and audio, and 0.3 of that where prune or compress refitted what is left.
        warmup: Share of the steps with rising learning rate.
        weight_decay: Weight decay; not on norms, biases and alphas.
        max_grad_norm: Gradients are scaled down to this norm where theirs is larger.
        label_smoothing: Label smoothing of the task loss.
        distil_weight: Weight of the distillation loss.
        task_weight: Weight of the loss on the labels.
        temperature: Temperature of distillation.
        hidden_weight: Weight of matching the teacher's hidden states, behind the last block and
            behind every block that was kept, token by token.
        accumulate: Batches per optimizer step.
        precision: auto uses bfloat16 where the hardware multiplies it and the model gains.
        prefix_loss: Weight of the prefix loss: each step one random depth is read out and trained
            too. 0 = off.
        prefix_depths: Depths read out in every step instead of a random one, for example 3,4,6.
        checkpointing: Gradient checkpointing: less memory, more time.
        config: What a bare weight file is: a config.json (or its directory), or the name of a timm
            model. Of an ONNX file: that of its original.
        seed: Seed of everything random.
        device: cpu, cuda, cuda:1, mps, or auto. ONNX Runtime runs on the CPU.
        overwrite: Replace OUT if it exists, and holds nothing that others put there.
        resume: Go on from the training checkpoint an interrupted run left beside OUT.

    Example:
        acn-compress prune cut small --target-sparsity 0.3 --data digits --epochs 3
    """

def compress(
    src: ModelSpec,
    out: PathSpec,
    data: DataSet,
    *,
    max_drop: NotNegative | None = None,
    bound: Bound = "upper",
    against: Reference | None = None,
    speedup: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None = None,
    max_latency_ms: Positive | None = None,
    target_params: Positive | None = None,
    target_size: Size | None = None,
    epochs: NotNegative = 0.0,
    convert: bool = False,
    quantize: Automatic | None = None,
    backend: Backend = "onnx",
    threads: Count = 1,
    calls: Count = 1,
    length: Tokens = 128,
    label_column: str | None = None,
    image_column: str | None = None,
    audio_column: str | None = None,
    text_column: str | None = None,
    max_length: Tokens | None = None,
    workers: Workers | None = None,
    eval_data: DataSet | None = None,
    limit: Count | None = None,
    eval_limit: Count | None = None,
    augment: Augment | None = None,
    cache_teacher: bool = False,
    batch_size: Count = 64,
    lr: Positive | None = None,
    warmup: BelowOne = 0.05,
    weight_decay: NotNegative = 0.05,
    max_grad_norm: Positive = 1.0,
    label_smoothing: Share = 0.0,
    distil_weight: NotNegative = 1.0,
    task_weight: NotNegative = 0.5,
    temperature: Positive = 2.0,
    hidden_weight: NotNegative = 0.0,
    accumulate: Count = 1,
    precision: Precision = "auto",
    prefix_loss: NotNegative = 0.0,
    prefix_depths: Depths = (),
    checkpointing: bool = False,
    config: File | None = None,
    seed: Seed = 0,
    device: str = "auto",
    overwrite: bool = False,
    resume: bool = False,
    progress: bool | Progress | None = True,
) -> Compressed:
    """The best model under a budget: search blocks, heads and features, measure candidates, take
    the one that keeps the limits, train it back if asked, export and verify it.

    Args:
        src: Model directory, Hub id (NAME or NAME@REVISION), or weight file.
        out: Directory to write; it appears whole or not at all.
        data: digits, a folder, parquet/csv/json file(s), or a Hub data set; with :split if needed.
        max_drop: Lose at most this, in the metric's own units: 0.01 = one point of accuracy. Alone
            it asks for the fastest model that keeps it.
        bound: With max_drop, what must pass: the upper end of the paired 95 % interval, or the
            measured drop (point).
        against: With max_drop, what the drop is from: original, what the first step of the chain
            began with, or source, SRC. Default: the original where it is on this machine as it was,
            else SRC.
        speedup: Be so many times as fast as SRC, on this machine.
        max_latency_ms: Take at most so many milliseconds per call, on this machine.
        target_params: Have at most this share of SRC's parameters (up to 1), or this number of
            them.
        target_size: Write an ONNX file of at most this size, for example 20MB.
        epochs: Training of the chosen candidate, distilling from SRC; 0 = none, minutes.
        convert: With epochs: train it into ACN form as well, and keep what does better on the rows
            that decide.
        quantize: auto: int8 takes part: where time or the size of a file is limited, candidates are
            measured in int8 too and the better one is taken; otherwise an int8 file is kept beside
            the float one if it loses no more than it may.
        backend: What time is measured in: onnx or torch.
        threads: Threads of a timed call.
        calls: Examples per timed call.
        length: Tokens per text of a timed call.
        label_column: Column that holds the labels.
        image_column: Column that holds the images.
        audio_column: Column that holds the clips.
        text_column: Column that holds the text; two with a comma between for pairs.
        max_length: Longest text, in tokens.
        workers: Processes that read examples ahead, of each process that trains or measures.
            Default: 0, where images take more than 4 GiB and are decoded at every use one per
            further processor, at most 8.
        eval_data: Data to measure on; default: the validation or test split of the data, if it has
            one.
        limit: Train on at most this many examples.
        eval_limit: Measure on at most this many examples.
        augment: Random crops (and flips) of training images.
        cache_teacher: Ask the teacher once for every example and keep what it answers in the cache
            folder of datasets, instead of in every epoch and run; not with augment.
        batch_size: Examples per batch.
        lr: Peak learning rate (AdamW, cosine decay to 0); default 5e-4 for images, 1e-4 for text
            and audio, and 0.3 of that where prune or compress refitted what is left.
        warmup: Share of the steps with rising learning rate.
        weight_decay: Weight decay; not on norms, biases and alphas.
        max_grad_norm: Gradients are scaled down to this norm where theirs is larger.
        label_smoothing: Label smoothing of the task loss.
        distil_weight: Weight of the distillation loss.
        task_weight: Weight of the loss on the labels.
        temperature: Temperature of distillation.
        hidden_weight: Weight of matching the teacher's hidden states, behind the last block and
            behind every block that was kept, token by token.
        accumulate: Batches per optimizer step.
        precision: auto uses bfloat16 where the hardware multiplies it and the model gains.
        prefix_loss: Weight of the prefix loss: each step one random depth is read out and trained
            too. 0 = off.
        prefix_depths: Depths read out in every step instead of a random one, for example 3,4,6.
        checkpointing: Gradient checkpointing: less memory, more time.
        config: What a bare weight file is: a config.json (or its directory), or the name of a timm
            model. Of an ONNX file: that of its original.
        seed: Seed of everything random.
        device: cpu, cuda, cuda:1, mps, or auto. ONNX Runtime runs on the CPU.
        overwrite: Replace OUT if it exists, and holds nothing that others put there.
        resume: Go on from the training checkpoint an interrupted run left beside OUT.

    Example:
        acn-compress compress my-vit small --data digits --speedup 2
    """

def export(
    src: ModelSpec,
    out: PathSpec,
    data: DataSet | None = None,
    *,
    format: Format = "onnx",
    opset: Opset = 20,
    tolerance: Positive = 0.0001,
    quantize: Quantizations = (),
    limit: Count | None = None,
    max_drop: NotNegative | None = None,
    bound: Bound = "upper",
    exit_entropy: float | None = None,
    label_column: str | None = None,
    image_column: str | None = None,
    audio_column: str | None = None,
    text_column: str | None = None,
    max_length: Tokens | None = None,
    workers: Workers | None = None,
    config: File | None = None,
    seed: Seed = 0,
    device: str = "auto",
    overwrite: bool = False,
    progress: bool | Progress | None = True,
) -> Exported:
    """Export, and compare the result with the source; on a mismatch nothing is left behind.

    Args:
        src: Model directory, Hub id (NAME or NAME@REVISION), or weight file.
        out: Directory to write; it appears whole or not at all.
        format: onnx; openvino (.xml and .bin; needs the openvino extra); torch-export (a .pt2,
            which torch loads by itself); executorch (a .pte, for telephones; needs the executorch
            extra); or safetensors: the compact model directory itself.
        opset: ONNX operator set.
        tolerance: Largest difference to torch that is let through, over max(1, largest output).
        quantize: More files beside the float one, in fewer bits, comma separated: fp16; int8
            (activations on the fly); int8-static (calibrated on rows of the data that are not
            measured); int4 (weights). Each is judged by what changes in the answers.
        data: Measure every file on it beside the source: quality, paired drop, time; default: files
            in fewer bits are judged on random inputs.
        limit: Measure on at most this many examples.
        max_drop: With quantize and data: a file in fewer bits may lose at most this against SRC
            (not the original of its chain), in the metric's own units, however much its scores
            change.
        bound: With max_drop, what must pass: the upper end of the paired 95 % interval, or the
            measured drop (point).
        exit_entropy: Early exit in the file: leave at the first depth whose readout has at most
            this entropy, in nats (0 is certainty), for example 0.7.
        label_column: Column that holds the labels.
        image_column: Column that holds the images.
        audio_column: Column that holds the clips.
        text_column: Column that holds the text; two with a comma between for pairs.
        max_length: Longest text, in tokens.
        workers: Processes that read examples ahead, of each process that trains or measures.
            Default: 0, where images take more than 4 GiB and are decoded at every use one per
            further processor, at most 8.
        config: What a bare weight file is: a config.json (or its directory), or the name of a timm
            model. Of an ONNX file: that of its original.
        seed: Seed of everything random.
        device: cpu, cuda, cuda:1, mps, or auto. ONNX Runtime runs on the CPU.
        overwrite: Replace OUT if it exists, and holds nothing that others put there.

    Example:
        acn-compress export small onnx
    """

def benchmark(
    sources: Sequence[ModelSpec],
    *,
    batch_size: Count = 1,
    threads: Count = 1,
    repeats: Rounds = 30,
    warmup_rounds: Count = 3,
    length: Tokens = 128,
    backends: Annotated[Backends, Field(min_length=1)] = ("torch", "onnx"),
    device: str = "auto",
    progress: bool | Progress | None = True,
) -> Benchmarked:
    """Seconds and bytes side by side: interleaved, median and spread; a difference under the
    noise is called none.

    Args:
        sources: Model directories or .onnx files; ratios are to the first.
        batch_size: Examples per call.
        threads: Threads of torch and ONNX Runtime.
        repeats: Rounds; in each every variant runs once.
        warmup_rounds: Rounds before the first that counts.
        length: Tokens per text.
        backends: What to run in, comma separated: torch, onnx.
        device: cpu, cuda, cuda:1, mps, or auto. ONNX Runtime runs on the CPU.

    Example:
        acn-compress benchmark my-vit onnx
    """

def compare(
    src: ModelSpec,
    data: DataSet,
    *,
    depths: Annotated[Depths, Field(min_length=1)],
    out: File = "comparison",
    epochs: Positive = 3.0,
    seeds: Count = 2,
    routes: Routes | None = None,
    noise: str | None = None,
    alpha_end: Share | None = None,
    pull: NotNegative = 0.1,
    winners: bool = False,
    overwrite: bool = False,
    label_column: str | None = None,
    image_column: str | None = None,
    audio_column: str | None = None,
    text_column: str | None = None,
    max_length: Tokens | None = None,
    workers: Workers | None = None,
    eval_data: DataSet | None = None,
    limit: Count | None = None,
    eval_limit: Count | None = None,
    augment: Augment | None = None,
    cache_teacher: bool = False,
    batch_size: Count = 64,
    lr: Positive | None = None,
    warmup: BelowOne = 0.05,
    weight_decay: NotNegative = 0.05,
    max_grad_norm: Positive = 1.0,
    label_smoothing: Share = 0.0,
    distil_weight: NotNegative = 1.0,
    task_weight: NotNegative = 0.5,
    temperature: Positive = 2.0,
    hidden_weight: NotNegative = 0.0,
    accumulate: Count = 1,
    precision: Precision = "auto",
    config: File | None = None,
    seed: Seed = 0,
    device: str = "auto",
    progress: bool | Progress | None = True,
) -> Compared:
    """Every way to a smaller depth at the same training budget: drop-last, evenly spaced, best
    blocks, prefix readouts, ACN.

    Args:
        src: Model directory, Hub id (NAME or NAME@REVISION), or weight file.
        data: digits, a folder, parquet/csv/json file(s), or a Hub data set; with :split if needed.
        depths: Depths to compare at, for example 3,4,6.
        out: Directory for report.html, compare.json, compare.png and README.md.
        epochs: The budget: what this many epochs of the whole network cost.
        seeds: Runs of every route.
        routes: Which routes, comma separated; default all.
        noise: Also measure under this noise, for example gaussian:0.2.
        alpha_end: Alpha at the end of the ACN routes: 0 is the ACN, between 0 and 1 a hybrid.
            Default: alpha finds its own way.
        pull: Without alpha_end: with which alpha goes down in the ACN routes, as in convert.
        winners: Write the winner at every depth as a model directory, OUT/depth-K: the route that
            is ahead of drop-last beyond its interval by most, or else drop-last. Its first run is
            gone once more; with finished runs that is all that is trained.
        overwrite: Run again what is finished.
        label_column: Column that holds the labels.
        image_column: Column that holds the images.
        audio_column: Column that holds the clips.
        text_column: Column that holds the text; two with a comma between for pairs.
        max_length: Longest text, in tokens.
        workers: Processes that read examples ahead, of each process that trains or measures.
            Default: 0, where images take more than 4 GiB and are decoded at every use one per
            further processor, at most 8.
        eval_data: Data to measure on; default: the validation or test split of the data, if it has
            one.
        limit: Train on at most this many examples.
        eval_limit: Measure on at most this many examples.
        augment: Random crops (and flips) of training images.
        cache_teacher: Ask the teacher once for every example and keep what it answers in the cache
            folder of datasets, instead of in every epoch and run; not with augment.
        batch_size: Examples per batch.
        lr: Peak learning rate (AdamW, cosine decay to 0); default 5e-4 for images, 1e-4 for text
            and audio, and 0.3 of that where prune or compress refitted what is left.
        warmup: Share of the steps with rising learning rate.
        weight_decay: Weight decay; not on norms, biases and alphas.
        max_grad_norm: Gradients are scaled down to this norm where theirs is larger.
        label_smoothing: Label smoothing of the task loss.
        distil_weight: Weight of the distillation loss.
        task_weight: Weight of the loss on the labels.
        temperature: Temperature of distillation.
        hidden_weight: Weight of matching the teacher's hidden states, behind the last block and
            behind every block that was kept, token by token.
        accumulate: Batches per optimizer step.
        precision: auto uses bfloat16 where the hardware multiplies it and the model gains.
        config: What a bare weight file is: a config.json (or its directory), or the name of a timm
            model. Of an ONNX file: that of its original.
        seed: Seed of everything random.
        device: cpu, cuda, cuda:1, mps, or auto. ONNX Runtime runs on the CPU.

    Example:
        acn-compress compare my-vit --data digits --depths 2,4 --epochs 2 --out routes
    """

def run(
    recipe: str | Path | Recipe,
    data: DataSet | None = None,
    *,
    out: File | None = None,
    source: Model | None = None,
    seed: Seed | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    device: str = "auto",
    progress: bool | Progress | None = True,
) -> Ran | Planned:
    """Run a recipe: one folder per step, finished steps are reused, a table with the plain
    baseline at the end.

    Args:
        recipe: A YAML file, or the name of a packaged recipe, such as quickstart.
        out: Directory for the steps; default runs/NAME.
        source: Checkpoint to use instead of the recipe's.
        data: Data to use instead of the recipe's.
        seed: Seed to use instead of the recipe's.
        overwrite: Run every step again, also those that are finished.
        dry_run: Do nothing: say what every step would take and make, and what is missing, then exit
            with 1 if something is.
        device: cpu, cuda, cuda:1, mps, or auto. ONNX Runtime runs on the CPU.

    Example:
        acn-compress run quickstart
    """

def validate(
    recipe: str | Path | Recipe,
    *,
    progress: bool | Progress | None = True,
) -> Validated:
    """Check a recipe: every fault at once, with its place in the file.

    Args:
        recipe: A YAML file, or the name of a packaged recipe, such as quickstart.

    Example:
        acn-compress validate recipe.yaml
    """

def push(
    src: PathSpec,
    name: str,
    *,
    public: bool = False,
    progress: bool | Progress | None = True,
) -> Pushed:
    """Upload a directory that a step wrote to the Hugging Face Hub, with its card; private
    unless asked otherwise.

    Args:
        src: Directory that a step wrote.
        name: Repository on the Hub: OWNER/NAME, or NAME of your own.
        public: Make a new repository public; one that is there stays as it is.

    Example:
        acn-compress push small my-name/small
    """

def init(
    *,
    model: str | None = None,
    data: str | None = None,
    want: Want | None = None,
    budget: Budget | None = None,
    out: File = "recipe.yaml",
    overwrite: bool = False,
    progress: bool | Progress | None = True,
) -> Begun:
    """Write a recipe: asks four questions (or takes their answers as options).

    Args:
        model: The trained checkpoint: model directory, Hub id or weight file.
        data: To look at and to measure on: digits, a folder, files, or a Hub data set.
        want: faster: half the time per call; smaller: half the parameters; lossless: as fast as it
            gets within one point of the quality; any-depth: one network of which any number of
            blocks can be kept (ACN form).
        budget: Of training: none (minutes, nothing is trained), short (one epoch), long (ten
            epochs).
        out: The file to write.
        overwrite: Replace the file if it exists.

    Example:
        acn-compress init --model my-vit --data digits --want faster --budget none
    """

def doctor(
    *,
    progress: bool | Progress | None = True,
) -> Doctored:
    """Check this machine: versions, threads, extras, memory and disk, and that a small network
    exported to ONNX says what torch says.

    Args:

    Example:
        acn-compress doctor
    """
