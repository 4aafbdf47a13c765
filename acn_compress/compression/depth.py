"""How many blocks to keep, and cutting to the first so many: exact, and proven to be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError

from acn_compress.checkpoint.files import read_json
from acn_compress.checkpoint.source import Source
from acn_compress.data.load import Data
from acn_compress.errors import ConfigError, ModelDirError, VerificationError
from acn_compress.measure.intervals import check_shown
from acn_compress.measure.original import Original
from acn_compress.measure.readouts import Depth, cutoff, profile_model
from acn_compress.network.network import Network
from acn_compress.options import Bound
from acn_compress.tasks import TASKS

ROWS = TypeAdapter(tuple[Depth, ...])


@dataclass(frozen=True)
class Depths:
    """What every depth costs.

    Args:
        rows: depth 0 to that of the whole network.
        where: the data it was measured on, for a sentence.
        examples: that were right or wrong; None for a metric that does not count those.
        original: what drops are from; None is the whole network.
    """

    rows: tuple[Depth, ...]
    where: str
    examples: int | None = None
    original: str | None = None


@dataclass(frozen=True)
class Chosen:
    """A depth, and why, for the report."""

    depth: int
    why: str


def measured(
    net: Network,
    data: Data,
    original: Original | None = None,
    *,
    batch_size: int = 256,
    seed: int = 0,
) -> Depths:
    """What every depth costs on `data`; `seed` is that of the bootstrap. Drops are from the
    original, if there is one, else from the whole network."""
    name, reference = (None, None) if original is None else (original.name, original.scores)
    found = profile_model(net, data, batch_size=batch_size, seed=seed, reference=reference)
    return Depths(found.depths, data.name, len(data) if data.task.counted else None, name)


def stored(source: Source, path: str | Path | None = None) -> Depths:
    """What a profile says that was made of these very weights.

    Args:
        source: its weights; the profile lies beside them,
        path: or here.
    Raises:
        ConfigError: if there is none.
        ModelDirError: if it is one of other weights, or damaged.
    """
    where = Path(path) if path is not None else source.directory / "profile.json"
    found = read_json(where)
    if found is None:
        raise ConfigError(
            f"{source.name} has no profile. Pass --data, "
            f"or run: acn-compress profile {source.name} --data DATA"
        )
    if (theirs := found.get("weights_sha256")) != (ours := source.sha256()):
        raise ModelDirError(
            f"{where} is a profile of other weights ({str(theirs)[:12]}, found {ours[:12]}). "
            "Run profile again."
        )
    rows, on = _rows(found.get("depths"), where), f"{found.get('data')} (profile.json)"
    return Depths(rows, on, _counted(found.get("full")))


def _counted(full: object) -> int | None:
    """Examples of a stored quality whose metric counts them."""
    metrics = {task.metric for task in TASKS.values() if task.counted}
    if not isinstance(full, dict) or full.get("metric") not in metrics:
        return None
    examples = full.get("examples")
    return examples if isinstance(examples, int) and examples > 0 else None


def _rows(found: object, where: Path) -> tuple[Depth, ...]:
    try:
        rows = ROWS.validate_python(found)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, ("depths", *fault["loc"])))
        raise ModelDirError(f"{where}: {place}: {fault['msg']}. Run profile again.") from None
    if [row.depth for row in rows] != list(range(len(rows))) or not rows:
        raise ModelDirError(f"{where}: depths are not 0, 1, 2, ... Run profile again.")
    return rows


def choose(depths: Depths, max_drop: float, bound: Bound, name: str) -> Chosen:
    """The smallest depth that costs at most `max_drop`.

    Args:
        max_drop: of the metric, in its own units.
        bound: as in `readouts.cutoff`.
        name: of the network, for an error.
    Raises:
        ConfigError: if none below the whole network does, or so few examples cannot show it.
    """
    if bound == "upper" and depths.examples is not None:
        check_shown(max_drop, depths.examples)
    rows, where = depths.rows, depths.where
    depth = cutoff(rows, max_drop, bound)
    if depth is None:
        best = rows[-2] if len(rows) > 1 else rows[-1]
        raise ConfigError(
            f"{name}: no depth below {len(rows) - 1} keeps the drop within {max_drop} on {where} "
            f"({bound} bound; depth {best.depth} drops {best.drop:.4f}, "
            f"up to {best.drop_high:.4f}). "
            "Allow more, convert the model first, or choose --depth."
        )
    row = rows[depth]
    return Chosen(
        depth,
        f"smallest depth whose drop is at most {max_drop} on {where}: {row.drop:.4f} "
        f"(95 % {row.drop_low:.4f} to {row.drop_high:.4f}) from "
        f"{depths.original or f'all {len(rows) - 1} blocks'}, {bound} bound",
    )


def truncate_checked_(net: Network, depth: int) -> None:
    """`Network.truncate_`, with the proof that slicing equals reading the whole network out at
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
            f"cutting to depth {depth} changed the output by "
            f"{(masked - sliced).abs().max():.1e}, expected 0. Please report this."
        )
