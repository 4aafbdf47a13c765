"""export: a target's files, proven before they are let through."""

from __future__ import annotations

import time
from pathlib import Path

from acn_compress.checkpoint.directory import check_out, new_directory
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.licence import inherited
from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.provenance import provenance
from acn_compress.checkpoint.source import Source
from acn_compress.checkpoint.write import document
from acn_compress.data.load import Columns, Data, load_data
from acn_compress.errors import ConfigError
from acn_compress.events import Progress
from acn_compress.network.network import Network
from acn_compress.options import Export, ModelSpec, PathSpec
from acn_compress.targets import TARGETS
from acn_compress.targets.base import Exported, check_taken


def run(src: ModelSpec, out: PathSpec, how: Export, progress: Progress | None = None) -> Exported:
    """Export a model, and compare the result with it; on a mismatch nothing is left behind."""
    began, target = time.perf_counter(), TARGETS[how.format]
    check_taken(how, TARGETS)
    if Path(out).suffix == ".onnx":
        raise ConfigError(f"OUT {out} names a file. Name a directory: it gets {target.writes}.")
    source = find_source(src, config=how.config)
    check_out(out, source=source, overwrite=how.overwrite)
    net = load_source(source)
    target.check(net, source, how)
    data = None if how.quantize is None else _rows(how, net, source)
    with new_directory(out, source=source, overwrite=how.overwrite) as directory:
        found = target.write(net, source, directory, how, data)
        report = target.report(
            step=how.verb,
            source=source.name,
            out=str(out),
            format=how.format,
            seconds=round(time.perf_counter() - began, 2),
            **found,
        )
        history = provenance(source, how.verb, how.plain(), how.seed)
        handed = inherited(source)
        document(
            directory,
            report,
            history,
            lambda found: target.card(net, found, history, handed, directory),
        )
    return report


def _rows(how: Export, net: Network, source: Source) -> Data | None:
    """What a file is judged on that does not say the same as torch."""
    if how.data is None:
        return None
    columns = Columns.of(how)
    length = how.max_length
    return load_data(how.data, net, source, role="eval", columns=columns, max_length=length)
