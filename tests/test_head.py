"""The layer that answers, solved for behind a refit: it is found again, it makes a cut network
answer more like the whole one, and it stays where nobody asked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from test_refit import Inputs, error
from tiny import MODELS, outputs, tiny
from torch import nn

from acn_compress.compression import head, refit
from acn_compress.compression.calibration import Batches, RandomInputs, spread
from acn_compress.compression.prune import prune_
from acn_compress.network.network import Network

ONE = (  # of every way in which answers are read: a token, all tokens, two numbers of each, a mean
    *("bert", "bert-tokens", "bert-answers", "roberta", "modernbert", "mistral-tokens"),
    *("cliptext", "vit", "mixer", "wav2vec2"),
)
NONE = ("bert-features", "bert-masked", "gpt2", "llama-tied", "gpt2-classification", "deit-teacher")


def ends(net: Network, whole: Network, data: Inputs, known: bool) -> Iterator[head.End]:
    """The batches; `known`: with what comes out of both stacks."""
    for number, given in enumerate(spread(net, data)):
        y: list[torch.Tensor] = []
        for n in (net, whole) if known else ():
            with torch.inference_mode(), n.recording() as prefixes:
                n(**given)
            y.append(prefixes[-1])
        yield head.End(number, given, *y)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("name", ONE)
def test_a_layer_that_answers_is_found_again(name: str, known: bool) -> None:
    whole = tiny(name)
    net, data = whole.twin(), Inputs(whole)
    layer = net.model.get_submodule(str(head.answering(net)))
    assert isinstance(layer, nn.Linear)
    layer.weight = nn.Parameter(layer.weight + 0.3 * torch.randn_like(layer.weight))
    before, untouched = error(net, whole, data), outputs(whole, **data.all)
    with torch.no_grad():
        assert head.solve_(net, whole, ends(net, whole, data, known)) > 0
    assert error(net, whole, data) < 1e-3 * before
    assert torch.equal(outputs(whole, **data.all), untouched)


@pytest.mark.parametrize("name", ["bert", "vit", "mixer"])
def test_a_refit_solves_for_it_where_there_are_examples(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tiny(name)
    cut, data = whole.twin(), Inputs(whole)
    prune_(cut, 0.7, score="magnitude", refit=False)
    answers, found = str(head.answering(whole)), dict[str, float]()
    looked_at: dict[str, Batches] = {"examples": data, "random": RandomInputs(whole, 256, 1)}
    for kind, rows in looked_at.items():
        net = cut.twin()
        refit.refit_(net, whole, rows)
        found[kind] = error(net, whole, data)
        own, was = (n.model.get_submodule(answers).weight for n in (net, whole))
        assert torch.equal(own, was) == (kind == "random")
    monkeypatch.setattr(head, "solve_", lambda *_: 0.0)
    net = cut.twin()
    refit.refit_(net, whole, data)
    assert found["examples"] < error(net, whole, data)


@pytest.mark.parametrize("name", NONE)
def test_words_and_answers_of_several_layers_are_not_solved_for(name: str) -> None:
    assert head.answering(tiny(name)) is None


def test_every_other_head_is_known() -> None:
    without = {name for name in MODELS if head.answering(tiny(name)) is None}
    heads = {n for n in MODELS if type(tiny(n).model).__name__.endswith("Classification")}
    assert without & heads == {"gpt2-classification", "timmvit-distilled"}
