"""The laws, over every model class in `tiny.py`: whoever adds an architecture learns here whether
it is right."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny import FAMILIES, KINDS, MODELS, answer, network, outputs, plain, saved, tiny
from torch import Tensor

from acn_compress.checkpoint import load as checkpoint
from acn_compress.checkpoint.find import find_source
from acn_compress.compression.depth import truncate_checked_
from acn_compress.compression.prune import prune_
from acn_compress.compression.writers import writers_of
from acn_compress.errors import UnsupportedError
from acn_compress.form import LAYER_KINDS, LayerKind
from acn_compress.measure.readouts import readout
from acn_compress.network.network import first_output, of_images
from acn_compress.onnx.compare import compare, expected
from acn_compress.onnx.inputs import inputs_for
from acn_compress.onnx.session import Session
from acn_compress.onnx.trace import Traced
from acn_compress.onnx.write import write_onnx
from acn_compress.targets.torch_export import running, save_program
from acn_compress.tasks import TASKS

NAMES = sorted(MODELS)
FORMS: list[tuple[float, LayerKind]] = [
    (1.0, "block"),
    (0.4, "block"),
    (0.0, "block"),
    (0.3, "branch"),
    (0.0, "branch"),
    (0.3, "plain"),
    (0.0, "plain"),
]
# what a form does to a block is one piece of code, and files know it as data: one family of each
# kind meets every form, and every other model one of them, in turn
FORMED = [
    (name, *form)
    for name, in_turn in zip(NAMES, itertools.cycle(FORMS[1:]), strict=False)
    for form in (FORMS if name in KINDS else [in_turn])
]
formed = pytest.mark.parametrize(("name", "alpha", "layer"), FORMED)
models = pytest.mark.parametrize("name", NAMES)
families = pytest.mark.parametrize("name", FAMILIES)


@models
@pytest.mark.parametrize("layer", LAYER_KINDS)
def test_alpha_one_is_the_original_bit_for_bit(name: str, layer: LayerKind) -> None:
    net, original = tiny(name, 1.0, layer), plain(name)
    inputs = net.example_inputs(batch=3)
    if "attention_mask" in inputs:
        inputs["attention_mask"][1, -5:] = 0
    assert torch.equal(outputs(net, **inputs), answer(original, **inputs))
    assert list(net.model.state_dict()) == list(original.state_dict())
    assert isinstance(net.model, type(original))


@models
def test_alpha_one_is_the_original_in_training_too(name: str) -> None:
    """What is dropped is part of a branch: the same draws give the same answer."""
    net, own = tiny(name), plain(name)
    inputs, found = net.example_inputs(batch=3), []
    for model in (net.model, own):
        _drop_(model)
        torch.manual_seed(0)
        with torch.no_grad():
            found.append((first_output(model(**inputs)), torch.get_rng_state()))
    (ours, drawn), (theirs, drawn_there) = found
    assert torch.equal(ours, theirs) and torch.equal(drawn, drawn_there)


def _drop_(model: Any) -> None:
    """Put a model into training mode, with every dropout it has at 0.3."""
    for module in model.train().modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.3
        for field, value in vars(module).items():
            if isinstance(value, float) and ("dropout" in field or field == "drop_prob"):
                setattr(module, field, 0.3)


@models
def test_a_layer_moves_the_stream_by_what_its_adapter_says(name: str) -> None:
    """`scale`, `norm` and `along_tokens` of a `Cut`, and the branch that its width lies in."""
    net = tiny(name)
    net.model.double()
    inputs = net.example_inputs()
    call, block = net.calls(**inputs)[1], net.blocks[1]
    for writer in writers_of(net, 1):
        branch = net.family.branches(block, *call.args, **call.kwargs)[writer.branch]
        wrote: list[Tensor] = []

        def move(layer: Any, x: Any, out: Tensor, wrote: list[Tensor] = wrote) -> Tensor:
            moved = out + torch.linspace(-1, 1, out.numel()).view_as(out) if wrote else out
            wrote.append(moved)
            return moved

        with torch.inference_mode(), net.evaluating(), hooked(writer.layer, move):
            here, there = branch.f(call.stream), branch.f(call.stream)
        said = writer.into_stream(wrote[1], wrote[0])
        torch.testing.assert_close(said, there - here, rtol=1e-6, atol=1e-9)


@contextmanager
def hooked(layer: Any, hook: Any) -> Iterator[None]:
    """Inside, a layer has a hook."""
    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@models
def test_heads_are_those_of_the_config(name: str) -> None:
    """In groups that share keys and values, where there are such."""
    net = tiny(name)
    config = of_images(net.config)
    counts = [getattr(config, f, None) for f in ("num_key_value_heads", "num_attention_heads")]
    groups = min((n for n in counts if n is not None), default=4)  # timm's config says none
    for block in net.blocks:
        found = net.family.widths(block)
        if name in HEADLESS:
            assert "heads" not in found
        else:
            assert found["heads"].units == groups


HEADLESS = {"mixer", "mpnet", "mpnet-masked", "beit", "timmbeit", "timmbeit-shared", "eva"}
HEADLESS |= {"eva-dinov3", "olmo2", "phi3"}
"""Who have none, or whose attention cannot be made narrower."""


Call = tuple[tuple[Any, ...], dict[str, Any]]


def written_out(net: Any, x: Tensor, calls: list[Call], alpha: float, layer: LayerKind) -> Tensor:
    """y_L by the definition: x_0 + sum F_i, with h_i = alpha h_{i-1} + F_i. No shortcut, no use of
    form.py.

    `calls` has what the model's loop passes to each block beside the stream.
    """
    h = y = x
    for block, (arguments, keywords) in zip(net.blocks, calls, strict=True):
        branches = net.family.branches(block, *arguments, **keywords)
        inner = alpha if layer == "plain" else 1.0
        groups = [[b] for b in branches] if layer == "branch" else [list(branches)]
        for group in groups:
            if (
                group[0].norm is None
            ):  # F is what the branches add, each reading the stream inside the block
                read, added = h, []
                for number, branch in enumerate(group):
                    added.append(branch.f(read))
                    read = (
                        (inner * h if layer == "plain" else h) + sum(added)
                        if number + 1 < len(group)
                        else read
                    )
                out = (
                    alpha * h
                    + added[-1]
                    + (alpha if layer == "plain" else 1.0) * sum(added[:-1], torch.zeros(()))
                )
            else:
                out = h
                for number, branch in enumerate(group):
                    out = branch.norm((alpha if number == 0 else inner) * out + branch.f(out))
            y = y + out - alpha * h
            h = out
    return y


@formed
def test_the_stack_is_the_written_out_loop(name: str, alpha: float, layer: LayerKind) -> None:
    net = tiny(name, alpha, layer)
    net.model.double()
    net.config.use_cache = False  # a cache would hold this pass when the loop is written out
    calls: list[Call] = []

    def listen(block: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        calls.append((arguments[2:], keywords))  # after the stream and what is held

    for block in net.blocks:
        block.register_forward_pre_hook(listen, with_kwargs=True)
    with net.recording() as prefixes:
        outputs(net, **net.example_inputs(batch=2))
    with torch.inference_mode():
        expected = written_out(net, prefixes[0], calls[:], alpha, layer)
    torch.testing.assert_close(prefixes[-1], expected, rtol=1e-9, atol=1e-9)
    assert float((prefixes[-1] - prefixes[0]).abs().max()) > 1e-3  # the blocks do something


@formed
def test_saved_and_loaded_it_is_the_same_bit_for_bit(
    name: str, alpha: float, layer: LayerKind, tmp_path: Path
) -> None:
    net = tiny(name, alpha, layer)
    again = network(saved(net, tmp_path / "m"))
    assert again.structure == net.structure
    inputs = net.example_inputs(batch=3)
    assert torch.equal(outputs(again, **inputs), outputs(net, **inputs))
    for key, value in net.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[key])


@models
def test_transformers_itself_loads_it_after_import(name: str, tmp_path: Path) -> None:
    net = tiny(name, 0.0)
    saved(net, tmp_path / "m")
    config = type(transformers.AutoConfig.from_pretrained(tmp_path / "m"))
    assert config is type(net.config)
    autos = (
        getattr(transformers, a)
        for a in (task.auto_class for task in TASKS.values())
        if type(net.model) in _classes(getattr(transformers, a)._model_mapping.get(config, ()))
    )
    again = next(autos, type(net.model)).from_pretrained(tmp_path / "m").eval()
    inputs = net.example_inputs(batch=3)
    assert torch.equal(answer(again, **inputs), outputs(net, **inputs))


def _classes(found: Any) -> tuple[Any, ...]:
    return found if isinstance(found, tuple) else (found,)


@formed
def test_cutting_is_reading_out_at_that_depth(
    name: str, alpha: float, layer: LayerKind, tmp_path: Path
) -> None:
    net = tiny(name, alpha, layer)
    whole = net.copy()
    inputs = net.example_inputs(batch=3)
    with torch.inference_mode():
        truncate_checked_(net, 3)
        assert torch.equal(outputs(net, **inputs), outputs(whole, **inputs))
        with whole.recording() as prefixes:
            whole(**inputs)
        read = first_output(readout(whole, prefixes[2], dict(inputs)))
        truncate_checked_(net, 2)  # asserts mask == slice itself
    torch.testing.assert_close(outputs(net, **inputs), read, rtol=0, atol=1e-6)
    again = network(saved(net, tmp_path / "m"))
    assert torch.equal(outputs(again, **inputs), outputs(net, **inputs))
    assert len(again.blocks) == 2
    assert again.structure.blocks == (0, 1) and again.parameters < whole.parameters


@pytest.mark.parametrize(
    ("name", "alpha"), [*((name, 1.0) for name in NAMES), *((name, 0.0) for name in KINDS)]
)
def test_pruned_truncated_saved_and_loaded_it_is_still_the_same(
    name: str, alpha: float, tmp_path: Path
) -> None:
    # test_refit.py has every model and every form
    net, refit = tiny(name, alpha), name in KINDS and alpha == 1.0
    report = prune_(net, 0.4, refit=refit)  # asserts cut == masked itself
    assert 0 < report["achieved"] <= 0.4
    truncate_checked_(net, 2)
    again = network(saved(net, tmp_path / "m"))
    inputs = net.example_inputs(batch=3)
    assert torch.equal(outputs(again, **inputs), outputs(net, **inputs))
    assert again.structure.widths == tuple(report["widths"][:2])
    further = prune_(again, 0.2, refit=False)
    assert further["parameters_after"] < report["parameters_after"]


@formed
def test_gradients_reach_every_parameter(name: str, alpha: float, layer: LayerKind) -> None:
    net = tiny(name, alpha, layer)
    net.model.train()
    first_output(net(**net.example_inputs())).square().mean().backward()
    own = plain(name).train()
    first_output(own(**net.example_inputs())).square().mean().backward()
    without = {
        n for n, p in net.model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    }
    assert without == {
        n for n, p in own.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    }


@families
def test_gradient_checkpointing_changes_no_gradient_or_is_refused(name: str) -> None:
    found = []
    for on in (False, True):
        net = tiny(name, 0.0)
        net.model.train()
        for module in net.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        torch.manual_seed(0)
        try:
            if on:
                net.model.activation_checkpointing_enable({"use_reentrant": False})
            first_output(net(**net.example_inputs())).square().mean().backward()
        except (UnsupportedError, ValueError) as error:  # ours or theirs
            assert on and not net.family.checkpointing and "checkpointing" in str(error)
            return
        found.append({n: p.grad for n, p in net.model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for key in found[0]:
        torch.testing.assert_close(found[0][key], found[1][key], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "dtype"),
    list(zip(NAMES, itertools.cycle([torch.bfloat16, torch.float16]), strict=False)),
)
def test_half_precision_stays_what_it_is(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    net = tiny(name, 0.0)
    net.model.to(dtype)
    saved(net, tmp_path / "m")
    again = network(tmp_path / "m")
    assert {p.dtype for p in again.model.parameters()} == {dtype} and again.dtype == dtype
    assert find_source(tmp_path / "m").bytes() < 0.8 * sum(
        4 * p.numel() for p in again.model.parameters()
    )
    exact = outputs(tiny(name, 0.0))
    assert float((outputs(again).float() - exact).abs().max()) < 0.1 * max(
        1.0, float(exact.abs().max())
    )


@pytest.mark.parametrize(
    ("name", "alpha"), list(zip(KINDS, itertools.cycle([0.0, 0.3, 1.0]), strict=False))
)
@pytest.mark.long
def test_torch_compile_gives_the_same(name: str, alpha: float) -> None:
    net = tiny(name, alpha)
    inputs = net.example_inputs()
    expected = outputs(net, **inputs)
    with torch.no_grad():
        compiled = torch.compile(net.model, backend="aot_eager")
        torch.testing.assert_close(first_output(compiled(**inputs)), expected, rtol=0, atol=1e-5)  # type: ignore[no-untyped-call]


# what an ONNX file is written from: one form each, so that all forms, cuts and widths are met
# across the families
ONNX_FORMS: list[tuple[float, LayerKind]] = [
    (0.0, "block"),
    (0.3, "block"),
    (0.0, "branch"),
    (0.0, "plain"),
    (0.4, "plain"),
    (1.0, "block"),
]


# an export takes seconds, and most of it is the same for all: one of texts and one of images are
# here at once, one of each kind and those whose loops, masks or heads are like no other's are long,
# the rest is slow
AT_ONCE = {"bert", "timmvit"}
ALWAYS = {*KINDS, "bert-answers", "deit-teacher", "llama-tied", "beit", "clipvision", "deberta"}
ALWAYS |= {"modernbert", "mpnet", "timmvit"}
ALONE = {*KINDS} - {"gemma3", "qwen3"}


def onnx_marks(name: str) -> list[pytest.MarkDecorator]:
    """When a model is exported."""
    if name in AT_ONCE:
        return []
    return [pytest.mark.long if name in ALWAYS else pytest.mark.slow]


ONNX_CASES = [
    pytest.param(name, form, marks=onnx_marks(name))
    for name, form in zip(NAMES, itertools.cycle(ONNX_FORMS), strict=False)
]


@pytest.mark.parametrize(("name", "form"), ONNX_CASES)
def test_onnx_equals_torch(name: str, form: tuple[float, LayerKind], tmp_path: Path) -> None:
    net = tiny(name, *form)
    prune_(net, 0.3, score="magnitude", refit=False)
    truncate_checked_(net, 2)
    source = find_source(saved(net, tmp_path / "m"))
    report = write_onnx(
        checkpoint.load_source(source), tmp_path / "model.onnx", source
    )  # compares in ONNX Runtime itself
    assert (
        report["max_difference"] <= 1e-4
        and report["agreement"] == 1.0
        and len(report["compared"]) >= 4
    )


UNWRITABLE = "gemma3-embedding"  # torch traces its mask and cannot write it
# decoders are traced with their cache for ONNX, which is the harder case
PROGRAMS = [
    pytest.param(name, form, marks=[] if name in ALONE else [pytest.mark.slow])
    for name, form in zip(NAMES, itertools.cycle(ONNX_FORMS), strict=False)
]


@pytest.mark.parametrize(("name", "form"), PROGRAMS)
@pytest.mark.long
def test_a_program_of_torch_export_equals_torch(
    name: str, form: tuple[float, LayerKind], tmp_path: Path
) -> None:
    net = tiny(name, *form)
    prune_(net, 0.3, score="magnitude", refit=False)
    traced, file = Traced(net, caching=False), tmp_path / "model.pt2"
    if name == UNWRITABLE:
        with pytest.raises(UnsupportedError, match="cannot write the program"):
            save_program(traced, file, name, {})
        return
    save_program(traced, file, name, {})
    found = compare(expected(traced, 0), running(file), traced.outputs, tolerance=1e-5)
    assert found.agreement == 1.0 and len(found.compared) >= 4


@pytest.mark.parametrize(
    ("name", "dtype"), [("bert", torch.bfloat16), ("gpt2", torch.float16), ("mixer", torch.float16)]
)
@pytest.mark.long
def test_onnx_keeps_half_precision_weights_and_computes_in_float32(
    name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    net = tiny(name, 0.3)
    net.model.to(dtype)
    prune_(net, 0.3, score="magnitude", refit=False)
    truncate_checked_(net, 2)
    source = find_source(saved(net, tmp_path / "m"))
    report = write_onnx(checkpoint.load_source(source), tmp_path / "model.onnx", source)
    assert report["max_difference"] <= 1e-4
    assert (
        report["parameter_bytes"] < 2.3 * net.parameters + 4096
    )  # norms and the like are in float32
    net.model.float()
    running, inputs = Session(tmp_path / "model.onnx"), inputs_for(net, 3, 12, 0)
    found = running.run(report["outputs"][:1], {k: v.numpy() for k, v in inputs.items()})[0]
    expected_ = outputs(net, **inputs)
    if (
        found.ndim == 3
    ):  # a decoder says something else to padding, whose places it counts otherwise
        counts = inputs["attention_mask"].bool()
        found, expected_ = found[counts.numpy()], expected_[counts]
    torch.testing.assert_close(torch.from_numpy(found), expected_, rtol=1e-4, atol=1e-4)
