"""The final table of a run: every model directory and ONNX file on the same examples, paired with
the original, timed side by side."""

from __future__ import annotations

from pathlib import Path

from acn_compress.backends.base import Load
from acn_compress.backends.race import race
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.scratch import scratch
from acn_compress.checkpoint.write import write
from acn_compress.data.load import Data, Noise
from acn_compress.data.splits import eval_split, reported_split
from acn_compress.measure.quality import Scores, measure, paired, summary
from acn_compress.network.network import Network
from acn_compress.onnx.layout import file_bytes, find_onnx
from acn_compress.onnx.scores import measure_file
from acn_compress.options import Benchmark, Trained
from acn_compress.reports.compressed import Compressed
from acn_compress.reports.compressed import Row as Measured
from acn_compress.reports.measured import Benchmarked
from acn_compress.reports.ran import BASELINE, Gain, Row, Speed, Table

Named = tuple[str, str]  # (name in the table, directory)


def table(
    models: list[Named],
    exports: list[tuple[str, str, str | None]],
    *,
    original: str,
    final: str,
    baseline: str | None,
    how: Trained,
    noise: str | None,
    device: str = "cpu",
    held: bool = False,
    beside: Compressed | None = None,
) -> Table:
    """Measure every model of a run.

    Args:
        models: model directories in order.
        exports: directories that hold an ONNX file, or such files, in the order they were made,
            each with the model that it is of.
        original: directory of the model that drops and speed-ups are against; one of `models`.
        final, baseline: the models that the verdict compares.
        how: names the data to measure on.
        noise: also measured under it.
        held: only rows that compress did not decide on.
        beside: the step of compress whose baseline stands beside the chain.
    """
    corrupt = None if noise is None else Noise.parse(noise)
    models = sorted(models, key=lambda m: m[1] != original)  # the original is measured first
    rows: list[Row] = []
    scores: dict[str, Scores] = {}
    data: Data | None = None
    remarks: tuple[str, ...] = ()
    whole: Network | None = None
    for name, path in models:
        source = find_source(path)
        net = load_source(source, device=device)
        if whole is None:
            whole, remarks = net, net.remarks
        data = (reported_split if held else eval_split)(how, net, source, whole)
        assert data is not None
        scores[path] = measure(net, data)
        noisy = None if corrupt is None else measure(net, data, noise=corrupt).value
        row = _row(name, path, scores[path], scores[original], data, noisy)
        size = {"parameters": net.parameters, "bytes": source.bytes()}
        rows.append(row.model_copy(update=size))
    assert data is not None
    for name, path, of in exports:
        file = find_onnx(path)
        assert file is not None
        noisy = None if corrupt is None else measure_file(file, data, corrupt).value
        row = _row(name, path, measure_file(file, data), scores[original], data, noisy)
        parameters = next((r.parameters for r in rows if r.path == of), None)
        more = {"format": "onnx", "parameters": parameters, "bytes": file_bytes(file)}
        rows.append(row.model_copy(update=more))
    rows.sort(key=lambda row: row.is_baseline)  # the chain with its exports, then the baseline
    how_fast = Benchmark()
    load = Load(how_fast.batch_size, how_fast.length, how_fast.threads)
    with scratch() as place:
        if beside is not None and beside.baseline is not None:
            rows.append(_dropped(beside, beside.baseline, original, place / "dropped"))
        timed = race(
            [row.path for row in rows if Path(row.path).exists()],
            how_fast.backends,
            load,
            device=device,
        )
    before = summary(scores[original], data.task)
    return Table(
        metric=before.metric,
        eval_data=data.name,
        eval_read=data.read,
        remarks=remarks,
        examples=before.examples,
        machine=timed.machine,
        busy=timed.busy,
        gain=None if baseline is None else _gain(scores[baseline], scores[final]),
        rows=tuple(
            row.model_copy(update={**_speeds(row.path, timed), "path": _kept(row, beside)})
            for row in rows
        ),
    )


def _dropped(step: Compressed, found: Measured, original: str, place: Path) -> Row:
    """The baseline of a step of compress, as that measured it. It was not kept: what is timed is a
    network of its shape, written to `place`."""
    row = Row(
        name=f"{BASELINE}{found.name}, {step.trained}",
        path=str(place),
        value=found.quality.value,
        low=found.quality.low,
        high=found.quality.high,
        drop=found.drop,
        format="torch",
        parameters=found.parameters,
        bytes=0,
    )
    if step.chosen.int8:  # a file of its precision was not kept either
        return row
    source = find_source(original)
    net = load_source(source)
    net.truncate_(found.depth)
    write(net, place, source=source, step=step.step, options={}, report={})
    return row


def _kept(row: Row, beside: Compressed | None) -> str:
    """Where a row is from: of a baseline that was not kept, the report that has it."""
    if beside is None or not row.is_baseline:
        return row.path
    return f"{beside.out}/report.json"


def _gain(baseline: Scores, final: Scores) -> Gain:
    found = paired(baseline, final)
    return Gain(gain=found.drop, low=found.low, high=found.high)


def _speeds(path: str, timed: Benchmarked) -> dict[str, Speed]:
    """By backend, what was timed of a directory."""
    mine = (row for row in timed.rows if row.source == path)
    return {
        row.backend: Speed(**{name: getattr(row, name) for name in Speed.model_fields})
        for row in mine
    }


def _row(
    name: str, path: str, found: Scores, original: Scores, data: Data, noisy: float | None
) -> Row:
    quality = summary(found, data.task)
    return Row(
        name=name,
        path=path,
        value=quality.value,
        low=quality.low,
        high=quality.high,
        drop=None if found is original else paired(found, original),
        format="torch",
        parameters=None,
        bytes=0,
        noisy=noisy,
    )
