"""BERT (arXiv 1810.04805), post-norm: a = LN(h + attn(h)), then LN(a + mlp(a)). RoBERTa and ELECTRA
are copies of its block.

The family's own output modules hold the addition and the norm; here they are taken apart into what
a branch adds and the norm after it. The stream leaves the stack as it is: BERT has no final norm.
"""

from __future__ import annotations

from typing import Any

from acn_compress.architectures.base import Architecture, Cut, Width, said_by
from acn_compress.form import Branch


def branches(
    block: Any,
    attention_mask: Any = None,
    encoder_hidden_states: Any = None,
    encoder_attention_mask: Any = None,
    **kwargs: Any,
) -> tuple[Branch, ...]:
    attention = block.attention

    def attend(h: Any) -> Any:
        mixed = attention.self(h, attention_mask=attention_mask, **kwargs)[0]
        return attention.output.dropout(attention.output.dense(mixed))

    return Branch(attend, attention.output.LayerNorm), mlp(block)


def mlp(block: Any) -> Branch:
    """The second branch; also MPNet's and DeBERTa's."""
    output = block.output
    return Branch(lambda h: output.dropout(output.dense(block.intermediate(h))), output.LayerNorm)


def features(block: Any) -> Width:
    """Those of the MLP."""
    return Width(
        units=block.intermediate.dense.out_features,
        outputs=(Cut("intermediate.dense"),),
        inputs=(Cut("output.dense"),),
    )


def widths(block: Any) -> dict[str, Width]:
    size = block.attention.self.attention_head_size
    return {
        "heads": Width(
            units=block.attention.self.query.out_features // size,
            outputs=tuple(
                Cut(f"attention.self.{name}", size) for name in ("query", "key", "value")
            ),
            inputs=(Cut("attention.output.dense", size),),
        ),
        "mlp": features(block),
    }


def refuse(config: Any) -> str | None:
    """Encoders only; also asked by DistilBERT."""
    if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
        return (
            "it is a decoder (is_decoder or add_cross_attention in config.json). "
            "Of this family only encoders are supported."
        )
    if getattr(config, "chunk_size_feed_forward", 0):
        return (
            "chunk_size_feed_forward is set, which changes rounding. "
            "Set it to 0 in config.json: the network stays the same."
        )
    wanted = (getattr(config, "architectures", None) or [""])[0]
    if wanted.endswith(("LMHeadModel", "ForCausalLM", "ForMultipleChoice")):
        return (
            f"the head {wanted} is not supported. "
            "Choose another with --task, for example text-classification."
        )
    return None


def family(model_type: str, block: str) -> Architecture:
    """The adapter of a family whose block is BERT's."""
    return Architecture(
        model_type=model_type,
        block=block,
        blocks="encoder.layer",
        branches=branches,
        widths=widths,
        modality="text",
        says={"mlp": said_by("intermediate_size")},  # all heads of a config make up its stream
        refuse=refuse,
    )


ARCHITECTURE = family("bert", "BertLayer")
