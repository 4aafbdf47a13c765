"""What is special about timm: its names, files, directories and processors, and what would bypass
the long sum."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import tiny
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from tiny import network
from typer.testing import CliRunner

from acn_compress import finetune, inspect
from acn_compress.architectures.timm import fit
from acn_compress.checkpoint import load as checkpoint
from acn_compress.checkpoint import write as output
from acn_compress.cli.app import app
from acn_compress.compression.calibration import RandomInputs
from acn_compress.compression.candidates import Candidates
from acn_compress.compression.depth import truncate_checked_
from acn_compress.compression.prune import prune_
from acn_compress.compression.refit import refit_
from acn_compress.data.pictures import Preparation
from acn_compress.errors import AcnError, CheckpointError, ConfigError, UnsupportedError
from acn_compress.network.adopt import adopt
from acn_compress.network.network import first_output

MIXER = {"model_type": "timm_wrapper", "architecture": "mlp_mixer"}
SIZES = {"img_size": 8, "patch_size": 2, "in_chans": 1, "num_blocks": 3, "embed_dim": 32}


@pytest.fixture(scope="module")
def own() -> Any:
    """A ViT of timm's own, 6 blocks of width 64 with 7 classes; its head is not left at zero."""
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=7).eval()
    torch.nn.init.normal_(model.head.weight, std=0.1)
    return model


@pytest.fixture(scope="module")
def pixels(own: Any) -> torch.Tensor:
    return torch.randn(
        2, *own.pretrained_cfg["input_size"], generator=torch.Generator().manual_seed(1)
    )


def config_file(directory: Path, **fields: Any) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps({**MIXER, "model_args": SIZES, **fields}))
    return directory


def says(net: Any, pixels: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return first_output(net(pixel_values=pixels))


def test_timms_own_directory_loads_and_says_the_same(
    own: Any, pixels: torch.Tensor, tmp_path: Path
) -> None:
    timm.models.save_for_hf(
        own, tmp_path / "m", model_config={"label_names": list("abcdefg")}, safe_serialization=True
    )
    assert "model_type" not in json.loads((tmp_path / "m" / "config.json").read_text())
    net = network(tmp_path / "m")
    with torch.inference_mode():
        assert torch.equal(says(net, pixels), own(pixels))
    assert list(net.config.id2label.values()) == list("abcdefg")
    report = inspect(tmp_path / "m")
    assert (
        report["supported"]
        and report["family"] == "timm_wrapper"
        and len(report["blocks"]) == len(own.blocks)
    )
    assert report["input"] == {"modality": "image", "channels": 3, "height": 160, "width": 160}


def test_what_the_wrapper_saves_loads_and_says_the_same(
    own: Any, pixels: torch.Tensor, tmp_path: Path
) -> None:
    wrapper = transformers.TimmWrapperForImageClassification(
        transformers.TimmWrapperConfig(architecture="test_vit", num_labels=7)
    )
    wrapper.timm_model.load_state_dict(own.state_dict())
    wrapper.save_pretrained(tmp_path / "m")
    with torch.inference_mode():
        assert torch.equal(says(network(tmp_path / "m"), pixels), own(pixels))


@pytest.mark.parametrize("kind", ["safetensors", "pth", "wrapped.pth"])
def test_a_weight_file_with_the_name_of_its_architecture(
    kind: str, own: Any, pixels: torch.Tensor, tmp_path: Path
) -> None:
    path = tmp_path / f"weights.{kind}"
    if kind == "safetensors":
        save_file(own.state_dict(), path)
    else:
        torch.save(
            {"state_dict": own.state_dict(), "epoch": 3}
            if kind == "wrapped.pth"
            else own.state_dict(),
            path,
        )
    net = network(path, config="test_vit")
    with torch.inference_mode():
        assert torch.equal(says(net, pixels), own(pixels))
    assert net.config.num_labels == 7
    assert inspect(path, config="test_vit")["parameters"] == sum(
        p.numel() for p in own.parameters()
    )


def test_the_architecture_option_of_a_command(own: Any, tmp_path: Path) -> None:
    save_file(own.state_dict(), tmp_path / "weights.safetensors")
    (tmp_path / "vocab.txt").write_text("not this model's")
    call = [
        "truncate",
        str(tmp_path / "weights.safetensors"),
        str(tmp_path / "out"),
        "--depth",
        "2",
        "--architecture",
    ]
    result = CliRunner().invoke(app, [*call, "test_vit"])
    assert result.exit_code == 0, result.output
    assert len(network(tmp_path / "out").structure.blocks) == 2
    assert not (tmp_path / "out" / "vocab.txt").exists()
    result = CliRunner().invoke(app, [*call[:2], str(tmp_path / "no"), *call[3:], "test_vitt"])
    assert (
        result.exit_code == 1 and "has no model 'test_vitt'. Did you mean test_vit" in result.stderr
    )


def test_a_backbone_without_a_head_gives_features_and_takes_a_new_head(
    own: Any, pixels: torch.Tensor, tmp_path: Path
) -> None:
    save_file(
        {k: v for k, v in own.state_dict().items() if not k.startswith("head")},
        tmp_path / "w.safetensors",
    )
    net = network(tmp_path / "w.safetensors", config="test_vit")
    with torch.inference_mode():
        assert torch.equal(says(net, pixels), own.forward_features(pixels))
    net = network(
        tmp_path / "w.safetensors",
        config="test_vit",
        task="image-classification",
        labels=list("abc"),
    )
    assert says(net, pixels).shape == (2, 3)
    assert "head.bias, timm_model.head.weight" in str(net.fresh_head)
    save_file(own.state_dict(), tmp_path / "seven.safetensors")
    net = network(
        tmp_path / "seven.safetensors",
        config="test_vit",
        task="image-classification",
        labels=list("abc"),
    )
    assert says(net, pixels).shape == (2, 3) and torch.equal(
        net.model.timm_model.norm.weight, own.norm.weight
    )


@pytest.mark.long
def test_a_mixer_of_your_own_size_trains_from_scratch(tmp_path: Path) -> None:
    report = finetune(
        config_file(tmp_path / "c"),
        tmp_path / "m",
        "digits",
        init="random",
        epochs=4,
        batch_size=32,
        lr=4e-3,
        task_weight=1.0,
    )
    assert report["after"]["value"] > 0.6
    net = network(tmp_path / "m")
    assert net.config.model_args == SIZES and len(net.config.id2label) == 10
    assert not (
        tmp_path / "m" / "preprocessor_config.json"
    ).exists()  # timm's processor lives in config.json


def test_random_weights_are_timms_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = checkpoint.from_config(config_file(tmp_path))
    assert not net.model.timm_model.head.weight.any()  # timm starts with a head of zeros
    assert (
        float(net.model.timm_model.blocks[0].mlp_channels.fc1.weight.detach().std()) > 0.08
    )  # Xavier; the wrapper draws with 0.02


@pytest.mark.parametrize("base", ["mixer_s32_224", "gmixer_12_224"])
def test_cutting_and_pruning_a_mixer_that_timm_builds_in_one_size_only(
    base: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    config = {"architecture": base, "model_args": {"img_size": 64}, "num_classes": 3}
    net = checkpoint.from_config(config_file(tmp_path / "c", **config))
    torch.nn.init.normal_(net.model.timm_model.head.weight)
    pixels = torch.randn(1, 3, 64, 64)
    truncate_checked_(net, 2)
    for step in ("cut", "pruned", "pruned and cut again"):
        if step == "pruned":
            prune_(net, 0.3, score="magnitude", refit=False)
        if step == "pruned and cut again":
            truncate_checked_(net, 1)
        output.write(net, tmp_path / step, source=None, step="test", options={}, report={})
        again = network(tmp_path / step)
        assert torch.equal(says(again, pixels), says(net, pixels))
        assert again.config.architecture == "mlp_mixer" and again.config.model_args["base"] == base


def test_timm_itself_refuses_a_compressed_model(tmp_path: Path) -> None:
    output.write(
        tiny.tiny("timmvit", 0.0), tmp_path / "m", source=None, step="test", options={}, report={}
    )
    with pytest.raises(RuntimeError, match="Missing key"):
        timm.create_model(f"local-dir:{tmp_path / 'm'}", pretrained=True)


@pytest.mark.parametrize("alpha", [1.0, 0.0])
def test_the_processor_and_pipeline_of_a_written_model(alpha: float, tmp_path: Path) -> None:
    model = tiny.timm("vit_tiny_patch16_224", depth=3, num_heads=4, in_chans=3, img_size=32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.1)
    model.config.pretrained_cfg |= {
        "crop_pct": 0.8,
        "mean": [0.3, 0.4, 0.5],
        "std": [0.2, 0.3, 0.4],
    }
    net = adopt(model.eval())
    net.set_structure_(net.structure.with_alpha((alpha,) * 3))
    output.write(net, tmp_path / "m", source=None, step="test", options={}, report={})
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 56, 3), dtype="uint8"))
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "m")
    assert type(processor).__name__ == "TimmWrapperImageProcessor"
    expected = processor(picture)["pixel_values"][0]
    prepare = Preparation.of(net, None)
    ours = (
        torch.from_numpy(prepare.pixels(picture)).float() / 255 - prepare.mean[:, None, None]
    ) / prepare.std[:, None, None]
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
    found = transformers.pipeline("image-classification", model=str(tmp_path / "m"), top_k=10)(
        picture
    )
    scores = says(net, expected[None]).softmax(-1)[0]
    assert {f["label"]: pytest.approx(f["score"], abs=1e-5) for f in found} == {
        model.config.id2label[i]: float(s) for i, s in enumerate(scores)
    }


def test_images_are_cropped_as_timm_crops_them() -> None:
    cfg = {
        "input_size": (3, 16, 16),
        "interpolation": "bicubic",
        "crop_pct": 0.5,
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
    }
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype="uint8"))
    cropped = functools.reduce(lambda image, step: step(image), fit(cfg), picture)
    assert cropped.tobytes() == picture.crop((8, 8, 24, 24)).tobytes()


def test_what_bypasses_the_long_sum_is_refused(tmp_path: Path) -> None:
    net = tiny.tiny("timmvit", 0.0)
    inputs = net.example_inputs()
    with pytest.raises(UnsupportedError, match="hidden states"):
        net.model(**inputs, output_hidden_states=True)
    with pytest.raises(UnsupportedError, match="attention masks"):
        net(**inputs, attn_mask=torch.ones(5, 5, dtype=torch.bool))
    net.model.timm_model.set_grad_checkpointing(True)
    with pytest.raises(UnsupportedError, match="gradient checkpointing"):
        net(**inputs)
    net.model.timm_model.set_grad_checkpointing(False)
    assert tiny.outputs(net).isfinite().all()
    with pytest.raises(
        ConfigError, match="checkpointing does not work with models of type timm_wrapper"
    ):
        finetune(
            config_file(tmp_path / "c"),
            tmp_path / "m",
            "digits",
            init="random",
            epochs=1,
            checkpointing=True,
        )
    assert not (tmp_path / "m").exists()


def test_where_norms_stand_across_all_features_blocks_can_go_and_nothing_else() -> None:
    net = tiny.net_of(adopt(tiny.timm("eva02_base_patch14_224", depth=3, num_heads=4)).model)
    rows = RandomInputs(net, 8)
    with pytest.raises(UnsupportedError, match="cut blocks with truncate"):
        prune_(net, 0.5)
    with pytest.raises(ConfigError, match="can be solved for"):
        refit_(net, net.twin(), rows)
    candidates = Candidates.of(net, rows)
    (first, _), *_ = candidates.gone
    made = candidates.make([None if k == first else {} for k in range(3)])
    assert made.depth == 2 and made.structure.blocks == tuple({0, 1, 2} - {first})


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {"architecture": "resnet18", "model_args": {}},
            "timm's 'resnet18' is none of the families with an adapter. Known: MLP-Mixer",
        ),
        (
            {"architecture": "gmlp_s16_224", "model_args": {}},
            "block 0 is a SpatialGatingBlock, expected MixerBlock or Block or EvaBlock",
        ),
        (
            {"architecture": "vit_relpos_small_patch16_224", "model_args": {}},
            "none of the families",
        ),
        (
            {"architecture": "vit_small_patch16_rope_mixed_224"},
            "rotates every block by angles of its own",
        ),
        (
            {"architecture": "mixr_b16_224"},
            "has no model 'mixr_b16_224'. Did you mean mixer_b16_224",
        ),
        (
            {"architecture": "mixer_b16_224"},
            "timm's mixer_b16_224 does not take patch_size in model_args. "
            "Set architecture to mlp_mixer.",
        ),
        ({"model_args": {**SIZES, "patch": 2}}, "unexpected keyword argument 'patch'"),
        ({"model_args": [8]}, "model_args and pretrained_cfg must be objects"),
    ],
)
def test_a_config_that_cannot_be_is_refused_in_one_line(
    fields: dict[str, Any], text: str, tmp_path: Path
) -> None:
    with pytest.raises(AcnError) as error:
        checkpoint.from_config(config_file(tmp_path, **fields))
    assert text in str(error.value) and "\n" not in str(error.value)


def test_weights_of_another_model_are_refused(own: Any, tmp_path: Path) -> None:
    save_file(own.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=r"do not fit|lacks"):
        network(tmp_path / "w.safetensors", config="mixer_s32_224")


@pytest.mark.parametrize("missing", ["timm", "torchvision"])
@pytest.mark.long
def test_without_timm_it_says_what_to_install_and_everything_else_works(
    missing: str, vit_config: Path, tmp_path: Path
) -> None:
    output.write(
        tiny.tiny("mixer"), tmp_path / "m", source=None, step="test", options={}, report={}
    )
    code = f"""
import sys
sys.modules[{missing!r}] = None
from acn_compress import errors
from acn_compress.checkpoint import load as checkpoint
print(len(checkpoint.from_config({str(vit_config)!r}).model.vit.layers))
try:
    checkpoint.load({str(tmp_path / "m")!r})
except errors.MissingDependencyError as error:
    print(error)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    told = f"timm models need the timm extra ({missing} is not installed)"
    assert result.stdout == f"3\n{told}: pip install 'acn-compress[timm]'\n"


@pytest.mark.long
def test_a_torchvision_that_breaks_is_named_with_what_to_install(
    vit_config: Path, tmp_path: Path
) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    for config in (vit_config, config_file(tmp_path / "c")):
        call = [
            "finetune",
            str(config),
            str(tmp_path / "m"),
            "--init",
            "random",
            "--data",
            "digits",
        ]
        result = subprocess.run(
            [sys.executable, "-m", "acn_compress", *call],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
        assert (
            "torchvision cannot be imported (operator torchvision::nms does not exist)"
            in result.stderr
        )
        assert f"'torchvision==0.{int(torch.__version__.split('.')[1]) + 15}.*'" in result.stderr
