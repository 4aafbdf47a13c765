"""The final table of a run: every model directory and ONNX file on the same examples, paired with
the original, timed side by side."""

from __future__ import annotations

from acn_compress.backends.base import Load
from acn_compress.backends.race import race
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.data.load import Data, Noise
from acn_compress.data.splits import eval_split
from acn_compress.measure.quality import Scores, measure, paired, summary
from acn_compress.network.network import Network
from acn_compress.onnx.layout import file_bytes, find_onnx
from acn_compress.onnx.scores import measure_file
from acn_compress.options import Benchmark, Trained
from acn_compress.reports.measured import Benchmarked
from acn_compress.reports.ran import Gain, Row, Speed, Table

Named = tuple[str, str]  # (name in the table, directory)


def table(
    models: list[Named],
    exports: list[Named],
    *,
    original: str,
    final: str,
    baseline: str | None,
    how: Trained,
    noise: str | None,
    device: str = "cpu",
) -> Table:
    """Measure every model of a run.

    Args:
        models: model directories in order.
        exports: directories that hold an ONNX file, in the order they were made.
        original: directory of the model that drops and speed-ups are against; one of `models`.
        final, baseline: the models that the verdict compares.
        how: names the data to measure on.
        noise: also measured under it.
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
        data = eval_split(how, net, source, whole)
        assert data is not None
        scores[path] = measure(net, data)
        noisy = None if corrupt is None else measure(net, data, noise=corrupt).value
        row = _row(name, path, scores[path], scores[original], data, noisy)
        size = {"parameters": net.parameters, "bytes": source.bytes()}
        rows.append(row.model_copy(update=size))
    assert data is not None
    for name, path in exports:
        file = find_onnx(path)
        assert file is not None
        noisy = None if corrupt is None else measure_file(file, data, corrupt).value
        row = _row(name, path, measure_file(file, data), scores[original], data, noisy)
        rows.append(row.model_copy(update={"format": "onnx", "bytes": file_bytes(file)}))
    rows.sort(key=lambda row: row.is_baseline)  # the chain with its exports, then the baseline
    how_fast = Benchmark()
    load = Load(how_fast.batch_size, how_fast.length, how_fast.threads)
    timed = race([row.path for row in rows], how_fast.backends, load, device=device)
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
        rows=tuple(row.model_copy(update=_speeds(row.path, timed)) for row in rows),
    )


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
