"""evaluate: quality on data with a 95 % interval; if wanted under noise, paired against another
model, and with early exit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from acn_compress.checkpoint import directory as modeldir
from acn_compress.checkpoint import load as checkpoint
from acn_compress.data.load import Columns, Data, Noise, load_data
from acn_compress.measure.early_exit import check_exit, evaluate_exits
from acn_compress.measure.quality import measure, paired, summary


def evaluate(
    src: str | Path,
    *,
    data: str,
    against: str | Path | None = None,
    noise: str | None = None,
    exit_entropy: float | None = None,
    columns: Columns = Columns(),  # noqa: B008  (frozen)
    limit: int | None = None,
    max_length: int | None = None,
    batch_size: int = 256,
    seed: int = 0,
    config: str | Path | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Measure a model.

    Args:
        src: the checkpoint.
        data: the data set; its validation or test split unless one is named.
        against: another model, measured on the same examples; `drop` is how far SRC lies below it,
            paired. For the task features it is also the reference; without it a model is its own,
            and its cosine 1.
        noise: "gaussian:SD" or "salt-pepper:SHARE" on images in [0, 1]; the same noise for every
            model.
        exit_entropy: also measure early exit: an example leaves at the first depth whose readout
            has at most this entropy (nats).
        seed: of the bootstrap.
    Returns:
        data, noise, result (metric, value, low, high, loss, ..., examples), with `against`: other,
        drop, and with `exit_entropy`: exit (see `early_exit.evaluate_exits`).
    Raises:
        AcnError: in one line.
    """
    source = modeldir.find_source(src, config=config)
    corrupt = None if noise is None else Noise.parse(noise)
    net = checkpoint.load_source(source, device=device)
    if exit_entropy is not None:
        check_exit(net, exit_entropy, source.name)
    other_source = None if against is None else modeldir.find_source(against)
    other = None if other_source is None else checkpoint.load_source(other_source, device=device)

    def read(which: Any, where: Any) -> Data:
        return load_data(
            data,
            which,
            where,
            role="eval",
            columns=columns,
            limit=limit,
            max_length=max_length,
            reference=other,
        )

    examples = read(net, source)
    scores = measure(net, examples, batch_size=batch_size, noise=corrupt)
    report: dict[str, Any] = {
        "step": "evaluate",
        "source": source.name,
        "data": examples.name,
        "noise": noise,
    }
    report["result"] = summary(scores, examples.task, seed=seed)
    if exit_entropy is not None:
        report["exit"] = evaluate_exits(
            net, examples, exit_entropy, scores, batch_size=batch_size, noise=corrupt, seed=seed
        )
    if other_source is not None and other is not None:
        theirs = measure(other, read(other, other_source), batch_size=batch_size, noise=corrupt)
        report |= {
            "against": other_source.name,
            "other": summary(theirs, examples.task, seed=seed),
            "drop": paired(scores, theirs, seed=seed),
        }
    return report
