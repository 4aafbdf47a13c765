"""What is not supported is told apart: the reason, from the config of the real family, and the list
of what is known."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers as hf
from test_cli import fails

from acn_compress import inspect
from acn_compress.architectures import ARCHITECTURES

REASONS = {
    "albert": "its blocks share their weights",
    "t5": "it is an encoder-decoder",
    "bart": "it is an encoder-decoder",
    "swin": "it has stages of different width",
    "convnext": "it has stages of different width",
    "mixtral": "it is a mixture of experts",
    "qwen2_moe": "it is a mixture of experts",
    "qwen3_moe": "it is a mixture of experts",
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
    ("fields", "why"),
    [
        ({"add_cross_attention": True}, "cross-attention"),
        ({"scale_attn_by_inverse_layer_idx": True}, "position of the block"),
    ],
)
def test_a_variant_of_a_known_family_is_refused_too(
    fields: dict[str, bool], why: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    hf.GPT2Config(**fields).save_pretrained(source)
    (source / "pytorch_model.bin").touch()
    assert why in inspect(source)["why"]
