"""truncate: cut the deep blocks off, physically. Only prefixes are kept: they are exact, and it is
checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from acn_compress.checkpoint import directory as modeldir
from acn_compress.checkpoint import load as checkpoint
from acn_compress.checkpoint import write as output
from acn_compress.compression.depth import choose, measured, stored, truncate_checked_
from acn_compress.compression.refit import EXAMPLES, refit_
from acn_compress.data.load import Columns, load_data
from acn_compress.errors import ConfigError
from acn_compress.measure.quality import change, measure


def truncate(
    src: str | Path,
    out: str | Path,
    *,
    depth: int | None = None,
    max_drop: float | None = None,
    data: str | None = None,
    bound: str = "upper",
    profile: str | Path | None = None,
    refit: str | None = None,
    columns: Columns = Columns(),  # noqa: B008  (frozen)
    limit: int | None = None,
    max_length: int | None = None,
    batch_size: int = 256,
    seed: int = 0,
    config: str | Path | None = None,
    device: str = "cpu",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Keep the first K blocks.

    Args:
        src: the checkpoint, in any form; on a residual one this is the plain baseline, "drop the
            last blocks".
        out: the model directory to write.
        depth: K, or
        max_drop: the largest drop of the metric that is allowed; the smallest depth that keeps it
            is taken.
        data: to decide on (and to measure before and after); without it the profile in `src`
            decides.
        bound: "upper": the upper end of the paired 95 % interval must pass `max_drop`; "point": the
            measured drop.
        profile: a profile.json elsewhere.
        refit: data (its training split) on which the last block's output layers are then solved, so
            that the cut network follows the whole one; nothing is trained. The cut itself is exact
            and checked before.
    Returns:
        The report: depth, of, form, why, before/after/drop when data was given.
    Raises:
        ConfigError: if no depth passes, or the depth is out of range.
        ModelDirError: for a profile of other weights.
    """
    if (depth is None) == (max_drop is None):
        raise ConfigError(
            "truncate needs either a depth or max_drop (--depth K or --max-drop X), not both."
        )
    if max_drop is not None and max_drop < 0:
        raise ConfigError(
            f"max_drop is {max_drop}, expected 0 or more, in the metric's own units "
            "(0.01 = one point of accuracy)."
        )
    source = modeldir.find_source(src, config=config)
    modeldir.check_out(out, source=source, overwrite=overwrite)
    net = checkpoint.load_source(source, device=device)
    structure = net.structure
    examples = (
        None
        if data is None
        else load_data(
            data, net, source, role="eval", columns=columns, limit=limit, max_length=max_length
        )
    )
    why = "asked for"
    if max_drop is not None:
        known = (
            stored(source, profile)
            if examples is None
            else measured(net, examples, batch_size=batch_size, seed=seed)
        )
        chosen = choose(known, max_drop, bound, source.name)
        depth, why = chosen.depth, chosen.why
    assert depth is not None
    net.check_depth(depth, source.name)
    before = None if examples is None else measure(net, examples, batch_size=batch_size)
    parameters = net.parameters
    whole = None if refit is None else net.twin()
    truncate_checked_(net, depth)
    if refit is not None and whole is not None:
        refit_(
            net,
            whole,
            load_data(
                refit,
                net,
                source,
                role="train",
                columns=columns,
                limit=EXAMPLES,
                max_length=max_length,
            ),
        )
    report: dict[str, Any] = {
        "depth": depth,
        "of": len(structure.blocks),
        "form": structure.form,
        "why": why,
        "parameters_before": parameters,
    }
    if refit is not None:
        report["note"] = (
            f"The last block's output layers were solved on {refit} to follow the whole network; "
            "nothing was trained."
        )
    elif structure.form == "residual":
        report["note"] = (
            "Residual form: this is the plain baseline (drop the last blocks); "
            "fine-tune it to recover."
        )
    if examples is not None and before is not None:
        after = measure(net, examples, batch_size=batch_size)
        report |= {"data": examples.name, **change(before, after, examples.task)}
    options = {"depth": depth, "max_drop": max_drop, "data": data, "bound": bound, "refit": refit}
    return output.write(
        net,
        out,
        source=source,
        step="truncate",
        options=options,
        seed=seed,
        report=report,
        overwrite=overwrite,
    )
