"""evaluate: quality on data with a 95 % interval; if wanted under noise, paired against another
model, and with early exit."""

from __future__ import annotations

from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.source import Source
from acn_compress.data.load import Columns, Data, Noise, load_data
from acn_compress.events import Progress
from acn_compress.measure.early_exit import check_exit, evaluate_exits
from acn_compress.measure.quality import measure, paired, summary
from acn_compress.network.device import find_device
from acn_compress.network.network import Network
from acn_compress.options import Evaluate, ModelSpec
from acn_compress.reports.measured import Evaluated


def run(src: ModelSpec, how: Evaluate, progress: Progress | None = None) -> Evaluated:
    """Measure a model. For the task features `against` is also the reference; without it a model is
    its own, and its cosine 1."""
    source, device = find_source(src, config=how.config), find_device(how.device)
    noise = None if how.noise is None else Noise.parse(how.noise)
    net = load_source(source, device=device)
    if how.exit_entropy is not None:
        check_exit(net, how.exit_entropy, source.name)
    other_source = None if how.against is None else find_source(how.against)
    other = None if other_source is None else load_source(other_source, device=device)

    def read(which: Network, where: Source) -> Data:
        return load_data(
            how.data,
            which,
            where,
            role="eval",
            columns=Columns.of(how),
            limit=how.limit,
            max_length=how.max_length,
            reference=other,
        )

    data, size = read(net, source), how.batch_size
    scores = measure(net, data, batch_size=size, noise=noise)
    report = Evaluated(
        step=how.verb,
        source=source.name,
        data=data.name,
        read=data.read,
        remarks=net.remarks,
        noise=how.noise,
        result=summary(scores, data.task, seed=how.seed),
    )
    if how.exit_entropy is not None:
        exits = evaluate_exits(
            net, data, how.exit_entropy, scores, batch_size=size, noise=noise, seed=how.seed
        )
        report = report.model_copy(update={"exit": exits})
    if other is None or other_source is None:
        return report
    theirs = measure(other, read(other, other_source), batch_size=size, noise=noise)
    against = {
        "against": other_source.name,
        "other": summary(theirs, data.task, seed=how.seed),
        "drop": paired(scores, theirs, seed=how.seed),
    }
    return report.model_copy(update=against)
