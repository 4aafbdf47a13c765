"""How many tokens a second an exported language model generates from the keys and values that its
graph keeps, and reading the whole text anew for every token; and whether they are those of torch.

    python -m benchmarks.generation MODEL [MODEL ...] --prompt 64 --tokens 64

Every model is exported. ONNX Runtime on one thread, one text of random tokens, greedy; the ways are
run in turn, in the processor's time. Writes generation-NAME.json, NAME being the first model's.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

from acn_compress import export
from acn_compress.backends.latency import clock_for
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.provenance import machine
from acn_compress.found import Found
from acn_compress.measure.timing import interleave, spread
from acn_compress.onnx.cache import PAST, PRESENT, is_past
from acn_compress.onnx.layout import onnx_file
from acn_compress.onnx.session import Array, Session
from benchmarks.command import RESULTS, parser, rounded, write

ROUNDS = 5


class Generated(Found):
    """What a model generates, and how fast."""

    model: str
    parameters: int
    prompt: int
    tokens: int
    cached: float
    """Tokens a second."""
    anew: float
    """Tokens a second, reading the whole text for each."""
    like_torch: float
    """Share of the tokens, of both ways, that torch generates without a cache."""


def from_cache(session: Session, ids: Array, tokens: int) -> Array:
    """The tokens [1, tokens] that follow `ids` [1, prompt]."""
    mask, found = np.ones_like(ids), []
    names = ["logits", *(i.name.replace(PAST, PRESENT) for i in session.inputs if is_past(i.name))]
    past: dict[str, Array] = {}
    for _ in range(tokens):
        logits, *kept = session.run(names, {"input_ids": ids, "attention_mask": mask, **past})
        past = {n.replace(PRESENT, PAST): value for n, value in zip(names[1:], kept, strict=True)}
        ids = logits[:, -1:].argmax(-1)
        mask = np.concatenate((mask, np.ones_like(ids)), 1)
        found.append(ids)
    return np.concatenate(found, 1)


def anew(session: Session, ids: Array, tokens: int) -> Array:
    """The same, each from the whole text."""
    text = ids
    for _ in range(tokens):
        feeds = {"input_ids": text, "attention_mask": np.ones_like(text)}
        (logits,) = session.run(["logits"], feeds)
        text = np.concatenate((text, logits[:, -1:].argmax(-1)), 1)
    return text[:, ids.shape[1] :]


def generated(source: Path, prompt: int, tokens: int) -> Generated:
    """One model."""
    net = load_source(find_source(source))
    ids = net.example_inputs(batch=1, length=prompt)["input_ids"]
    with torch.inference_mode():
        greedy = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False}
        said = net.model.generate(input_ids=ids, **greedy, use_cache=False)[:, prompt:].numpy()
    with tempfile.TemporaryDirectory() as place:
        export(source, Path(place) / "onnx")
        session = Session(Path(place) / "onnx" / onnx_file())
        ways = [partial(way, session, ids.numpy(), tokens) for way in (from_cache, anew)]
        same = [float(np.mean(way() == said)) for way in ways]
        seconds = interleave(ways, ROUNDS, warmup=1, clock=clock_for(1))
    cached, whole = (tokens / spread(s)["median"] for s in seconds)
    return Generated(
        model=source.name,
        parameters=net.parameters,
        prompt=prompt,
        tokens=tokens,
        cached=cached,
        anew=whole,
        like_torch=min(same),
    )


def main() -> None:
    """The command."""
    command = parser(__doc__)
    command.add_argument("models", type=Path, nargs="+", help="language models")
    command.add_argument("--prompt", type=int, default=64, help="tokens that are given")
    command.add_argument("--tokens", type=int, default=64, help="tokens that are generated")
    options = command.parse_args()
    found = [generated(model, options.prompt, options.tokens) for model in options.models]
    for row in found:
        print(row)
    report = {"benchmark": "generation", "machine": machine(), "rows": rounded(found)}
    write(RESULTS / f"generation-{options.models[0].name}.json", report)


if __name__ == "__main__":
    main()
