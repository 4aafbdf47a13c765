"""Training from random weights: what finetune and convert do with `init random`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from acn_compress.checkpoint import load as checkpoint
from acn_compress.checkpoint.directory import check_out
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.write import write
from acn_compress.compression.start import cut_
from acn_compress.data.load import Columns, label_names
from acn_compress.errors import ConfigError
from acn_compress.events import Progress
from acn_compress.form import layers_in_a_block
from acn_compress.network.device import find_device
from acn_compress.network.plain import plain_class
from acn_compress.options import Convert, Finetune, ModelSpec, PathSpec
from acn_compress.reports.made import Made
from acn_compress.tasks import task_called, task_named
from acn_compress.training.job import run_job
from acn_compress.training.state import kept
from acn_compress.training.teacher import load_teacher
from acn_compress.training.walk import Walk

M = TypeVar("M", bound=Made)


def from_scratch(
    src: ModelSpec,
    out: PathSpec,
    how: Convert | Finetune,
    alpha: float | None,
    kind: type[M],
    progress: Progress | None = None,
) -> M:
    """Train a network of a config from random weights.

    Args:
        src: a transformers config file, or a directory with one.
        alpha: of every layer; None is residual.
        kind: of the report.
    """
    if not isinstance(src, (str, Path)):
        raise ConfigError("init is random, so SRC must be a config file, not a model in memory.")
    anew, device = how.overwrite or how.resume, find_device(how.device)
    check_out(out, overwrite=anew)
    with kept(out, None, how) as training:
        checkpoint.seed_everything(how.seed)
        beside, file = checkpoint.config_source(src)
        family, cls, hf_config = checkpoint.describe(beside, how.task, file)
        task = (
            task_called(how.task) if how.task else task_named(plain_class(cls).__name__, hf_config)
        )
        names = label_names(how.data, Columns.of(how), task)
        net = checkpoint.from_config(src, labels=names, task=how.task)
        net = replace(net, named=names is not None)
        net.model.to(device)
        near = None if family.modality == "image" else beside  # where the tokenizer lies
        teacher = None if how.teacher is None else load_teacher(find_source(how.teacher), net, near)
        if how.depth is not None:
            net.check_depth(how.depth, str(src))
            cut_(net, how.depth, how.keep, how, near, teacher, refitted=how.refit)
        walk = None
        if alpha is not None:
            values = (alpha,) * (net.depth * layers_in_a_block(how.layer))
            walk = Walk(values, values, 0.0, how.layer)
        report = run_job(
            net,
            near,
            how,
            teacher=teacher,
            walk=walk,
            state=training,
            progress=progress,
        )
        known = {"alpha": net.structure.alpha} if "alpha" in kind.model_fields else {}
        return write(
            net,
            out,
            source=None,
            step=how.verb,
            options={"src": str(src), **how.plain()},
            report={**report, **known},
            seed=how.seed,
            overwrite=anew,
            processor=checkpoint.new_processor(net, beside),
            kind=kind,
        )
