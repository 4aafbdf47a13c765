"""Latency tables: what they say of a machine whose times are known, and what holds on any."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import tiny
import torch

from acn_compress.backends import BACKENDS
from acn_compress.backends.base import Checkpoint, Load, OnnxFile, Variant
from acn_compress.backends.latency import Stopwatch, clock_for
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.source import Source
from acn_compress.errors import ConfigError
from acn_compress.measure.latency import Curve, LatencyTable, Sizes
from acn_compress.network import widths
from acn_compress.network.network import Network

OUTSIDE, FIXED, LOAD = 0.03, 0.02, Load(batch=2, length=12)
UNIT = {"heads": 0.004, "mlp": 0.0005, "tokens": 0.001}


@dataclass
class Machine:
    """A backend whose calls take seconds that are known: a share per block and unit. Every network
    that is timed has to run first, with the widths that its structure tells."""

    now: float = 0.0
    made: list[Sizes] = field(default_factory=list)

    def variant(self, subject: OnnxFile | Checkpoint, load: Load, scratch: Path) -> Variant | None:
        assert isinstance(subject, Checkpoint)
        assert tiny.outputs(subject.net, **subject.inputs).isfinite().all()
        self.made.append(tuple(widths.counts(subject.net)))
        assert subject.net.structure.widths == self.made[-1]
        seconds = self.seconds(self.made[-1])
        return Variant("", "machine", lambda: self.work(seconds), 0)

    def quantized(self, subject: Checkpoint, load: Load, scratch: Path) -> None:
        """There is none."""

    def work(self, seconds: float) -> None:
        self.now += seconds

    def seconds(self, sizes: Sizes) -> float:
        return OUTSIDE + sum(self.block(block) for block in sizes)

    def block(self, block: Mapping[str, int]) -> float:
        return FIXED + sum(UNIT[name] * n for name, n in block.items())


class Curved(Machine):
    """Seconds that do not grow evenly."""

    def block(self, block: Mapping[str, int]) -> float:
        return FIXED + sum(UNIT[name] * math.pow(n, 1.5) for name, n in block.items())


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Known to the package as a backend."""
    found = Machine()
    monkeypatch.setitem(BACKENDS, "machine", found)
    return found


def measured(net: Network, source: Source, machine: Machine) -> LatencyTable:
    return Stopwatch(net, source, LOAD, "machine", clock=lambda: machine.now).table(2)


def drawn(sizes: Sizes, depth: int, seed: int) -> Sizes:
    rng = random.Random(seed)
    return tuple({name: rng.randint(1, n) for name, n in block.items()} for block in sizes[:depth])


@pytest.mark.parametrize("name", tiny.KINDS)
def test_an_additive_machine_is_predicted_exactly(
    name: str, machine: Machine, tmp_path: Path
) -> None:
    net = tiny.tiny(name)
    source = find_source(tiny.saved(net, tmp_path / name))
    before = tiny.outputs(net)
    table, sizes = measured(net, source, machine), tuple(widths.counts(net))
    for seed, depth in enumerate((1, 2, 3, 3)):
        cut = drawn(sizes, depth, seed)
        assert table.milliseconds(cut) == pytest.approx(1000 * machine.seconds(cut))
    assert table.outside == pytest.approx(1000 * OUTSIDE)
    assert torch.equal(tiny.outputs(net), before) and tuple(widths.counts(net)) == sizes


@pytest.mark.parametrize("seed", range(3))
def test_a_network_whose_blocks_differ_is_predicted_as_measured(
    seed: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    net, machine = tiny.tiny("bert-features"), Curved()
    monkeypatch.setitem(BACKENDS, "machine", machine)
    sizes = drawn(tuple(widths.counts(net)), 3, seed)
    widths.resize_(net, sizes)
    net.set_structure_(net.structure.changed(widths=sizes))
    table = measured(net, Source("bert", tmp_path, ()), machine)
    assert table.milliseconds(sizes) == pytest.approx(1000 * machine.seconds(sizes))


def test_measured_points_are_told_as_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    net, machine = tiny.tiny("gpt2"), Curved()
    monkeypatch.setitem(BACKENDS, "machine", machine)
    table = measured(net, Source("gpt2", tmp_path, ()), machine)
    assert len(machine.made) == 6  # whole, first block, two points of both widths
    for sizes in machine.made:
        assert table.milliseconds(sizes) == pytest.approx(1000 * machine.seconds(sizes))


def test_a_deep_network_is_cut_at_some_of_its_blocks(machine: Machine, tmp_path: Path) -> None:
    import transformers as hf

    from acn_compress.network.adopt import adopt

    torch.manual_seed(0)
    config = hf.BertConfig(**{**tiny.SHAPE, **tiny.TEXT, "num_hidden_layers": 9})
    net = adopt(hf.BertModel(config).eval())
    table = measured(net, Source("deep", tmp_path, ()), machine)
    assert [len(sizes) for sizes in machine.made] == [9, 1, 6, 6, 6, 6, 6]
    cut = drawn(tuple(widths.counts(net)), 7, 0)
    assert table.milliseconds(cut) == pytest.approx(1000 * machine.seconds(cut))


def test_of_a_network_of_one_block_all_is_the_block(machine: Machine, tmp_path: Path) -> None:
    net = tiny.tiny("bert-features")
    net.truncate_(1)
    table = measured(net, Source("one", tmp_path, ()), machine)
    assert table.outside == 0
    cut = drawn(tuple(widths.counts(net)), 1, 0)
    assert table.milliseconds(cut) == pytest.approx(1000 * machine.seconds(cut))


def test_torch_is_timed_in_milliseconds_that_survive_json(tmp_path: Path) -> None:
    net = tiny.tiny("llama")
    table = Stopwatch(net, Source("llama", tmp_path, ()), LOAD, "torch").table(1)
    assert LatencyTable.model_validate_json(table.model_dump_json()) == table
    assert (table.backend, table.batch, table.length, table.threads) == ("torch", 2, 12, 1)
    sizes = tuple(widths.counts(net))
    apart = sum(map(table.block, sizes)) + table.outside
    assert 0 < table.milliseconds(sizes) == pytest.approx(apart)


def test_with_one_thread_waiting_is_not_counted() -> None:
    one, two = clock_for(1), clock_for(2)
    before = one(), two()
    time.sleep(0.05)
    assert one() - before[0] < 0.04 < two() - before[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "mixer", "timmvit"])
def test_onnx_runtime_is_timed(name: str, tmp_path: Path) -> None:
    net = tiny.tiny(name)
    source = find_source(tiny.saved(net, tmp_path / name))
    table = Stopwatch(net, source, LOAD, "onnx").table(1)
    assert table.milliseconds(tuple(widths.counts(net))) > 0


@pytest.mark.parametrize("seed", range(5))
def test_more_units_are_never_faster_however_noisy_the_points(seed: int) -> None:
    rng = random.Random(seed)
    points: dict[float, float] = {n: n + rng.uniform(-20, 20) for n in (2, 8, 16, 32)}
    curve = Curve.through(points)
    times = [curve(n) for n in range(50)]
    assert times[0] == 0 and times == sorted(times)


def test_a_curve_goes_through_points_that_rise() -> None:
    points: dict[float, float] = {1: 5.0, 3: 6.0, 6: 10.0, 12: 10.0}
    curve = Curve.through(points)
    assert {n: curve(n) + 4.5 for n in points} == pytest.approx(points)
    assert curve(2) == pytest.approx(1.0) and curve(24) == curve(12)


def test_a_unit_costs_what_the_block_loses_with_it(machine: Machine, tmp_path: Path) -> None:
    table = measured(tiny.tiny("gpt2"), Source("gpt2", tmp_path, ()), machine)
    with_it, without = (table.block({"heads": 3, "mlp": n}) for n in (9, 8))
    assert table.unit("mlp", 9) == pytest.approx(with_it - without)
    assert table.block({"mlp": 8}) == pytest.approx(table.block({"heads": 0, "mlp": 8}))


def test_what_no_table_can_say(machine: Machine, tmp_path: Path) -> None:
    net, source = tiny.tiny("gpt2"), Source("gpt2", tmp_path, ())
    with pytest.raises(ConfigError, match=r"backend 'tensorrt' is not known\. Known: torch, onnx"):
        Stopwatch(net, source, LOAD, "tensorrt")
    with pytest.raises(ConfigError, match="rounds is 0, expected 1 or more"):
        Stopwatch(net, source, LOAD, "machine").table(0)
    table = measured(net, source, machine)
    with pytest.raises(ConfigError, match=r"no width 'tokens'.*measured for: heads, mlp\."):
        table.milliseconds([{"tokens": 3}])
    with pytest.raises(ConfigError, match="cannot keep -1 of 'mlp', expected 0 or more"):
        table.unit("mlp", 0)
