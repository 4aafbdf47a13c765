"""One tiny real model per model class this package supports. Every law of `test_contract.py` runs
over all of them.

To add your architecture: write its adapter (`acn_compress/architectures/`), add a maker here, run
    `pytest tests/test_contract.py tests/test_refit.py -k NAME -m ""`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from transformers import PreTrainedModel

from acn_compress.architectures import architecture_of
from acn_compress.architectures.timm import complete
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.write import write
from acn_compress.form import LayerKind, layers_in_a_block
from acn_compress.network.adopt import adopt
from acn_compress.network.network import Network, first_output

SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
TOKENS = {
    "vocab_size": 64,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GROUPED = {**SHAPE, **TOKENS, "num_key_value_heads": 2}  # two query heads share one key/value head
WINDOWS = {
    "use_sliding_window": True,
    "sliding_window": 5,
    "max_window_layers": 1,
}  # the first block sees everything, the others five tokens
DINO = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "mlp_ratio": 2}
IMAGE = {"image_size": 8, "patch_size": 4, "num_channels": 1}
TEXT = {"vocab_size": 100, "max_position_embeddings": 40}
RELATIVE = {  # as DeBERTa v3 says it
    "relative_attention": True,
    "position_buckets": 4,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
}
SOUND = {  # frames of 14 samples, 8 apart; nothing is left out or hidden while it trains
    "conv_dim": (16, 16),
    "conv_kernel": (6, 3),
    "conv_stride": (4, 2),
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 16,
    "mask_time_prob": 0.0,
    "layerdrop": 0.0,
}
STABLE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
DISTILBERT = {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 64}


def gpt2(**fields: Any) -> Any:
    return hf.GPT2Config(n_embd=32, n_layer=3, n_head=4, n_inner=64, **TOKENS, **fields)


def modernbert(**fields: Any) -> Any:
    frame = {"cls_token_id": 1, "sep_token_id": 2}
    return hf.ModernBertConfig(**SHAPE, **TOKENS, **frame, local_attention=4, **fields)


def gemma3(**fields: Any) -> Any:
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    sizes = {**GROUPED, "head_dim": 8, "query_pre_attn_scalar": 8}
    return hf.Gemma3TextConfig(**sizes, layer_types=kinds, sliding_window=4, **fields)


def towers(config: Any) -> Any:
    return config(
        vision_config={**SHAPE, **IMAGE},
        text_config={**SHAPE, **TOKENS, "num_hidden_layers": 1},
        num_labels=10,
    )


# name -> the model as its own library makes it; a name begins with the family, what follows is the
# head or a variant
MODELS: dict[str, Callable[[], Any]] = {
    "bert": lambda: hf.BertForSequenceClassification(hf.BertConfig(**SHAPE, **TEXT, num_labels=3)),
    "bert-tokens": lambda: hf.BertForTokenClassification(
        hf.BertConfig(**SHAPE, **TEXT, num_labels=5)
    ),
    "bert-answers": lambda: hf.BertForQuestionAnswering(hf.BertConfig(**SHAPE, **TEXT)),
    "bert-masked": lambda: hf.BertForMaskedLM(hf.BertConfig(**SHAPE, **TEXT)),
    "bert-features": lambda: hf.BertModel(hf.BertConfig(**SHAPE, **TEXT)),
    "distilbert": lambda: hf.DistilBertForSequenceClassification(
        hf.DistilBertConfig(**DISTILBERT, **TEXT)
    ),
    "distilbert-answers": lambda: hf.DistilBertForQuestionAnswering(
        hf.DistilBertConfig(**DISTILBERT, **TEXT)
    ),
    "electra": lambda: hf.ElectraForSequenceClassification(
        hf.ElectraConfig(**SHAPE, **TEXT, embedding_size=16)
    ),
    "electra-tokens": lambda: hf.ElectraForTokenClassification(
        hf.ElectraConfig(**SHAPE, **TEXT, embedding_size=16)
    ),
    "roberta": lambda: hf.RobertaForSequenceClassification(
        hf.RobertaConfig(**SHAPE, **TEXT, type_vocab_size=1)
    ),
    "roberta-masked": lambda: hf.RobertaForMaskedLM(
        hf.RobertaConfig(**SHAPE, **TEXT, type_vocab_size=1)
    ),
    "gpt2": lambda: hf.GPT2LMHeadModel(gpt2()),
    "gpt2-classification": lambda: hf.GPT2ForSequenceClassification(gpt2(num_labels=3)),
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**GROUPED)),
    "llama-features": lambda: hf.LlamaModel(hf.LlamaConfig(**GROUPED)),
    "llama-tied": lambda: hf.LlamaForCausalLM(
        hf.LlamaConfig(**GROUPED, tie_word_embeddings=True, attention_bias=True, mlp_bias=True)
    ),
    "mistral": lambda: hf.MistralForCausalLM(hf.MistralConfig(**GROUPED, sliding_window=5)),
    "mistral-tokens": lambda: hf.MistralForTokenClassification(
        hf.MistralConfig(**GROUPED, num_labels=3)
    ),
    "qwen2": lambda: hf.Qwen2ForCausalLM(
        hf.Qwen2Config(**GROUPED, **WINDOWS, tie_word_embeddings=True)
    ),
    "qwen2-questions": lambda: hf.Qwen2ForQuestionAnswering(hf.Qwen2Config(**GROUPED)),
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**GROUPED, **WINDOWS, head_dim=16)),
    "xlmroberta": lambda: hf.XLMRobertaForSequenceClassification(
        hf.XLMRobertaConfig(**SHAPE, **TEXT, type_vocab_size=1)
    ),
    "camembert": lambda: hf.CamembertForTokenClassification(
        hf.CamembertConfig(**SHAPE, **TEXT, type_vocab_size=1, num_labels=3)
    ),
    "mpnet": lambda: hf.MPNetModel(hf.MPNetConfig(**SHAPE, **TEXT)),
    "mpnet-masked": lambda: hf.MPNetForMaskedLM(hf.MPNetConfig(**SHAPE, **TEXT)),
    "deberta": lambda: hf.DebertaV2ForSequenceClassification(
        hf.DebertaV2Config(**SHAPE, **TEXT, **RELATIVE, num_labels=3)
    ),
    "deberta-unshared": lambda: hf.DebertaV2ForQuestionAnswering(
        hf.DebertaV2Config(**SHAPE, **TEXT, **{**RELATIVE, "share_att_key": False})
    ),
    "modernbert": lambda: hf.ModernBertForSequenceClassification(modernbert(num_labels=3)),
    "modernbert-masked": lambda: hf.ModernBertForMaskedLM(modernbert()),
    "nomic": lambda: hf.NomicBertModel(hf.NomicBertConfig(**SHAPE, **TEXT)),
    "eurobert": lambda: hf.EuroBertForMaskedLM(hf.EuroBertConfig(**GROUPED, mask_token_id=3)),
    "smollm3": lambda: hf.SmolLM3ForCausalLM(hf.SmolLM3Config(**GROUPED, no_rope_layer_interval=2)),
    "granite": lambda: hf.GraniteForCausalLM(
        hf.GraniteConfig(**GROUPED, residual_multiplier=0.3, embedding_multiplier=3.0)
    ),
    "gemma3": lambda: hf.Gemma3ForCausalLM(gemma3()),
    "gemma3-embedding": lambda: hf.Gemma3TextModel(gemma3(use_bidirectional_attention=True)),
    "olmo2": lambda: hf.Olmo2ForCausalLM(hf.Olmo2Config(**GROUPED)),
    "phi3": lambda: hf.Phi3ForCausalLM(hf.Phi3Config(**GROUPED)),
    "cliptext": lambda: hf.CLIPTextModelWithProjection(
        hf.CLIPTextConfig(**SHAPE, **TOKENS, projection_dim=16)
    ),
    "clip": lambda: hf.CLIPForImageClassification(towers(hf.CLIPConfig)),
    "clipvision": lambda: hf.CLIPVisionModelWithProjection(
        hf.CLIPVisionConfig(**SHAPE, **IMAGE, projection_dim=16)
    ),
    "siglip": lambda: hf.SiglipForImageClassification(towers(hf.SiglipConfig)),
    "siglipvision": lambda: hf.SiglipVisionModel(hf.SiglipVisionConfig(**SHAPE, **IMAGE)),
    "sigliptext": lambda: hf.SiglipTextModel(hf.SiglipTextConfig(**SHAPE, **TOKENS)),
    "dinov3": lambda: hf.DINOv3ViTModel(
        hf.DINOv3ViTConfig(**SHAPE, **IMAGE, num_register_tokens=2)
    ),
    "dinov3-gated": lambda: hf.DINOv3ViTModel(
        hf.DINOv3ViTConfig(**SHAPE, **IMAGE, use_gated_mlp=True)
    ),
    "beit": lambda: hf.BeitForImageClassification(
        hf.BeitConfig(**SHAPE, **IMAGE, use_relative_position_bias=True, num_labels=10)
    ),
    "beit-absolute": lambda: hf.BeitModel(
        hf.BeitConfig(
            **SHAPE, **IMAGE, use_absolute_position_embeddings=True, layer_scale_init_value=0.0
        )
    ),
    "vit": lambda: hf.ViTForImageClassification(hf.ViTConfig(**SHAPE, **IMAGE, num_labels=10)),
    "deit": lambda: hf.DeiTForImageClassification(hf.DeiTConfig(**SHAPE, **IMAGE, num_labels=10)),
    "deit-teacher": lambda: hf.DeiTForImageClassificationWithTeacher(
        hf.DeiTConfig(**SHAPE, **IMAGE, num_labels=10)
    ),
    "dinov2": lambda: hf.Dinov2ForImageClassification(
        hf.Dinov2Config(**DINO, **IMAGE, num_labels=10)
    ),
    "dinov2-swiglu": lambda: hf.Dinov2ForImageClassification(
        hf.Dinov2Config(**DINO, **IMAGE, num_labels=10, use_swiglu_ffn=True)
    ),
    "registers": lambda: hf.Dinov2WithRegistersForImageClassification(
        hf.Dinov2WithRegistersConfig(**DINO, **IMAGE, num_labels=10)
    ),
    "registers-swiglu": lambda: hf.Dinov2WithRegistersModel(
        hf.Dinov2WithRegistersConfig(**DINO, **IMAGE, use_swiglu_ffn=True)
    ),
    "wav2vec2": lambda: hf.Wav2Vec2ForSequenceClassification(
        hf.Wav2Vec2Config(**SHAPE, **SOUND, num_labels=3)
    ),
    "wav2vec2-stable": lambda: hf.Wav2Vec2ForSequenceClassification(
        hf.Wav2Vec2Config(**SHAPE, **SOUND, **STABLE, num_labels=3)
    ),
    "hubert": lambda: hf.HubertForSequenceClassification(
        hf.HubertConfig(**SHAPE, **SOUND, num_labels=3)
    ),
    "hubert-stable": lambda: hf.HubertForSequenceClassification(
        hf.HubertConfig(**SHAPE, **SOUND, **STABLE, num_labels=3)
    ),
    "mixer": lambda: timm("mlp_mixer", num_blocks=3),
    "timmvit": lambda: timm("vit_tiny_patch16_224", depth=3, num_heads=4),
    "timmvit-average": lambda: timm(
        "vit_tiny_patch16_224",
        depth=3,
        num_heads=4,
        class_token=False,
        global_pool="avg",
        qk_norm=True,
    ),
    "timmvit-features": lambda: timm(
        "vit_tiny_patch16_224", features=True, depth=3, num_heads=4, reg_tokens=2, qkv_bias=False
    ),
    "timmvit-glu": lambda: timm("vit_giant_patch14_dinov2", depth=3, num_heads=4),
    "timmvit-swiglu": lambda: timm("aimv2_large_patch14_224", depth=3, num_heads=4),
    "deit3": lambda: timm("deit3_small_patch16_224", depth=3, num_heads=4),
    "timmbeit": lambda: timm("beit_base_patch16_224", depth=3, num_heads=4),
    "timmbeit-shared": lambda: timm(
        "beitv2_base_patch16_224",
        depth=3,
        num_heads=4,
        use_rel_pos_bias=False,
        use_shared_rel_pos_bias=True,
    ),
    "eva": lambda: timm("eva02_tiny_patch14_224", depth=3, num_heads=4),
    "eva-dinov3": lambda: timm("vit_small_patch16_dinov3", features=True, depth=3, num_heads=4),
    "timmvit-distilled": lambda: timm(
        "deit_tiny_distilled_patch16_224", depth=3, num_heads=4, global_pool="token"
    ),
}

FAMILIES = [name for name in MODELS if "-" not in name]  # one head of each
# one of each kind, for laws about code that all families share: post-norm, pre-norm with LayerScale
# and without token order, with transposed layers, with shared heads and windows, and with a norm
# behind its branches
KINDS = ["bert", "dinov2", "mixer", "gpt2", "qwen3", "gemma3"]


def timm(architecture: str, features: bool = False, **model_args: Any) -> Any:
    """A timm model in transformers' wrapper, with the config that every load completes it to."""
    args = {"embed_dim": 32, "img_size": 8, "patch_size": 4, "in_chans": 1, **model_args}
    config = complete(
        {"architecture": architecture, "model_args": args, "num_classes": 0 if features else 10},
        "tiny",
    )
    cls = hf.TimmWrapperModel if features else hf.TimmWrapperForImageClassification
    return cls(
        hf.TimmWrapperConfig.from_dict({k: v for k, v in config.items() if k != "architectures"})
    )


@cache
def _made(name: str) -> tuple[PreTrainedModel, torch.Tensor]:
    """A model, and the state of the generator that it was drawn from."""
    torch.manual_seed(0)
    model = MODELS[name]()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.normal_(float(name == "olmo2" and ".post_" in key), 0.1)
    return model.eval(), torch.get_rng_state()


def plain(name: str) -> PreTrainedModel:
    """The untouched model, every parameter random: libraries start biases, heads and scales at 0 or
    1, which hides mistakes. Around 0, but for OLMo 2's norms behind its branches, which would leave
    nothing of them. Made once, as that takes longer than copying it; what is drawn afterwards is
    what would be drawn if it had been made anew."""
    model, drawn = _made(name)
    torch.set_rng_state(drawn)
    return copy.deepcopy(model)


def tiny(name: str, alpha: float = 1.0, layer: LayerKind = "block") -> Network:
    """The same model as a network, all its layers at `alpha`."""
    net = adopt(plain(name))
    n = net.depth * layers_in_a_block(layer)
    net.set_structure_(net.structure.with_alpha((alpha,) * n, layer))
    return net


def network(src: str | Path, **options: Any) -> Network:
    """The network of a checkpoint, as every step loads it."""
    where = {key: options.pop(key) for key in ("config", "revision") if key in options}
    return load_source(find_source(src, **where), **options)


def saved(net: Network, directory: Path) -> Path:
    """Its model directory, as every step writes it."""
    write(net, directory, source=None, step="test", options={}, report={})
    return directory


def net_of(model: Any) -> Network:
    """The network of a model that was adopted already."""
    return Network(model, architecture_of(model.config))


def outputs(net: Network, **inputs: torch.Tensor) -> torch.Tensor:
    """What it says to random inputs (or to `inputs`)."""
    return answer(net.model, **(inputs or net.example_inputs(batch=3)))


def answer(model: Any, **inputs: torch.Tensor) -> torch.Tensor:
    """What a transformers model says to `inputs`."""
    with torch.inference_mode():
        return first_output(model(**inputs))
