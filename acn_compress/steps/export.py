"""export: a target's files, proven before they are let through."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from acn_compress.checkpoint.directory import check_out, new_directory
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.licence import inherited
from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.original import Again
from acn_compress.checkpoint.provenance import history, provenance
from acn_compress.checkpoint.source import Source
from acn_compress.checkpoint.write import document
from acn_compress.data.load import Columns, Data, Role, load_data
from acn_compress.data.part import shares
from acn_compress.data.places import unmeasured
from acn_compress.errors import ConfigError
from acn_compress.events import Progress
from acn_compress.network.device import find_device
from acn_compress.network.network import Network
from acn_compress.options import Export, ModelSpec, PathSpec
from acn_compress.targets import TARGETS
from acn_compress.targets.base import Exported, Rows, check_taken

if TYPE_CHECKING:
    from acn_compress.data.places import Spec

UNMEASURED = "not looked at: format {} is compared with the network, and not measured on rows"
CALIBRATION = 128  # rows that static quantisation looks at


def run(src: ModelSpec, out: PathSpec, how: Export, progress: Progress | None = None) -> Exported:
    """Export a model, and compare the result with it; on a mismatch nothing is left behind."""
    began, target = time.perf_counter(), TARGETS[how.format]
    check_taken(how, TARGETS)
    if Path(out).suffix == ".onnx":
        raise ConfigError(f"OUT {out} names a file. Name a directory: it gets {target.writes}.")
    source = find_source(src, config=how.config)
    check_out(out, source=source, overwrite=how.overwrite)
    net = load_source(source, device=find_device(how.device))
    target.check(net, source, how)
    rows = _rows(how, net, source) if target.measures else None
    carried = None if target.measures else history(source).quality
    with new_directory(out, source=source, overwrite=how.overwrite) as directory:
        found = target.write(net, source, directory, how, rows)
        report = target.report(
            step=how.verb,
            source=source.name,
            out=str(out),
            format=how.format,
            seconds=round(time.perf_counter() - began, 2),
            again=Again.of(source),
            unmeasured=None if rows or how.data is None else UNMEASURED.format(how.format),
            **{"outcome": carried, **found},
        )
        past = provenance(source, how.verb, how.plain(), how.seed, report.outcome)
        handed = inherited(source)
        document(
            directory,
            report,
            past,
            lambda found: found.card(net, past, handed, directory),
        )
    return report


def _rows(how: Export, net: Network, source: Source) -> Rows | None:
    """The rows that files are measured on, and others to calibrate on where that is asked for: of
    the training split, or held apart where there is no other."""
    if how.data is None:
        return None
    data = how.data

    def read(other: Network, place: Source, answered: bool = False) -> Data:
        return _read(data, how, other, place, "eval", how.limit, answered)

    measured = read(net, source, answered=True)
    if "int8-static" not in how.quantize:
        return Rows(measured, read)
    if (apart := unmeasured(data)) is not None:
        return Rows(measured, read, _read(apart, how, net, source, "train", CALIBRATION))
    share = min(CALIBRATION / len(measured), 0.25)

    def halves(whole: Data) -> list[Data]:
        return shares(whole, (share, 1 - share), how.seed)

    seen, rest = halves(measured)
    return Rows(rest, lambda other, place: halves(read(other, place))[1], seen)


def _read(
    data: Spec,
    how: Export,
    net: Network,
    source: Source,
    role: Role,
    limit: int | None,
    answered: bool = True,
) -> Data:
    return load_data(
        data,
        net,
        source,
        role=role,
        columns=Columns.of(how),
        limit=limit,
        max_length=how.max_length,
        seed=how.seed,
        answered=answered,
    )
