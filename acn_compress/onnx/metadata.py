"""What an ONNX file says of itself: whose it is, what it takes and answers, and how it was made."""

from __future__ import annotations

import json
from pathlib import Path

from acn_compress.architectures import base_type, wav2vec2
from acn_compress.checkpoint.licence import licence
from acn_compress.checkpoint.provenance import handed_on, history, packages
from acn_compress.checkpoint.source import Source
from acn_compress.data.clips import HEARING
from acn_compress.data.pictures import Preparation
from acn_compress.network.network import Network
from acn_compress.network.plain import plain_class
from acn_compress.quality import Outcome, told
from acn_compress.tasks import head_named

PRODUCER = "acn-compress"


def producer() -> tuple[str, str]:
    """Name and version of what writes the file."""
    return PRODUCER, packages().get(PRODUCER, "")


def described(net: Network, source: Source, preparation: Preparation | None) -> dict[str, str]:
    """The metadata of a file: texts, and JSON where a fact is more than one.

    Args:
        preparation: how its images are made; None for texts.
    """
    task = head_named(plain_class(type(net.model)).__name__, net.modality)
    labels = getattr(net.config, "id2label", None) or {}
    facts = {
        "model_type": base_type(net.config.model_type),
        "task": task.pipeline_tag if task else None,
        "id2label": json.dumps({str(k): v for k, v in labels.items()}),
        "license": licence(source),
        "max_length": str(net.longest_text) if net.modality == "text" else None,
        "preprocessor": _preprocessor(preparation),
        **(_of_clips(net, source) if net.modality == "audio" else {}),
        "acn_structure": net.structure.model_dump_json(),
        "source_weights_sha256": source.sha256(),
        "provenance": json.dumps(history(source).plain()["steps"]),
    }
    return {name: fact for name, fact in facts.items() if fact is not None}


def _of_clips(net: Network, source: Source) -> dict[str, str]:
    """What becomes of a clip, in the words of transformers' feature extractors, samples that a
    frame is made of, and samples from one to the next (`Session.feeds`)."""
    extractor = source.read("preprocessor_config.json") or {}
    said = {name: extractor[name] for name in HEARING if name in extractor}
    samples, step = wav2vec2.frame(net.config)
    found = {"frame": str(samples), "hop": str(step)}
    return found | ({"preprocessor": json.dumps(said)} if said else {})


def tell_quality(file: Path, found: Outcome | None) -> None:
    """Say in a file that is finished, and says nothing of it yet, what became of the quality, which
    is measured of the file.

    Args:
        found: None if it was not measured.
    """
    import onnx

    said = onnx.StringStringEntryProto(key="quality", value=told(handed_on(found)))
    # what repeats in a message may stand anywhere in it: the file need not be read for it
    with file.open("ab") as out:
        out.write(onnx.ModelProto(metadata_props=[said]).SerializeToString())


def _preprocessor(found: Preparation | None) -> str | None:
    """What becomes of an image, in the words of transformers' processors; None where the checkpoint
    does not say it."""
    if found is None or found.note is not None:
        return None
    height, width = found.size
    said = {
        "size": {"height": height, "width": width},
        "rescale_factor": found.scale / 255,
        "image_mean": [round(v, 7) for v in found.mean.tolist()],
        "image_std": [round(v, 7) for v in found.std.tolist()],
    }
    return json.dumps(said)
