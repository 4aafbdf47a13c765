"""Weights and config of a network into a directory, compared with the network once written."""

from __future__ import annotations

from pathlib import Path

import torch

from acn_compress.architectures import base_type
from acn_compress.checkpoint.files import read_json, write_json
from acn_compress.checkpoint.quiet import quiet
from acn_compress.errors import VerificationError
from acn_compress.network.network import Network
from acn_compress.network.plain import plain_class
from acn_compress.network.sayable import is_plain

SHARD = "5GB"  # largest weight file


def save(net: Network, out: Path) -> None:
    """Write config.json and safetensors into an existing directory, and compare what was written
    with the model.

    A network that plain transformers makes of its config (`sayable.is_plain`) is written as a plain
    checkpoint; any other gets a model type that plain transformers refuses.

    Raises:
        VerificationError: if the file does not hold the model's tensors.
    """
    with quiet():
        net.model.save_pretrained(out, save_original_format=False, max_shard_size=SHARD)
    if is_plain(net):
        _name_plainly(net, out)
    _verify_saved(net, out)


def save_graph_config(net: Network, out: Path, **fields: object) -> None:
    """Write the config.json of a graph: it runs by itself, so whoever reads the config needs the
    family's own type and nothing of ours.

    Args:
        fields: for its readers, beside the config's own.
    """
    with quiet():
        net.config.save_pretrained(out)
    _name_plainly(net, out, "acn", **fields)


def _name_plainly(net: Network, out: Path, *left_out: str, **fields: object) -> None:
    """Let config.json name the family's own type and class."""
    data = read_json(out / "config.json") or {}
    data |= {
        "model_type": base_type(data["model_type"]),
        "architectures": [plain_class(type(net.model)).__name__],
        **fields,
    }
    write_json(out / "config.json", {k: v for k, v in data.items() if k not in left_out})


def _verify_saved(net: Network, out: Path) -> None:
    from safetensors import safe_open

    state = net.model.state_dict()
    seen: set[int] = set()
    for file in sorted(out.glob("*.safetensors")):
        # read, not mapped: a mapped file's pages would count as a second copy of the model
        with safe_open(file, framework="pt", backend="pread") as tensors:
            for key in tensors.keys():  # noqa: SIM118  (not a dict)
                if key not in state or not torch.equal(
                    tensors.get_tensor(key), state[key].detach().cpu()
                ):
                    raise VerificationError(
                        f"{file.name}: '{key}' is not what the model holds. The disk or the file "
                        "system is at fault."
                    )
                seen.add(state[key].data_ptr())
    lost = [k for k, v in state.items() if v.data_ptr() not in seen and v.numel()]
    if lost:
        raise VerificationError(f"{len(lost)} tensors were not written: {', '.join(lost[:3])}.")
