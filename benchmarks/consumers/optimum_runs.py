"""What an ORTModel class of optimum makes of an ONNX directory: reads directory, class, file, and
texts or images from stdin, writes inputs and outputs, numbers by name. With tokens it generates so
many, from a cache."""

import json
import sys

import numpy as np
import optimum.onnxruntime  # type: ignore[import-not-found]
import torch
from transformers import AutoImageProcessor, AutoTokenizer

given = json.load(sys.stdin)
directory, file = given["directory"], {"file_name": given["file"]} if given["file"] else {}
model = getattr(optimum.onnxruntime, given["class"]).from_pretrained(directory, **file)
if given.get("texts"):
    tokenizer = AutoTokenizer.from_pretrained(directory)
    inputs = tokenizer(given["texts"], padding=True, truncation=True, return_tensors="np")
else:
    processor = AutoImageProcessor.from_pretrained(directory)
    images = [
        np.asarray(i["data"], "uint8").reshape(i["height"], i["width"], i["channels"])
        for i in given["images"]
    ]
    inputs = processor(images, return_tensors="np")
if count := given.get("tokens"):
    prompt = {k: torch.from_numpy(inputs[k]) for k in ("input_ids", "attention_mask")}
    greedy = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False}
    with torch.inference_mode():
        outputs = {"sequences": model.generate(**prompt, **greedy, use_cache=True).numpy()}
else:
    outputs = model(**inputs)


def plain(arrays: dict[str, object]) -> dict[str, object]:
    kept = {k: np.asarray(v) for k, v in arrays.items() if isinstance(v, np.ndarray)}
    return {k: {"shape": v.shape, "data": v.ravel().tolist()} for k, v in kept.items()}


json.dump({"inputs": plain(inputs), "outputs": plain(outputs)}, sys.stdout)
