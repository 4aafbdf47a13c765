"""The families this package knows, by `config.model_type`. Adding one: a file beside this one, and
a line in the dict."""

from __future__ import annotations

import copyreg
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from acn_compress.architectures import (
    beit,
    bert,
    camembert,
    clip,
    deberta_v2,
    deit,
    dinov2,
    dinov2_with_registers,
    dinov3_vit,
    distilbert,
    electra,
    eurobert,
    gemma3,
    gpt2,
    granite,
    hubert,
    llama,
    mistral,
    modernbert,
    mpnet,
    nomic_bert,
    olmo2,
    phi3,
    qwen2,
    qwen3,
    roberta,
    siglip,
    smollm3,
    timm,
    vit,
    wav2vec2,
    xlm_roberta,
)
from acn_compress.architectures.base import Architecture, Cut, Width
from acn_compress.errors import UnsupportedError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

__all__ = ["ARCHITECTURES", "Architecture", "Cut", "Width", "architecture_of", "base_type"]

ARCHITECTURES: dict[str, Architecture] = {
    family.model_type: family
    for family in (
        beit.ARCHITECTURE,
        bert.ARCHITECTURE,
        camembert.ARCHITECTURE,
        clip.ARCHITECTURE,
        clip.VISION,
        clip.TEXT,
        deberta_v2.ARCHITECTURE,
        deit.ARCHITECTURE,
        dinov2.ARCHITECTURE,
        dinov2_with_registers.ARCHITECTURE,
        dinov3_vit.ARCHITECTURE,
        distilbert.ARCHITECTURE,
        electra.ARCHITECTURE,
        eurobert.ARCHITECTURE,
        gemma3.ARCHITECTURE,
        gpt2.ARCHITECTURE,
        granite.ARCHITECTURE,
        hubert.ARCHITECTURE,
        llama.ARCHITECTURE,
        mistral.ARCHITECTURE,
        modernbert.ARCHITECTURE,
        mpnet.ARCHITECTURE,
        nomic_bert.ARCHITECTURE,
        olmo2.ARCHITECTURE,
        phi3.ARCHITECTURE,
        qwen2.ARCHITECTURE,
        qwen3.ARCHITECTURE,
        roberta.ARCHITECTURE,
        siglip.ARCHITECTURE,
        siglip.VISION,
        siglip.TEXT,
        smollm3.ARCHITECTURE,
        timm.ARCHITECTURE,
        vit.ARCHITECTURE,
        wav2vec2.ARCHITECTURE,
        xlm_roberta.ARCHITECTURE,
    )
}

PREFIX = "acn_"  # of the model type of a compressed model


def _family(model_type: str) -> Architecture:
    return ARCHITECTURES[model_type]


# a family is pickled, and copied, by its name
copyreg.pickle(Architecture, lambda family: (_family, (family.model_type,)))

ATTEND = frozenset(["full_attention", "sliding_attention", "chunked_attention"])  # in layer_types

# why some families cannot have an adapter as they are, told by what their configs say: (field, what
# it is if so, reason)
REFUSED: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    (
        "num_hidden_groups",
        lambda n: True,
        "its blocks share their weights, so no block can be cut, trained or pruned by itself",
    ),
    (
        "is_encoder_decoder",
        lambda yes: yes is True,
        "it is an encoder-decoder: two stacks, of which one reads the other's output",
    ),
    (
        "depths",
        lambda n: isinstance(n, (list, tuple)),
        "it has stages of different width, whose outputs cannot be summed",
    ),
    *(
        (
            field,
            lambda n: isinstance(n, int) and n > 1,
            "it is a mixture of experts: what a block computes, and so its share, differs from "
            "token to token",
        )
        for field in ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
    ),
    (
        "layer_types",
        lambda kinds: isinstance(kinds, (list, tuple)) and not ATTEND.issuperset(kinds),
        "some of its blocks do not attend, or only linearly, and keep a state of another kind",
    ),
    (
        "num_kv_shared_layers",
        lambda n: isinstance(n, int) and n > 0,
        "its last blocks read the keys and values of earlier ones, which a cut would take away",
    ),
    (
        "hidden_size_per_layer_input",
        lambda n: isinstance(n, int) and n > 0,
        "every block reads an input of its own beside the stream",
    ),
    (
        "mask_ratio",
        lambda n: isinstance(n, (int, float)),
        "its encoder hides and shuffles patches at random. It is a ViT: save it as one "
        "(transformers.ViTModel.from_pretrained(...).save_pretrained(...))",
    ),
)


def base_type(model_type: str) -> str:
    """The transformers family behind a model type: "acn_vit" and "vit" give "vit"."""
    return model_type.removeprefix(PREFIX)


def architecture_of(config: PreTrainedConfig, where: str = "this model") -> Architecture:
    """The adapter for a transformers config.

    Raises:
        UnsupportedError: listing the known families.
    """
    name = base_type(config.model_type)
    if name not in ARCHITECTURES:
        values = ((getattr(config, field, None), test, reason) for field, test, reason in REFUSED)
        reason = next(
            (f": {reason}" for value, test, reason in values if value is not None and test(value)),
            "",
        )
        raise UnsupportedError(
            f"{where} is of type '{name}', which acn-compress has no adapter for{reason}. Known: "
            f"{', '.join(sorted(ARCHITECTURES))}."
        )
    architecture = ARCHITECTURES[name]
    if why := architecture.refuse(config):
        raise UnsupportedError(f"{where}: {why}")
    return architecture
