"""`generate` with a key/value cache says what it says without: in every form, after cutting,
pruning, saving, in padded batches."""

from __future__ import annotations

import gc
import itertools
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny import KINDS, MODELS, network, plain, tiny

from acn_compress import convert, export, finetune, profile, prune, truncate
from acn_compress.checkpoint import write as output
from acn_compress.compression.depth import truncate_checked_
from acn_compress.compression.prune import prune_
from acn_compress.form import LayerKind

MAKERS = [n for n in sorted(MODELS) if hasattr(plain(n), "lm_head") and plain(n).can_generate()]
FORMS: list[tuple[float, LayerKind]] = [
    (1.0, "block"),
    (0.4, "block"),
    (0.0, "block"),
    (0.3, "branch"),
    (0.0, "branch"),
    (0.3, "plain"),
    (0.0, "plain"),
]
families = pytest.mark.parametrize("name", MAKERS)
# a form is the same code in all of them: every one of them in a family of each kind, one in turn in
# the others
FORMED = [
    (name, *form)
    for name, in_turn in zip(MAKERS, itertools.cycle(FORMS[1:]), strict=False)
    for form in (FORMS if name in KINDS else [in_turn])
]
formed = pytest.mark.parametrize(("name", "alpha", "layer"), FORMED)


def prompt(lengths: tuple[int, ...] = (7, 7), seed: int = 0) -> dict[str, torch.Tensor]:
    """Random tokens, padded on the left."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 64, (len(lengths), max(lengths)), generator=generator)
    mask = torch.tensor([[0] * (max(lengths) - n) + [1] * n for n in lengths])
    return {"input_ids": ids * mask, "attention_mask": mask}


def generated(
    model: Any, inputs: dict[str, torch.Tensor], **options: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens of a greedy continuation ([batch, 10]) and the logits they were chosen from ([10,
    batch, vocabulary])."""
    found = model.generate(
        **inputs,
        max_new_tokens=10,
        min_new_tokens=10,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
        **options,
    )
    return found.sequences[:, inputs["input_ids"].shape[1] :], torch.stack(found.logits)


def assert_the_cache_changes_nothing(model: Any, inputs: dict[str, torch.Tensor]) -> None:
    tokens, logits = generated(model, inputs, use_cache=True)
    expected, uncached = generated(model, inputs, use_cache=False)
    assert torch.equal(tokens, expected)
    torch.testing.assert_close(logits, uncached, rtol=0, atol=1e-5)
    # and both are what reading the whole text at once says
    whole = torch.cat((inputs["input_ids"], tokens), 1)
    mask = torch.cat((inputs["attention_mask"], torch.ones_like(tokens)), 1)
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    with torch.inference_mode():
        read = model(
            input_ids=whole, attention_mask=mask, position_ids=positions, use_cache=False
        ).logits
    torch.testing.assert_close(read[:, -11:-1].transpose(0, 1), logits, rtol=0, atol=1e-5)


@formed
def test_with_cache_is_without(name: str, alpha: float, layer: LayerKind) -> None:
    assert_the_cache_changes_nothing(tiny(name, alpha, layer).model, prompt())


@formed
def test_a_batch_padded_on_the_left_is_its_rows(name: str, alpha: float, layer: LayerKind) -> None:
    model, inputs = tiny(name, alpha, layer).model, prompt((9, 4, 1))
    assert_the_cache_changes_nothing(model, inputs)
    tokens, logits = generated(model, inputs)
    for row, length in enumerate((9, 4, 1)):
        alone = {k: v[row : row + 1, -length:] for k, v in inputs.items()}
        found, own = generated(model, alone)
        assert torch.equal(found[0], tokens[row])
        torch.testing.assert_close(own[:, 0], logits[:, row], rtol=0, atol=1e-5)


@families
def test_alpha_one_generates_what_the_original_does(name: str) -> None:
    ours, theirs = (generated(m, prompt((9, 4))) for m in (tiny(name).model, plain(name)))
    assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])


@families
@pytest.mark.parametrize(("alpha", "layer"), [(1.0, "block"), (0.3, "branch"), (0.0, "plain")])
def test_cut_pruned_and_loaded_again_it_still_generates(
    name: str, alpha: float, layer: LayerKind, tmp_path: Path
) -> None:
    net = tiny(name, alpha, layer)
    prune_(net, 0.4, refit=False)
    assert_the_cache_changes_nothing(net.model, prompt((6, 3)))
    truncate_checked_(net, 2)
    assert_the_cache_changes_nothing(net.model, prompt((6, 3)))
    output.write(net, tmp_path / "m", source=None, step="test", options={}, report={})
    again = network(tmp_path / "m")
    assert_the_cache_changes_nothing(again.model, prompt((6, 3)))
    found, expected = (generated(n.model, prompt()) for n in (again, net))
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)
    cache = again.model(**prompt(), use_cache=True).past_key_values
    kept = [w.get("heads", 2) for w in again.structure.widths or ()]  # some keep both
    assert [layer.keys.shape[1] for layer in cache.layers] == kept


@families
def test_depth_is_told_once_everywhere(name: str) -> None:
    net = tiny(name, 0.0)
    truncate_checked_(net, 2)
    assert net.config.num_hidden_layers == 2
    assert len(getattr(net.config, "layer_types", None) or [0, 0]) == 2
    blocks = net.blocks
    told = [{m.layer_idx for m in b.modules() if hasattr(m, "layer_idx")} for b in blocks]
    assert told == [{0}, {1}]


def test_every_block_keeps_its_own_window() -> None:
    """Qwen's first block sees everything, the next ones five tokens: the masks of the model's loop
    must reach their blocks."""
    far, near = prompt((20,), seed=1), prompt((20,), seed=1)
    near["input_ids"][0, 0] = 3 if near["input_ids"][0, 0] != 3 else 4
    for name, reach in (
        ("qwen2", True),
        ("mistral", False),
    ):  # mistral: three blocks of five tokens reach back 12
        net = tiny(name, 0.4)
        with torch.inference_mode():
            differs = not torch.equal(net(**far).logits[0, -1], net(**near).logits[0, -1])
        assert differs == reach


@families
def test_beams_and_the_auto_class_work(name: str, tmp_path: Path) -> None:
    net = tiny(name, 0.3)
    beams = [
        net.model.generate(**prompt(), max_new_tokens=6, num_beams=3, do_sample=False, use_cache=on)
        for on in (True, False)
    ]
    assert torch.equal(*beams)
    output.write(net, tmp_path / "m", source=None, step="test", options={}, report={})
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    assert type(again) is type(net.model)
    assert torch.equal(
        again.generate(**prompt(), max_new_tokens=6, do_sample=False),
        net.model.generate(**prompt(), max_new_tokens=6, do_sample=False),
    )


@families
def test_recording_and_reading_out_leave_a_cached_model_as_it_was(name: str) -> None:
    net = tiny(name, 0.3)
    inputs = prompt()
    before = generated(net.model, inputs)
    with torch.inference_mode():
        with net.recording() as prefixes:
            expected = net(**inputs).logits
        with net.injecting(prefixes[-1]):
            assert torch.equal(net(**inputs).logits, expected)
        with net.bypassing([0]):
            assert not torch.equal(net(**inputs).logits, expected)
    assert len(prefixes) == 4
    assert torch.equal(generated(net.model, inputs)[1], before[1])


def test_a_pass_keeps_nothing_alive() -> None:
    net, held = tiny("llama", 0.0), []
    block = net.blocks[-1]
    block.register_forward_hook(lambda module, arguments, found: held.append(weakref.ref(found[1])))
    gc.disable()  # a cycle would live on until the collector comes
    try:
        net.model(**prompt(), use_cache=False)
        assert held[0]() is None
    finally:
        gc.enable()


def words() -> Any:
    """A tokenizer whose word wI is token I."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    found = Tokenizer(models.WordLevel({f"w{i}": i for i in range(64)}, unk_token="w3"))
    found.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=found, pad_token="w0", bos_token="w1", eos_token="w2"
    )


def test_the_pipeline_continues_a_text(tmp_path: Path) -> None:
    net = tiny("llama", 0.3)
    output.write(
        net, tmp_path / "m", source=None, step="test", options={}, report={}, processor=words()
    )
    found = transformers.pipeline("text-generation", str(tmp_path / "m"))(
        "w5 w6 w7", max_new_tokens=5, do_sample=False
    )
    ids = torch.tensor([[5, 6, 7]])
    expected = net.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=5, do_sample=False
    )
    assert found[0]["generated_text"].replace(" ", "") == words().decode(expected[0]).replace(
        " ", ""
    )


@pytest.mark.parametrize("name", ["gpt2", "qwen2"])
@pytest.mark.long
def test_a_language_model_goes_the_whole_way(name: str, tmp_path: Path) -> None:
    """It learns to count, is converted, profiled, cut, pruned with recovery and exported; what is
    left generates, cached or not."""
    text = tmp_path / "counting.txt"
    text.write_text("\n".join(" ".join(f"w{4 + i}" for i in range(20)) for _ in range(20)) + "\n")
    output.write(
        tiny(name),
        tmp_path / "start",
        source=None,
        step="test",
        options={},
        report={},
        processor=words(),
    )
    options: dict[str, Any] = {
        "batch_size": 8,
        "lr": 1e-2,
        "max_length": 16,
        "eval_data": str(text),
    }
    learned = finetune(tmp_path / "start", tmp_path / "trained", str(text), epochs=12, **options)
    assert learned["after"]["metric"] == "token_accuracy"
    assert learned["after"]["value"] > learned["before"]["value"] + 0.3
    converted = convert(tmp_path / "trained", tmp_path / "acn", str(text), epochs=4, **options)
    assert converted["structure"]["form"] == "acn"
    assert len(profile(tmp_path / "acn", data=str(text), max_length=16)["depths"]) == 4
    truncate(tmp_path / "acn", tmp_path / "cut", depth=2)
    pruned = prune(
        tmp_path / "cut",
        tmp_path / "pruned",
        target_sparsity=0.3,
        data=str(text),
        epochs=1,
        **options,
    )
    assert "drop" in pruned and pruned["achieved"] <= 0.3
    assert export(tmp_path / "pruned", tmp_path / "onnx")["agreement"] == 1.0
    assert_the_cache_changes_nothing(network(tmp_path / "pruned").model, prompt((6, 3)))
