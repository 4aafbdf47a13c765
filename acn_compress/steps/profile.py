"""profile: quality at every depth and contribution of every block; adds profile.json and
profile.png to the model directory."""

from __future__ import annotations

import os
from pathlib import Path

from acn_compress.checkpoint.directory import writing
from acn_compress.checkpoint.files import write_json
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.source import Source
from acn_compress.checkpoint.swap import target
from acn_compress.compression.candidates import Candidates
from acn_compress.data.load import Columns, Data, load_data
from acn_compress.errors import ConfigError, ModelDirError
from acn_compress.events import Progress
from acn_compress.measure.intervals import check_shown, unshown
from acn_compress.measure.original import Original
from acn_compress.measure.readouts import Contribution, cutoff, profile_model, unsettled
from acn_compress.network.device import find_device
from acn_compress.network.network import Network
from acn_compress.options import ModelSpec, PathSpec, Profile
from acn_compress.reports import plots
from acn_compress.reports.measured import Profiled

ELSEWHERE = "Say where it goes with --to."


def run(src: ModelSpec, how: Profile, progress: Progress | None = None) -> Profiled:
    """Profile a model directory (or, with `to`, any checkpoint)."""
    source = find_source(src)
    where = _where(source, how.to)
    net = load_source(source, device=find_device(how.device))

    def read(other: Network, place: Source) -> Data:
        return load_data(
            how.data,
            other,
            place,
            role="eval",
            columns=Columns.of(how),
            limit=how.limit,
            max_length=how.max_length,
        )

    data = read(net, source)
    unshown = told_unshown(data, how)
    original = Original.of(source, data, read, known=source, net=net, batch_size=how.batch_size)
    found = profile_model(
        net,
        data,
        extras=how.measures,
        batch_size=how.batch_size,
        seed=how.seed,
        original=None if original is None else original.scores,
    )
    if "worth" in how.measures:
        found = found.model_copy(update={"blocks": _with_worth(found.blocks, net, data)})
    report = Profiled(
        step=how.verb,
        source=source.name,
        weights_sha256=source.sha256(),
        data=data.name,
        read=data.read,
        remarks=net.remarks,
        structure=net.structure,
        max_drop=how.max_drop,
        bound=how.bound,
        unshown=unshown,
        original=None if original is None or found.from_original is None else original.name,
        cutoff=cutoff(found.depths, how.max_drop, how.bound),
        unsettled=unsettled(found.depths, how.max_drop, how.bound, len(data)),
        **dict(found),
    )
    files = where / "profile.json", where / "profile.png"
    with writing(f"{where}: profile.json", ELSEWHERE):
        plots.profile(report, files[1])
        write_json(files[0], report.plain())
    return report.model_copy(update={"files": tuple(map(str, files))})


def _with_worth(
    blocks: tuple[Contribution, ...], net: Network, data: Data
) -> tuple[Contribution, ...]:
    """The blocks with what `compress` weighs of each."""
    candidates = Candidates.of(net, data)
    gone = dict(candidates.gone)
    found: list[dict[str, float | None]] = [{}]  # of the embedding
    for k, units in enumerate(candidates.scores):
        found.append({name: float(score.sum()) for name, score in units.items()})
        found[-1]["without"] = gone.get(k)
    return tuple(b.model_copy(update=w) for b, w in zip(blocks, found, strict=True))


def told_unshown(data: Data, how: Profile) -> str | None:
    """Why the data cannot show a drop as small as max_drop; refused if the user asked for it."""
    if not data.task.counted or how.bound == "point":
        return None
    if "max_drop" in how.given():
        check_shown(how.max_drop, len(data))
    return unshown(how.max_drop, len(data))


def _where(source: Source, to: PathSpec | None) -> Path:
    where = source.directory if to is None else Path(to).expanduser()
    if to is not None:
        with writing(f"{where}: profile.json", ELSEWHERE):
            target(where).mkdir(parents=True, exist_ok=True)
    if source.loose and to is None:
        raise ConfigError(
            f"{source.name} is a weight file, not a model directory. "
            "Say where the profile goes with --to."
        )
    if not os.access(where, os.W_OK):
        raise ModelDirError(f"{where}: no permission to write profile.json. {ELSEWHERE}")
    return where
