"""evaluate: quality on data with a 95 % interval; if wanted under noise, paired against another
model, and with early exit."""

from __future__ import annotations

from dataclasses import dataclass

from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.source import Source
from acn_compress.data.load import Columns, Data, Noise, load_data
from acn_compress.errors import ConfigError, UnsupportedError
from acn_compress.events import Progress
from acn_compress.measure.early_exit import check_exit, evaluate_exits
from acn_compress.measure.original import Original
from acn_compress.measure.quality import Scores, measure, paired, summary
from acn_compress.network.device import find_device
from acn_compress.network.network import Network
from acn_compress.onnx.graph import Graph, find_graph
from acn_compress.onnx.scores import measure_file
from acn_compress.options import Evaluate, File, ModelSpec
from acn_compress.reports.measured import Evaluated
from acn_compress.tasks import task_of


@dataclass(frozen=True)
class _Subject:
    """A model to be measured: a network in torch, or an ONNX file, whose `net` has no weights."""

    source: Source
    net: Network
    graph: Graph | None = None

    @classmethod
    def of(cls, src: ModelSpec, how: Evaluate, config: File | None = None) -> _Subject:
        """Find and load it."""
        if (graph := find_graph(src, config)) is not None:
            return cls(graph.source, graph.net, graph)
        source = find_source(src, config=config)
        return cls(source, load_source(source, device=find_device(how.device)))

    @property
    def remarks(self) -> tuple[str, ...]:
        """What to know of how it was read."""
        return self.net.remarks if self.graph is None else self.graph.remarks

    def scores(self, data: Data, how: Evaluate, noise: Noise | None) -> Scores:
        """Of every example."""
        if self.graph is None:
            return measure(self.net, data, batch_size=how.batch_size, noise=noise)
        config = self.net.config
        return measure_file(self.graph.file, data, noise, batch_size=how.batch_size, config=config)


def run(src: ModelSpec, how: Evaluate, progress: Progress | None = None) -> Evaluated:
    """Measure a model; without `against`, beside the original of its chain where that is there. For
    the task features `against` is also the reference; without it a model is its own, and its cosine
    1."""
    subject = _Subject.of(src, how, how.config)
    net, source = subject.net, subject.source
    noise = None if how.noise is None else Noise.parse(how.noise)
    other = None if how.against is None else _Subject.of(how.against, how)
    if other is not None and task_of(other.net) != task_of(net):
        raise ConfigError(
            f"{other.source.name} does {task_of(other.net).name}, but {source.name} "
            f"{task_of(net).name}. They cannot be compared: choose another with against."
        )
    if how.exit_entropy is not None:
        if subject.graph is not None:
            raise UnsupportedError(
                f"{source.name} is an ONNX file: early exit is measured of the network that it was "
                "made from. Leave exit_entropy out."
            )
        check_exit(net, how.exit_entropy, source.name)
    reference = _reference(subject, other)

    def read(which: _Subject) -> Data:
        return load_data(
            how.data,
            which.net,
            which.source,
            role="eval",
            columns=Columns.of(how),
            limit=how.limit,
            max_length=how.max_length,
            reference=reference,
        )

    data = read(subject)
    scores = subject.scores(data, how, noise)
    report = Evaluated(
        step=how.verb,
        source=source.name,
        data=data.name,
        read=data.read,
        remarks=subject.remarks,
        noise=how.noise,
        result=summary(scores, data.task, seed=how.seed),
    )
    if how.exit_entropy is not None:
        exits = evaluate_exits(
            net,
            data,
            how.exit_entropy,
            scores,
            batch_size=how.batch_size,
            noise=noise,
            seed=how.seed,
        )
        report = report.model_copy(update={"exit": exits})
    if other is None:
        original = Original.of(
            source,
            data,
            lambda net, place: read(_Subject(place, net)),
            known=source,
            net=net if subject.graph is None else None,
            batch_size=how.batch_size,
            noise=noise,
        )
        if original is None:
            return report
        return report.model_copy(update={"original": original.below(scores)})
    theirs = other.scores(read(other), how, noise)
    against = {
        "against": other.source.name,
        "other": summary(theirs, data.task, seed=how.seed),
        "drop": paired(scores, theirs, seed=how.seed),
    }
    return report.model_copy(update=against)


def _reference(subject: _Subject, other: _Subject | None) -> Network | None:
    """Whose embeddings stand in the place of labels, where a task has none.

    Raises:
        UnsupportedError: if that would be an ONNX file's.
    """
    its = other or subject
    if its.graph is None or not task_of(subject.net).taught:
        return None if other is None or other.graph is not None else other.net
    raise UnsupportedError(
        f"{its.source.name} is an ONNX file: embeddings are compared with those of a network in "
        "torch. Name one with against."
    )
