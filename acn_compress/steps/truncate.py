"""truncate: cut the deep blocks off, physically. Only prefixes are kept: they are exact, and it is
checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from acn_compress.checkpoint import directory as modeldir
from acn_compress.checkpoint import load as checkpoint
from acn_compress.checkpoint import write as output
from acn_compress.checkpoint.directory import Source
from acn_compress.compression.refit import EXAMPLES, refit_
from acn_compress.data.load import Columns, load_data
from acn_compress.errors import ConfigError, ModelDirError, VerificationError
from acn_compress.measure.quality import change, measure
from acn_compress.measure.readouts import cutoff, profile_model
from acn_compress.network.network import Network


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
            f"max_drop is {max_drop}, expected 0 or more, in the metric's own units (0.01 = one point of accuracy)."
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
        if examples is not None:
            depths, where = (
                profile_model(net, examples, batch_size=batch_size, seed=seed)["depths"],
                examples.name,
            )
        else:
            depths, where = _stored_profile(source, profile)
        depth = cutoff(depths, max_drop, bound)
        if depth is None:
            best = depths[-2] if len(depths) > 1 else depths[-1]
            raise ConfigError(
                f"{source.name}: no depth below {len(depths) - 1} keeps the drop within {max_drop} on {where} "
                f"({bound} bound; depth {best['depth']} drops {best['drop']:.4f}, up to {best['drop_high']:.4f}). "
                "Allow more, convert the model first, or choose --depth."
            )
        row = depths[depth]
        why = f"smallest depth whose drop is at most {max_drop} on {where}: {row['drop']:.4f} (95 % {row['drop_low']:.4f} to {row['drop_high']:.4f}), {bound} bound"
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
            f"The last block's output layers were solved on {refit} to follow the whole network; nothing was trained."
        )
    elif structure.form == "residual":
        report["note"] = (
            "Residual form: this is the plain baseline (drop the last blocks); fine-tune it to recover."
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


def truncate_checked_(net: Network, depth: int) -> None:
    """`Network.truncate_`, with the proof that slicing equals reading the whole model out at
    `depth`, bit for bit.

    Raises:
        VerificationError: if it does not.
    """
    inputs = net.example_inputs()
    with torch.inference_mode():
        with net.recording() as prefixes:
            net(**inputs)
        with net.injecting(prefixes[depth]):
            masked = net.answer(**inputs)
        net.truncate_(depth)
        sliced = net.answer(**inputs)
    if not torch.equal(masked, sliced):
        raise VerificationError(
            f"cutting to depth {depth} changed the output by {(masked - sliced).abs().max():.1e}, expected 0. Please report this."
        )


def _stored_profile(source: Source, path: str | Path | None) -> tuple[list[dict[str, Any]], str]:
    """The depths of a profile that was made of these very weights."""
    where = Path(path) if path is not None else source.directory / "profile.json"
    stored = modeldir.read_json(where)
    if stored is None:
        raise ConfigError(
            f"{source.name} has no profile. Pass --data, or run: acn-compress profile {source.name} --data DATA"
        )
    if stored.get("weights_sha256") != source.sha256():
        raise ModelDirError(
            f"{where} is a profile of other weights ({str(stored.get('weights_sha256'))[:12]}, found {source.sha256()[:12]}). Run profile again."
        )
    return stored["depths"], f"{stored['data']} (profile.json)"
