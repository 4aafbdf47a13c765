"""Which blocks a shallower network starts from: what is compared is what is kept, the better one is
taken, and choosing is paid for."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from tiny import FAMILIES, IMAGE, SHAPE, network, outputs, tiny
from transformers import ViTConfig, ViTForImageClassification

from acn_compress import compare, convert, finetune, run
from acn_compress.checkpoint import load as checkpoint
from acn_compress.checkpoint.files import read_json
from acn_compress.checkpoint.find import find_source
from acn_compress.compression.blocks import weighed_on
from acn_compress.compression.start import cut_
from acn_compress.compression.writers import writers_of
from acn_compress.data.splits import training_split
from acn_compress.errors import ConfigError
from acn_compress.measure.budget import equal_epochs, training_flops
from acn_compress.network.adopt import adopt
from acn_compress.network.network import Network
from acn_compress.options import Keep, Trained
from acn_compress.tasks import features

JOB = Trained(data="digits")
POST_NORM = ("bert", "distilbert", "mpnet")


def kept_of(net: Network) -> tuple[int, ...]:
    return net.structure.blocks


@pytest.mark.parametrize("name", FAMILIES)
def test_blocks_left_out_are_blocks_removed(name: str) -> None:
    net = tiny(name)
    with torch.no_grad(), net.bypassing([1]):
        without = outputs(net)
    net.keep_((0, 2))
    assert torch.equal(outputs(net), without)


def test_auto_spreads_the_blocks_of_a_post_norm_network_that_is_refitted() -> None:
    net = tiny("bert")
    cut_(net, 2, "auto", JOB, None, refitted=True, examples=1)
    assert kept_of(net) == (0, 2)


@pytest.mark.parametrize("name", POST_NORM)
def test_auto_keeps_the_first_blocks_of_a_post_norm_network(name: str) -> None:
    net = tiny(name)
    assert cut_(net, 2, "auto", JOB, None) == 0.0 and kept_of(net) == (
        0,
        1,
    )  # without a look at data


def test_evenly_spaced_blocks_have_the_first_and_the_last_among_them() -> None:
    even: tuple[int, ...]
    for depth, even in ((1, (0,)), (2, (0, 2)), (3, (0, 1, 2))):
        net = tiny("vit")
        assert cut_(net, depth, "even", JOB, None) == 0.0 and kept_of(net) == even


def test_best_takes_out_what_changes_the_answers_least(digits_vit: Path) -> None:
    source = find_source(digits_vit)
    whole = checkpoint.load_source(source)
    few = training_split(JOB.part(Trained, limit=weighed_on(whole)), whole, source)
    (batch,) = few.batches(len(few))
    answers = outputs(whole, **features(batch))

    def loss(kept: tuple[int, ...]) -> float:
        net = checkpoint.load_source(source)
        net.keep_(kept)
        now = outputs(net, **features(batch))
        return float(
            torch.nn.functional.kl_div(
                now.log_softmax(-1), answers.softmax(-1), reduction="batchmean"
            )
        )

    pairs = {kept: loss(kept) for kept in itertools.combinations(range(3), 2)}
    assert len(set(pairs.values())) == 3
    pair = min(pairs, key=pairs.__getitem__)
    single = min(((i,) for i in pair), key=loss)
    for depth, kept in ((2, pair), (1, single), (3, (0, 1, 2))):
        net = checkpoint.load_source(source)
        spent = cut_(net, depth, "best", JOB.part(Trained, epochs=0.1), source)
        assert kept_of(net) == kept and (spent > 0) == (depth < 3)


def four_blocks() -> Network:
    """Of which one is a cut deep enough for auto to choose."""
    torch.manual_seed(0)
    config = ViTConfig(**SHAPE | {"num_hidden_layers": 4}, **IMAGE, num_labels=10)
    model = ViTForImageClassification(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.1)
    return adopt(model.eval())


def test_best_takes_out_what_the_others_make_up_for_where_they_will() -> None:
    """It adds the same to every token, which a bias in front of it can as well."""
    spent: dict[bool, float] = {}
    for refitted in (True, False):
        net = tiny("vit")
        for writer in writers_of(net, 1):
            writer.weight.data.zero_()
            writer.layer.bias.data.normal_(0, 3, generator=torch.Generator().manual_seed(0))
        for parameter in (p for k in (0, 2) for p in net.blocks[k].parameters()):
            parameter.data.normal_(0, 0.5, generator=torch.Generator().manual_seed(1))
        spent[refitted] = cut_(net, 2, "best", JOB, None, refitted=refitted)
        assert (1 in kept_of(net)) != refitted
    assert spent[True] > spent[False] > 0


@pytest.mark.long
def test_auto_chooses_only_where_that_is_cheap_beside_the_training(digits_vit: Path) -> None:
    long = JOB.part(Trained, epochs=100)
    assert cut_(network(digits_vit), 1, "auto", long, None) == 0.0  # a third is no deep cut
    whole, best = four_blocks(), four_blocks()
    spent = cut_(best, 1, "best", JOB, None)
    assert kept_of(best) != (0,)
    epoch = len(training_split(JOB, whole, None)) * training_flops(whole, depth=1, teacher_depth=4)
    for epochs, kept in ((10.1 * spent / epoch, kept_of(best)), (9.9 * spent / epoch, (0,))):
        net = four_blocks()
        chosen = cut_(net, 1, "auto", JOB.part(Trained, epochs=epochs), None)
        assert kept_of(net) == kept and (chosen > 0) == (kept != (0,))


@pytest.mark.long
def test_what_a_start_takes_is_paid_for(digits_vit: Path, tmp_path: Path) -> None:
    source = find_source(digits_vit)
    whole = checkpoint.load_source(source)
    budget = JOB.part(Trained, epochs=equal_epochs(whole, 3, depth=2), limit=400)
    spent = cut_(checkpoint.load_source(source), 2, "auto", budget, source, whole, refitted=True)
    report = compare(
        digits_vit,
        data="digits",
        epochs=3,
        batch_size=64,
        limit=400,
        eval_limit=50,
        depths=(2,),
        out=str(tmp_path / "c"),
        seeds=1,
        routes=("drop-last", "acn-cut-first"),
    )
    plain, chosen = (r["epochs"] for r in report["runs"])
    examples = len(training_split(budget, whole, source))
    assert (plain - chosen) * examples * training_flops(
        whole, depth=2, teacher_depth=3
    ) == pytest.approx(spent, rel=0.01)


@pytest.mark.usefixtures("no_table")
@pytest.mark.long
def test_the_baseline_of_a_run_is_given_what_choosing_took(
    digits_vit: Path, tmp_path: Path
) -> None:
    def epochs(keep: Keep) -> float:
        path = tmp_path / f"{keep}.yaml"
        path.write_text(
            f"source: {digits_vit}\ndata: digits\nlimit: 400\neval_limit: 50\n"
            f"steps:\n  - convert: {{depth: 2, keep: {keep}, refit: false, epochs: 0.5}}\n"
        )
        found = run(path, out=str(tmp_path / keep))
        provenance = read_json(Path(found["baseline"]) / "provenance.json")
        assert provenance is not None
        trained: float = provenance["steps"][-1]["options"]["epochs"]
        return trained

    source = find_source(digits_vit)
    spent = cut_(checkpoint.load_source(source), 2, "best", JOB.part(Trained, limit=400), source)
    price = 400 * training_flops(checkpoint.load_source(source), depth=2, teacher_depth=3)
    assert epochs("best") - epochs("first") == pytest.approx(spent / price, abs=1e-3)


@pytest.mark.long
def test_what_was_kept_is_written_and_loads_again(digits_vit: Path, tmp_path: Path) -> None:
    for step, options in ((convert, {"alpha_end": 0.5}), (finetune, {"teacher": digits_vit})):
        out = tmp_path / step.__name__
        report = step(digits_vit, out, "digits", depth=2, keep="even", epochs=0.1, **options)
        structure = report["structure"]
        assert structure.blocks == (0, 2) and structure.source_blocks == 3
        assert kept_of(network(out)) == (0, 2)
        provenance = read_json(out / "provenance.json")
        assert provenance is not None and provenance["steps"][-1]["options"]["keep"] == "even"
    with pytest.raises(
        ConfigError, match="keep is 'last', expected: 'first', 'even', 'best' or 'auto'"
    ):
        convert(digits_vit, tmp_path / "x", "digits", depth=2, keep="last", epochs=0.1)  # type: ignore[arg-type]
