"""What makes a training the one it is: stored with its checkpoint as plain JSON, and compared
before it goes on, because anything else would end at weights that no run gives."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from acn_compress.found import Found

if TYPE_CHECKING:
    from acn_compress.checkpoint.source import Source
    from acn_compress.data.load import Data
    from acn_compress.network.network import Network
    from acn_compress.options import Trained
    from acn_compress.training.walk import Walk

MOST = 20_000  # examples that a fingerprint reads: images may have to be decoded for it
# options that name a place: what lies there is compared; and those no weight depends on
PLACES = {"src", "out", "data", "teacher", "config"}
AFTER = {"eval_data", "eval_limit", "device", "workers", "resume", "overwrite"}


class Run(Found):
    """A training, as far as its weights depend on it."""

    version: Literal[2] = 2
    step: str
    """What trains: the verb."""
    options: dict[str, object]
    """Of the step and its training."""
    steps: int
    """Optimizer steps of the whole run."""
    data_name: str
    """What the user called the data, for the message alone."""
    data: str
    """Fingerprint of the prepared examples."""
    network: str
    """Fingerprint of the shapes and the structure that training starts from."""
    walk: str | None = None
    """How alpha moves."""
    source: str | None = None
    """SHA-256 of the weights of the checkpoint."""
    teacher: str | None = None
    """SHA-256 of the teacher's weights."""

    @classmethod
    def of(
        cls,
        net: Network,
        data: Data,
        how: Trained,
        steps: int,
        walk: Walk | None,
        source: Source | None,
        teacher: Network | None,
    ) -> Run:
        """Of a training that is about to begin; `source` is what the network was made from."""
        return cls(
            step=getattr(how, "verb", "training"),
            options={k: v for k, v in how.plain().items() if k not in PLACES | AFTER},
            steps=steps,
            data_name=data.name,
            data=fingerprint(data),
            network=_shape(net),
            walk=None if walk is None else json.dumps(dataclasses.asdict(walk)),
            source=source.sha256() if source is not None and source.weights else None,
            teacher=None if teacher is None else weights_sha256(teacher),
        )

    def differences(self, now: Run) -> list[str]:
        """What is otherwise in the run of `now`, for people; none if it can go on from this one."""
        if self.step != now.step:
            return [f"it was made by {self.step}, not by {now.step}"]
        found = [
            f"{name} was {_said(self.options.get(name))}, is {_said(now.options.get(name))}"
            for name in sorted(self.options.keys() | now.options.keys())
            if self.options.get(name) != now.options.get(name)
        ]
        if self.data != now.data:
            same = self.data_name == now.data_name
            found.append(
                f"the content of {now.data_name} changed"
                if same
                else f"the data were {self.data_name}, are {now.data_name}"
            )
        for what, name in (("source", "the source"), ("teacher", "the teacher")):
            if getattr(self, what) != getattr(now, what):
                found.append(f"{name} has other weights")
        rest = (self.steps, self.network, self.walk) != (now.steps, now.network, now.walk)
        return found or (["the network or its schedule is another"] if rest else [])


def fingerprint(data: Data, most: int | None = None) -> str:
    """SHA-256 of prepared examples: of all, or of `most` (`MOST`) evenly spread over them, and
    their number. Embeddings that stand for labels are the reference's, not the data's."""
    digest = hashlib.sha256(repr((data.task.name, len(data), data.examples.labels)).encode())
    for i in range(0, len(data), -(-len(data) // (most or MOST))):
        for name, value in sorted(data.examples[i].items()):
            if not (data.task.taught and name == "labels"):
                digest.update(name.encode())
                digest.update(_bytes(value))
    return digest.hexdigest()


def weights_sha256(net: Network) -> str:
    """Of every tensor of a network in memory that came from a checkpoint."""
    digest = hashlib.sha256()
    for name, tensor in sorted(net.model.state_dict().items()):
        if name not in net.fresh:
            digest.update(name.encode())
            digest.update(_bytes(tensor))
    return digest.hexdigest()


def _shape(net: Network) -> str:
    shapes = {name: list(t.shape) for name, t in net.model.state_dict().items()}
    structure = net.structure.model_dump(mode="json")
    return hashlib.sha256(json.dumps([shapes, structure], sort_keys=True).encode()).hexdigest()


def _bytes(value: object) -> bytes:
    if isinstance(value, Tensor):
        return value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    if isinstance(value, list):  # the windows of a long text
        return b"".join(_bytes(part) for row in value for _, part in sorted(row.items()))
    return value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()


def _said(value: object) -> str:
    return "not given" if value is None else str(value)
