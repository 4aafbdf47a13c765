"""What is not supported is told apart: the reason, from the config of the real family, and the list
of what is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from test_cli import fails
from tiny import IMAGE, SHAPE, answer, network, outputs, tiny, towers

from acn_compress import inspect
from acn_compress.architectures import ARCHITECTURES
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.errors import ConfigError

REASONS = {
    "albert": "its blocks share their weights",
    "t5": "it is an encoder-decoder",
    "bart": "it is an encoder-decoder",
    "swin": "it has stages of different width",
    "convnext": "it has stages of different width",
    "mixtral": "it is a mixture of experts",
    "qwen2_moe": "it is a mixture of experts",
    "qwen3_moe": "it is a mixture of experts",
    "qwen3_5_text": "some of its blocks do not attend, or only linearly",
    "gemma3n_text": "its last blocks read the keys and values of earlier ones",
    "vit_mae": "its encoder hides and shuffles patches at random. It is a ViT",
    "gpt_neox": "has no adapter for. Known: ",
}


@pytest.mark.parametrize("family", REASONS)
def test_a_refused_family_is_told_why_and_what_is_known(family: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    hf.AutoConfig.for_model(family).save_pretrained(source)
    (source / "pytorch_model.bin").touch()
    report = inspect(source)
    assert report["family"] == family and not report["supported"]
    assert (
        f"is of type '{family}', which acn-compress has no adapter for" in report["why"]
        and REASONS[family] in report["why"]
    )
    assert report["why"].endswith(f"Known: {', '.join(sorted(ARCHITECTURES))}.")
    fails(REASONS[family], "truncate", source, tmp_path / "out", "--depth", 1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("family", "fields", "why"),
    [
        ("gpt2", {"add_cross_attention": True}, "cross-attention"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "position of the block"),
        ("deberta-v2", {"conv_kernel_size": 3}, "a convolution beside its first block"),
        ("beit", {"use_shared_relative_position_bias": True}, "share one bias by distance"),
    ],
)
def test_a_variant_of_a_known_family_is_refused_too(
    family: str, fields: dict[str, Any], why: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    hf.AutoConfig.for_model(family, **fields).save_pretrained(source)
    (source / "pytorch_model.bin").touch()
    assert why in inspect(source)["why"]


def test_of_two_towers_one_has_to_be_chosen(tmp_path: Path) -> None:
    whole = hf.CLIPModel(towers(hf.CLIPConfig)).eval()
    whole.save_pretrained(tmp_path / "clip")
    fails(
        "CLIPModel is two networks, one of images and one of texts. Choose --task",
        "truncate",
        tmp_path / "clip",
        tmp_path / "out",
        "--depth",
        1,
    )
    net = load_source(find_source(tmp_path / "clip"), task="image-classification")
    inputs = net.example_inputs()
    assert torch.equal(
        net.model.vision_model(**inputs).last_hidden_state,
        whole.vision_model(**inputs).last_hidden_state,
    )


def test_a_first_block_that_is_not_like_the_others_stays() -> None:
    net = tiny("modernbert")
    assert 0 not in net.removable
    with pytest.raises(ConfigError, match="block 0 would go, but in modernbert the first block"):
        net.keep_((1, 2))


def test_an_encoder_of_a_masked_autoencoder_is_read_as_a_vit(tmp_path: Path) -> None:
    sizes = {**SHAPE, **IMAGE, "decoder_hidden_size": 16, "decoder_num_attention_heads": 2}
    whole = hf.ViTMAEForPreTraining(
        hf.ViTMAEConfig(**sizes, decoder_num_hidden_layers=1, decoder_intermediate_size=16)
    ).eval()
    whole.save_pretrained(tmp_path / "mae")
    hf.ViTModel.from_pretrained(tmp_path / "mae", add_pooling_layer=False).save_pretrained(
        tmp_path / "vit"
    )
    net = network(tmp_path / "vit")
    inputs, noise = net.example_inputs(), torch.arange(4.0).expand(2, 4)  # in their own order
    whole.config.mask_ratio = 0.0
    found, expected = outputs(net, **inputs), answer(whole.vit, **inputs, noise=noise)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
