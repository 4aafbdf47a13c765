"""How many blocks to keep, and cutting to the first so many: exact, and proven to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from acn_compress import figures
from acn_compress.checkpoint.files import read_json
from acn_compress.checkpoint.original import find_original
from acn_compress.checkpoint.source import Source
from acn_compress.data.load import Data
from acn_compress.data.read import Read
from acn_compress.errors import ConfigError, ModelDirError, VerificationError
from acn_compress.found import Found
from acn_compress.measure.intervals import check_shown
from acn_compress.measure.original import Original, no_original
from acn_compress.measure.readouts import Depth, profile_model, smallest
from acn_compress.network.network import Network
from acn_compress.options import Bound, Reference
from acn_compress.quality import NO_ORIGINAL, Below, Drop, Quality, against
from acn_compress.tasks import TASKS


@dataclass(frozen=True)
class Depths:
    """What every depth costs.

    Args:
        rows: depth 0 to that of the whole network.
        where: the data it was measured on, for a sentence.
        full: the quality of the whole network.
        examples: that were right or wrong; None for a metric that does not count those.
        original: the original of the chain,
        further: and how far every depth lies below it; none where it was not measured.
        lacking: why it was not.
        known: what a report has of the rows.
    """

    rows: tuple[Depth, ...]
    where: str
    full: Quality
    examples: int | None = None
    original: str | None = None
    further: tuple[Drop, ...] = ()
    lacking: str = NO_ORIGINAL
    known: Mapping[str, object] = field(default_factory=dict)

    def report(self, depth: int) -> dict[str, object]:
        """What was measured of the network cut to `depth`, as a report has it."""
        row = self.rows[depth]
        after = Quality(
            metric=self.full.metric,
            value=row.value,
            low=row.low,
            high=row.high,
            loss=row.loss,
            examples=self.full.examples,
        )
        below = Below(name=self.original, drop=self.further[depth]) if self.original else None
        return {
            "before": self.full,
            "after": after,
            "drop": row.lost,
            "original": below,
            **self.known,
        }


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
    """What every depth costs on `data`; `seed` is that of the bootstrap."""
    scores = None if original is None else original.scores
    found = profile_model(net, data, batch_size=batch_size, seed=seed, original=scores)
    return Depths(
        found.depths,
        data.name,
        found.full,
        len(data) if data.task.counted else None,
        None if original is None or found.from_original is None else original.name,
        found.from_original or (),
    )


class _Profile(Found, extra="ignore"):
    """Of profile.json, what a cut needs."""

    data: str
    read: Read | None = None
    full: Quality
    depths: tuple[Depth, ...]
    original: str | None = None
    from_original: tuple[Drop, ...] | None = None


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
    profile = _read(found, where)
    original, further = profile.original, profile.from_original or ()
    if find_original(source) is source:  # as in every profile that an earlier version made of one
        original, further = source.name, tuple(row.lost for row in profile.depths)
    return Depths(
        profile.depths,
        f"{profile.data} (profile.json)",
        profile.full,
        _counted(profile.full),
        original,
        further,
        "profile.json knows nothing of its original",
        {"data": profile.data, "read": profile.read},
    )


def _counted(full: Quality) -> int | None:
    """Examples of a stored quality whose metric counts them."""
    metrics = {task.metric for task in TASKS.values() if task.counted}
    return full.examples if full.metric in metrics and full.examples > 0 else None


def _read(found: dict[str, Any], where: Path) -> _Profile:
    try:
        profile = _Profile.model_validate(found)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"]))
        raise ModelDirError(f"{where}: {place}: {fault['msg']}. Run profile again.") from None
    rows, further = profile.depths, profile.from_original
    if [row.depth for row in rows] != list(range(len(rows))) or not rows:
        raise ModelDirError(f"{where}: depths are not 0, 1, 2, ... Run profile again.")
    if (further is None) != (profile.original is None) or len(further or rows) != len(rows):
        raise ModelDirError(f"{where}: from_original is not of every depth. Run profile again.")
    return profile


def choose(
    depths: Depths, max_drop: float, bound: Bound, name: str, asked: Reference | None = None
) -> Chosen:
    """The smallest depth that costs at most `max_drop`: from the original, unless the network
    itself is asked for or the original was not measured.

    Args:
        max_drop: of the metric, in its own units.
        bound: as in `readouts.cutoff`.
        name: of the network.
        asked: what drops are to be from.
    Raises:
        ConfigError: if none below the whole network does, or so few examples cannot show it; if the
            original was asked for and was not measured.
    """
    if bound == "upper" and depths.examples is not None:
        check_shown(max_drop, depths.examples)
    rows, where, metric = depths.rows, depths.where, depths.full.metric
    original = None if asked == "source" else depths.original
    if asked == "original" and original is None:
        raise no_original(name, where)
    drops = depths.further if original is not None else tuple(row.lost for row in rows)
    than = against(name, original, None if asked == "source" else depths.lacking)
    most = figures.limit(max_drop, metric)
    depth = smallest(drops, max_drop, bound)
    if depth is None:
        best = max(len(rows) - 2, 0)
        raise ConfigError(
            f"{name}: no depth below {len(rows) - 1} keeps the drop within {most} on {where} "
            f"against {than} ({bound} bound; depth {best}: {figures.told(drops[best], metric)}). "
            "Allow more, convert the model first, or choose --depth."
        )
    return Chosen(
        depth,
        f"smallest depth whose drop is at most {most} on {where}: "
        f"{figures.told(drops[depth], metric)} (95 %) against {than}, {bound} bound",
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
