"""What a checkpoint says is held against what it holds, no code of it runs, and whatever is wrong
with a file of it is one line."""

from __future__ import annotations

import builtins
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from tiny import answer, network, outputs, plain, saved, tiny

from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.processors import load_image_processor, load_tokenizer
from acn_compress.checkpoint.provenance import history
from acn_compress.checkpoint.sentence import read_head
from acn_compress.checkpoint.write import write
from acn_compress.errors import (
    AcnError,
    CheckpointError,
    DataError,
    ModelDirError,
    UnsupportedError,
)

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A plain BERT classifier with a tokenizer."""
    return with_tokenizer(plain("bert"), tmp_path / "bert")


def with_tokenizer(model: Any, directory: Path) -> Path:
    model.save_pretrained(directory)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]
    (directory / "vocab.txt").write_text("\n".join(words))
    hf.BertTokenizerFast(vocab=str(directory / "vocab.txt")).save_pretrained(directory)
    return directory


def edit(directory: Path, change: Change | dict[str, object], name: str = "config.json") -> None:
    """Change a JSON file of a model directory."""
    data = json.loads((directory / name).read_text())
    if isinstance(change, dict):
        data |= change
    else:
        change(data)
    (directory / name).write_text(json.dumps(data))


def rewrite(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change the weights of a model directory."""
    state = load_file(directory / "model.safetensors")
    state = {k: v.clone() for k, v in state.items()}
    made = change(state)
    state = made if isinstance(made, dict) else state
    save_file(state, directory / "model.safetensors", metadata={"format": "pt"})


def copied(directory: Path, out: Path) -> list[str]:
    """Everything that lies in what a step makes of a directory."""
    write(network(directory), out, source=find_source(directory), step="t", options={}, report={})
    return sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())


WRITTEN = ["README.md", "config.json", "model.safetensors", "provenance.json", "report.json"]


# strictness is that of transformers, and what is left out is said


@pytest.mark.parametrize("name", ["bert-features", "roberta", "vit"])
def test_a_pooler_that_was_not_saved_is_not_made_up(name: str, tmp_path: Path) -> None:
    config = plain(name).config
    cls = {"bert": hf.BertModel, "roberta": hf.RobertaModel, "vit": hf.ViTModel}[config.model_type]
    model = cls(config, add_pooling_layer=False).eval()
    model.save_pretrained(tmp_path / "m")
    net = network(tmp_path / "m")
    assert net.model.pooler is None and "no pooler" in " ".join(net.remarks)
    inputs = net.example_inputs()
    assert torch.equal(outputs(net, **inputs), answer(model, **inputs))
    out = saved(net, tmp_path / "out")
    assert not [k for k in load_file(out / "model.safetensors") if "pooler" in k]
    assert torch.equal(outputs(network(out), **inputs), answer(model, **inputs))


def test_heads_of_pretraining_that_transformers_leaves_out_are_left_out_and_said(
    tmp_path: Path,
) -> None:
    masked = plain("bert-masked")
    whole = hf.BertForPreTraining(masked.config).eval()
    whole.save_pretrained(tmp_path / "m")
    edit(tmp_path / "m", {"architectures": ["BertForMaskedLM"]})
    net = network(tmp_path / "m")
    assert "seq_relationship" in net.remarks[0] and "pooler" in net.remarks[0]
    inputs = net.example_inputs()
    expected = hf.BertForMaskedLM.from_pretrained(tmp_path / "m").eval()
    assert torch.equal(outputs(net, **inputs), answer(expected, **inputs))
    rewrite(tmp_path / "m", lambda state: {**state, "bert.encoder.extra": torch.ones(2)})
    with pytest.raises(CheckpointError, match=r"1 tensors have no place in the model: .*extra"):
        network(tmp_path / "m")


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module."]
)
@pytest.mark.parametrize("name", ["gpt2", "vit", "bert"])
def test_wrappers_of_compile_and_ddp_are_taken_off_in_directories(
    name: str, prefix: str, tmp_path: Path
) -> None:
    model = plain(name)
    model.save_pretrained(tmp_path / "m")
    rewrite(tmp_path / "m", lambda state: {prefix + k: v for k, v in state.items()})
    net = network(tmp_path / "m")
    inputs = net.example_inputs()
    assert torch.equal(outputs(net, **inputs), answer(model, **inputs))


# claims are those of the file


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["vit", "gpt2", "mixer"])
def test_weights_that_are_not_finite_are_refused_by_name(
    name: str, value: float, tmp_path: Path
) -> None:
    model = plain(name)
    where = list(dict(model.named_parameters()))[-1]
    with torch.no_grad():
        model.get_parameter(where).view(-1)[-1] = value
    model.save_pretrained(tmp_path / "m")
    with pytest.raises(CheckpointError, match=rf"{where} holds values that are not finite"):
        network(tmp_path / "m")


@pytest.mark.parametrize("file", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("says", ["float16", "float32", "bfloat16", None])
def test_the_type_of_the_weights_is_that_of_the_file(
    file: torch.dtype, says: str | None, tmp_path: Path
) -> None:
    plain("llama").to(file).save_pretrained(tmp_path / "m")
    edit(tmp_path / "m", lambda config: config.pop("dtype"))
    edit(tmp_path / "m", {"torch_dtype": says} if says else {})
    net = network(tmp_path / "m")
    assert {p.dtype for p in net.model.parameters()} == {file}
    told = says not in (None, str(file).removeprefix("torch."))
    assert bool(net.remarks) == told and (not told or f"config.json says {says}" in net.remarks[0])
    out = saved(net, tmp_path / "out")
    assert {v.dtype for v in load_file(out / "model.safetensors").values()} == {file}


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_weights_that_are_no_plain_numbers_are_refused(dtype: torch.dtype, bert: Path) -> None:
    rewrite(bert, lambda state: {k: v.to(dtype) if v.dim() == 2 else v for k, v in state.items()})
    with pytest.raises(CheckpointError, match="is quantised"):
        network(bert)


def test_double_precision_is_read_as_it_is(bert: Path) -> None:
    rewrite(bert, lambda state: {k: v.double() for k, v in state.items()})
    assert {p.dtype for p in network(bert).model.parameters()} == {torch.float64}


def test_a_head_is_only_spoken_of_where_it_is_one(bert: Path) -> None:
    edit(bert, {"vocab_size": 7})
    with pytest.raises(CheckpointError, match=r"word_embeddings\S* is .* by config.json\.$"):
        network(bert)


def test_the_sparsity_is_that_of_the_weights(tmp_path: Path) -> None:
    net = tiny("bert", 0.3)
    net.set_structure_(net.structure.changed(sparsity=0.5))
    assert network(saved(net, tmp_path / "none")).structure.sparsity == 0.0
    with torch.no_grad():
        for block in net.blocks:
            for parameter in block.parameters():
                if parameter.dim() == 2:
                    parameter[::4] = 0.0
    again = network(saved(net, tmp_path / "quarter"))
    assert again.structure.sparsity == pytest.approx(0.25)
    assert network(saved(again, tmp_path / "same")).structure == again.structure


def test_a_longest_text_beyond_the_table_of_positions_is_refused(bert: Path) -> None:
    edit(bert, {"max_position_embeddings": 512})
    with pytest.raises(CheckpointError, match=r"position_embeddings\.weight is \(40, 32\)"):
        network(bert)


@pytest.mark.parametrize(
    "change",
    [
        lambda acn: acn.update(blocks=[0, 1], alpha=[0.3, 0.3]),
        lambda acn: acn.update(widths=[{"heads": 2, "mlp": 64}] * 3),
        lambda acn: acn.update(widths=[{"heads": 9, "mlp": 64}] * 3),
        lambda acn: acn.update(widths=[{"feet": 2}] * 3),
        lambda acn: acn.update(blocks=[0, 1, 2, 3], alpha=[0.3] * 4, source_blocks=4),
        lambda acn: acn.update(form="acn"),
        lambda acn: acn.update(version=2),
        lambda acn: acn.clear(),
    ],
)
@pytest.mark.parametrize("name", ["vit", "mixer"])
def test_a_structure_that_is_not_that_of_the_network_is_refused(
    name: str, change: Change, tmp_path: Path
) -> None:
    directory = saved(tiny(name, 0.3), tmp_path / "m")
    edit(directory, lambda config: change(config["acn"]))
    with pytest.raises(AcnError) as refused:
        network(directory)
    assert "\n" not in str(refused.value) and "config.json" in str(refused.value)


# nothing else is loaded


@pytest.fixture
def no_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is asked, and code of a checkpoint betrays itself."""

    def asked(*args: object) -> str:
        raise AssertionError("somebody was asked")

    monkeypatch.setattr(builtins, "input", asked)


EVIL = "raise SystemExit('code of the checkpoint ran')\n"


@pytest.mark.usefixtures("no_code")
@pytest.mark.parametrize("custom", ["AutoTokenizer", "AutoImageProcessor", "AutoProcessor"])
def test_code_of_a_processor_never_runs(custom: str, bert: Path, tmp_path: Path) -> None:
    for module in ("tokenizer.py", "tokenization_evil.py", "processing_evil.py"):
        (bert / module).write_text(EVIL)
    code: dict[str, object] = {"auto_map": {custom: ["tokenization_evil.Evil"] * 2}}
    code["tokenizer_class"] = "Evil"
    edit(bert, code, "tokenizer_config.json")
    (bert / "preprocessor_config.json").write_text(json.dumps(code | {"image_processor_type": "E"}))
    for load in (load_tokenizer, load_image_processor):
        try:
            load(find_source(bert))
        except DataError as error:
            assert "cannot be loaded" in str(error) and "\n" not in str(error)
    assert not [f for f in copied(bert, tmp_path / "out") if f.endswith(".py")]
    for file in (tmp_path / "out").glob("*.json"):
        assert "tokenization_evil" not in file.read_text(), file.name


@pytest.mark.usefixtures("no_code")
@pytest.mark.parametrize(
    "keys",
    [
        {"auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}},
        {"transformers_weights": "other.safetensors"},
        {"attn_implementation": "someone/kernel"},
        {"_attn_implementation": "someone/kernel:evil"},
        {"use_kernels": True, "kernel_config": {"RMSNorm": "someone/kernel"}},
        {"fusion_config": {"patch_embeddings": True}},
        {"name_or_path": "/home/ann/m", "_name_or_path": "/home/ann/m"},
    ],
)
def test_keys_that_load_something_else_are_dropped(
    keys: dict[str, object], bert: Path, tmp_path: Path
) -> None:
    (bert / "evil.py").write_text(EVIL)
    save_file({"x": torch.ones(1)}, bert / "other.safetensors")
    expected = outputs(network(bert))
    edit(bert, keys)
    assert torch.equal(outputs(network(bert)), expected)
    copied(bert, tmp_path / "out")
    assert not keys.keys() & json.loads((tmp_path / "out" / "config.json").read_text()).keys()


@pytest.mark.parametrize("method", ["gptq", "bitsandbytes", "fp8", "unheard-of", None])
def test_quantised_weights_are_refused(method: str | None, bert: Path) -> None:
    edit(bert, {"quantization_config": {"quant_method": method, "bits": 4}})
    with pytest.raises(UnsupportedError, match="its weights are quantised"):
        network(bert)


def test_a_timm_config_loads_no_file(tmp_path: Path) -> None:
    plain("timmvit").save_pretrained(tmp_path / "m")
    torch.save({}, tmp_path / "evil.pth")
    change = {"checkpoint_path": str(tmp_path / "evil.pth"), "pretrained": True}
    edit(tmp_path / "m", lambda config: config["model_args"].update(change))
    assert torch.isfinite(outputs(network(tmp_path / "m"))).all()


# what gets in


def test_only_files_of_a_closed_list_go_with_a_model(bert: Path, tmp_path: Path) -> None:
    strays = ("tokenizer.py", "vocab.pkl", "tokenizer.pkl", "notes.txt", "tokenizer.json.bak")
    for name in strays:
        (bert / name).write_text(EVIL)
    (bert / "1_Pooling").mkdir()
    (bert / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    (bert / "1_Pooling" / "pooling.py").write_text(EVIL)
    (bert / "2_Dense").mkdir()
    torch.save({"linear.weight": torch.eye(32)}, bert / "2_Dense" / "pytorch_model.bin")
    (bert / "2_Dense" / "config.json").write_text("{}")
    (bert / "modules.json").write_text("[]")
    (bert / "config_sentence_transformers.json").write_text('{"prompts": {"query": "q: "}}')
    files = copied(bert, tmp_path / "out")
    assert not [f for f in files if f.endswith((".py", ".pkl", ".bin", ".bak", "notes.txt"))]
    wanted = {"1_Pooling/config.json", "2_Dense/model.safetensors", "2_Dense/config.json"}
    wanted |= {"modules.json", "config_sentence_transformers.json", "tokenizer.json", *WRITTEN}
    assert wanted <= set(files)
    dense = load_file(tmp_path / "out" / "2_Dense" / "model.safetensors")
    assert torch.equal(dense["linear.weight"], torch.eye(32))


@pytest.mark.parametrize("name", ["vocab.txt", "tokenizer.json", "1_Pooling/config.json"])
def test_a_link_out_of_the_source_is_refused(name: str, bert: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text('{"key": "secret"}')
    (bert / name).parent.mkdir(exist_ok=True)
    (bert / name).unlink(missing_ok=True)
    (bert / name).symlink_to(tmp_path / "secret")
    with pytest.raises(ModelDirError, match=r"is a link to .*secret, out of the model directory"):
        copied(bert, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_config_that_is_a_link_out_of_the_source_is_refused(bert: Path, tmp_path: Path) -> None:
    (bert / "config.json").rename(tmp_path / "config.json")
    (bert / "config.json").symlink_to(tmp_path / "config.json")
    with pytest.raises(ModelDirError, match="is a link to"):
        network(bert)


def test_links_within_the_source_and_the_hubs_cache_are_followed(tmp_path: Path) -> None:
    place = tmp_path / "models--a--b" / "snapshots" / ("1" * 40)
    with_tokenizer(plain("bert"), place)
    blobs = tmp_path / "models--a--b" / "blobs"
    blobs.mkdir()
    for file in list(place.iterdir()):
        file.rename(blobs / f"blob-{file.name}")
        file.symlink_to(f"../../blobs/blob-{file.name}")
    files = copied(place, tmp_path / "out")
    assert {"vocab.txt", "tokenizer.json"} <= set(files)
    assert not any((tmp_path / "out" / f).is_symlink() for f in files)


@pytest.mark.parametrize(
    "listed",
    ["../other/model.safetensors", "/etc/passwd", "sub/model.safetensors", "evil.pkl", 3, None],
)
def test_an_index_names_weight_files_beside_it_and_nothing_else(listed: object, bert: Path) -> None:
    (bert / "model.safetensors").rename(bert / "model-1.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": listed}}
    (bert / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="index"):
        find_source(bert)


@pytest.mark.parametrize("path", ["../elsewhere", "/etc", 7, None])
def test_modules_lie_in_the_model_directory(path: object, bert: Path) -> None:
    listed = [{"type": "sentence_transformers.models.Dense", "path": path}]
    (bert / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(ModelDirError, match=r"modules\.json"):
        read_head(find_source(bert))


# every fault of a file is one line

NUMBERS = (True, -1, 0, 1, 3, 2**70, 10**12, 1e308, -0.5)
VALUES: tuple[Any, ...] = (None, *NUMBERS, "", "x", "../../x", "3", [], [[]], {}, {"a": 1})
FILES = (
    "config.json",
    "provenance.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
    "modules.json",
    "1_Pooling/config.json",
    "config_sentence_transformers.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "model.safetensors",
)


def read_all(directory: Path) -> torch.Tensor:
    """Everything that steps read of a model directory; what the network says."""
    source = find_source(directory)
    history(source)
    net = load_source(source)
    load_tokenizer(source)
    if (directory / "preprocessor_config.json").is_file():
        load_image_processor(source)
    read_head(source)
    return outputs(net)


def mutate(file: Path, rng: random.Random) -> None:
    """Damage a file in one of the ways that files are damaged."""
    data = file.read_bytes()
    if file.suffix == ".safetensors" or rng.random() < 0.3:
        place = (
            rng.randrange(len(data)) if rng.random() < 0.5 else rng.randrange(min(len(data), 200))
        )
        kinds = (
            data[:place],
            data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :],
            b"",
            b"[" * 100_000,
            b"\xff\xfe" + data,
            b'{"a":' * 60 + b"1" + b"}" * 60,
        )
        file.write_bytes(rng.choice(kinds))
        return
    parsed = json.loads(data)
    spot = parsed
    while isinstance(spot, (dict, list)) and spot:
        key = rng.choice(list(spot) if isinstance(spot, dict) else range(len(spot)))
        if rng.random() < 0.5 or not isinstance(spot[key], (dict, list)) or not spot[key]:
            if rng.random() < 0.25:
                del spot[key]
            else:
                spot[key] = rng.choice(VALUES)
            break
        spot = spot[key]
    file.write_text(json.dumps(parsed))


@pytest.mark.parametrize("form", ["plain", "compressed"])
@pytest.mark.long
def test_no_damaged_file_gives_a_traceback_or_another_answer(form: str, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    directory = with_tokenizer(plain("bert-features"), tmp_path / "plain")
    (directory / "generation_config.json").write_text('{"max_length": 20}')
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    modules = [("0", "", "Transformer"), ("1", "1_Pooling", "Pooling")]
    listed = [
        {"name": n, "path": p, "type": f"sentence_transformers.models.{t}"} for n, p, t in modules
    ]
    (directory / "modules.json").write_text(json.dumps(listed))
    (directory / "config_sentence_transformers.json").write_text(
        '{"prompts": {"q": "query: "}, "default_prompt_name": "q"}'
    )
    hf.ViTImageProcessor(size={"height": 8, "width": 8}).save_pretrained(directory)
    net = network(directory)
    if form == "compressed":
        net.set_structure_(net.structure.with_alpha((0.3,) * 3))
    write(net, whole, source=find_source(directory), step="t", options={"a": 1}, report={})
    expected = read_all(whole)
    rng, accepted = random.Random(15), 0
    for number in range(130):
        directory = tmp_path / "mutant"
        shutil.copytree(whole, directory)
        file = directory / FILES[number % len(FILES)]
        if file.name == "model.safetensors.index.json":
            (directory / "model.safetensors").rename(directory / "model-1.safetensors")
            keys = load_file(directory / "model-1.safetensors")
            file.write_text(json.dumps({"weight_map": dict.fromkeys(keys, "model-1.safetensors")}))
        mutate(file, rng)
        try:
            found = read_all(directory)
        except AcnError as error:
            assert "\n" not in str(error) and len(str(error)) < 1000, str(error)
        else:
            accepted += 1
            same = found.shape == expected.shape and torch.equal(found, expected)
            if not same and form == "plain":  # then transformers itself reads it so
                theirs = hf.AutoModel.from_pretrained(directory).eval()
                same = torch.equal(
                    found, answer(theirs, **network(directory).example_inputs(batch=3))
                )
            assert same or file.name in ("config.json", "model.safetensors"), file.name
        shutil.rmtree(directory)
    assert accepted > 10


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_hidden_layers", 10**9),
        ("num_labels", 10**9),
        ("hidden_size", 10**7),
        ("vocab_size", 10**7),
        ("max_position_embeddings", 10**12),
        ("intermediate_size", "many"),
        ("num_attention_heads", 0),
        ("num_attention_heads", 5),
        ("hidden_act", "evil"),
        ("architectures", ["AutoTokenizer"]),
        ("architectures", "BertModel"),
        ("architectures", [7]),
        ("architectures", ["Trainer"]),
        ("id2label", [1, 2]),
        ("model_type", 7),
        ("layer_norm_eps", float("inf")),
        ("acn", {"a": [[[[]]]]}),
    ],
)
def test_a_config_of_no_model_is_refused_in_one_line_and_at_once(
    field: str, value: object, bert: Path
) -> None:
    edit(bert, {field: value})
    if field == "acn":
        edit(bert, {"model_type": "acn_bert"})
    with pytest.raises(AcnError) as refused:
        network(bert)
    assert "\n" not in str(refused.value) and str(bert) in str(refused.value)
