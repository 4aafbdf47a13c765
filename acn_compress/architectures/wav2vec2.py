"""wav2vec 2.0 (arXiv 2006.11477): convolutions make frames of a wave, and BERT's equation runs over
them: a = LN(h + attn(h)), then LN(a + mlp(a)). Its stable variant (do_stable_layer_norm) is
pre-norm with a norm behind the stack. HuBERT (arXiv 2106.07447) has the same blocks.

A frame is what a token is to a text: `frame` says of how many samples it is made.
"""

from __future__ import annotations

from typing import Any

from acn_compress.architectures.base import Architecture, Cut, Width, said_by
from acn_compress.form import Branch

STABLE = "StableLayerNorm"  # at the end of the name of a pre-norm block


def branches(block: Any, attention_mask: Any = None, **kwargs: Any) -> tuple[Branch, ...]:
    def attend(h: Any) -> Any:
        return block.dropout(block.attention(h, attention_mask=attention_mask, **kwargs)[0])

    first, second = block.layer_norm, block.final_layer_norm
    if type(block).__name__.endswith(STABLE):
        return (
            Branch(lambda h: attend(first(h))),
            Branch(lambda h: block.feed_forward(second(h))),
        )
    return Branch(attend, first), Branch(block.feed_forward, second)


def widths(block: Any) -> dict[str, Width]:
    size = block.attention.head_dim
    return {
        "heads": Width(
            units=block.attention.q_proj.out_features // size,
            outputs=tuple(Cut(f"attention.{name}_proj", size) for name in "qkv"),
            inputs=(Cut("attention.out_proj", size),),
        ),
        "mlp": Width(
            units=block.feed_forward.intermediate_dense.out_features,
            outputs=(Cut("feed_forward.intermediate_dense"),),
            inputs=(Cut("feed_forward.output_dense"),),
        ),
    }


def frame(config: Any) -> tuple[int, int]:
    """Samples that one frame is made of, and samples from one frame to the next."""
    samples, step = 1, 1
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        samples, step = samples + (kernel - 1) * step, step * stride
    return samples, step


def frames(config: Any, samples: Any) -> Any:
    """How many frames become of so many samples, a number or a tensor of them."""
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        samples = (samples - kernel) // stride + 1
    return samples


def masks(config: Any) -> bool:
    """Whether such models are told which samples are padding, unless a checkpoint's feature
    extractor says otherwise: those whose first norm runs over time were trained without."""
    return bool(config.feat_extract_norm == "layer")


def alone(config: Any) -> bool:
    """Whether padding changes the answer even where it is told: the first norm runs over time, or
    the positions begin with a norm that makes something of the zeros at padding (HuBERT)."""
    return config.feat_extract_norm == "group" or getattr(config, "conv_pos_batch_norm", False)


def refuse(config: Any) -> str | None:
    """Heads that read every block, and blocks with a third branch."""
    if getattr(config, "use_weighted_layer_sum", False):
        return (
            "its head reads a weighted sum of what every block says (use_weighted_layer_sum in "
            "config.json), which a cut would take away. Fine-tune one that reads the last."
        )
    if getattr(config, "add_adapter", False) or getattr(config, "adapter_attn_dim", None):
        return (
            "it has adapters behind its blocks or in them (add_adapter or adapter_attn_dim in "
            "config.json), which this adapter does not know."
        )
    return None


def family(model_type: str, name: str) -> Architecture:
    """The adapter of a family whose blocks are wav2vec 2.0's."""
    return Architecture(
        model_type=model_type,
        block=(f"{name}EncoderLayer", f"{name}EncoderLayer{STABLE}"),
        blocks="encoder.layers",
        branches=branches,
        widths=widths,
        modality="audio",
        says={"mlp": said_by("intermediate_size")},  # all heads of a config make up its stream
        refuse=refuse,
    )


ARCHITECTURE = family("wav2vec2", "Wav2Vec2")
