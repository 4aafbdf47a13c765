"""How to use what a directory holds: snippets for its card. Each runs as it stands in the folder
that the directory lies in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from acn_compress.checkpoint.files import read_json

# what a pipeline is called with, by the Hub's name of its task; transformers 5 knows no others
CALLS = {
    "text-classification": '"A sentence."',
    "token-classification": '"A sentence."',
    "feature-extraction": '"A sentence."',
    "text-generation": '"Once upon a time"',
    "fill-mask": 'f"A {pipe.tokenizer.mask_token}."',
    "image-classification": "image",
    "audio-classification": "audio",
}
IMAGE = 'image = Image.new("RGB", (224, 224))  # or Image.open("picture.png")'
AUDIO = 'audio = np.zeros({rate}, "float32")  # or a recording, of one channel at {rate:,} Hz'
OURS = "import acn_compress  # teaches transformers this model type"
BEGINNING = (
    'inputs["position_ids"] = inputs["attention_mask"].cumsum(-1) - 1',
    'past = [i.name for i in session.get_inputs() if i.name.startswith("past_key_values")]',
    'empty = np.zeros((1, 1, 0, 1), "float32")  # later: what the last call said, as present',
    "inputs.update(dict.fromkeys(past, empty))",
)
# a feature extractor's mask has 32 bits, and those of files have 64
WHOLE = 'inputs["attention_mask"] = inputs["attention_mask"].astype("int64")'
Code = Sequence[str]


def of_checkpoint(
    directory: Path, name: str, cls: str, task: str, plain: bool, colours: int | None = None
) -> Iterator[str]:
    """Markdown: loaded and called, in a pipeline, in sentence-transformers.

    Args:
        directory: as it is, to see what lies in it.
        name: as it will be called.
        cls: the transformers class.
        task: the Hub's name.
        plain: transformers loads it without this package.
        colours: of the images it takes; transformers makes three of every picture.
    """
    ours = () if plain else (OURS,)
    loaded = f"model = {cls if plain else 'acn_compress'}.{'from_pretrained' if plain else 'load'}"
    imports, inputs = _inputs(directory, name, '"pt"', colours)
    imports = (
        [f"from transformers import {cls}", *imports]
        if plain
        else ["import acn_compress", *imports]
    )
    call = ["outputs = model(**inputs)"] if inputs else []
    yield from _block([*imports, "", f'{loaded}("{name}")', *inputs, *call])
    called = CALLS.get(task)
    if inputs and called:
        shown, example = _example(directory, task)
        made = f'pipe = pipeline("{task}", model="{name}")'
        lines = [*shown, "from transformers import pipeline", "", *example, made]
        yield from _block([*ours, *lines, f"print(pipe({called}))"])
    if cls.endswith("Model") and (directory / "modules.json").is_file():
        yield from _block([*ours, *_sentences(f'"{name}"')])


def of_graph(
    directory: Path,
    name: str,
    file: str,
    asked: Sequence[str],
    colours: int | None = None,
    *,
    cached: bool = False,
) -> Iterator[str]:
    """Markdown: in ONNX Runtime, in sentence-transformers.

    Args:
        asked: the graph's inputs.
        colours: of its pictures.
        cached: the graph goes on from keys and values, of which there are none at the beginning.
    """
    more = ", return_token_type_ids=True" if "token_type_ids" in asked else ""
    imports, inputs = _inputs(directory, name, f'"np"{more}', colours)
    if cached and inputs:
        imports, inputs = ["import numpy as np", *imports], [*inputs, *BEGINNING]
    if "input_values" in asked and "attention_mask" in asked and inputs:
        inputs = [*inputs, WHOLE]
    call = "outputs = session.run(None, {name: inputs[name] for name in names})"
    names = "names = [i.name for i in session.get_inputs() if i.name in inputs]"
    opened = f'session = InferenceSession("{name}/{file}")'
    lines = ["from onnxruntime import InferenceSession", *imports, "", opened, *inputs]
    yield from _block([*lines, *([names, call] if inputs else [])])
    if (directory / "modules.json").is_file():
        kwargs = f'"{name}", backend="onnx", model_kwargs={{"file_name": "{file}"}}'
        yield from _block(_sentences(kwargs))


def _inputs(directory: Path, name: str, kind: str, colours: int | None) -> tuple[Code, Code]:
    """Imports, and what makes `inputs`: nothing without a tokenizer or a processor, or for pictures
    that are not made of three colours."""
    if (directory / "tokenizer_config.json").is_file():
        made = f'tokenizer = AutoTokenizer.from_pretrained("{name}")'
        called = f'inputs = tokenizer("A sentence.", return_tensors={kind})'
        return ["from transformers import AutoTokenizer"], [made, called]
    if rate := _rate(directory):
        made = f'extractor = AutoFeatureExtractor.from_pretrained("{name}")'
        called = f"inputs = extractor(audio, sampling_rate={rate}, return_tensors={kind})"
        imports = ["import numpy as np", "from transformers import AutoFeatureExtractor"]
        return imports, [AUDIO.format(rate=rate), made, called]
    if colours == 3 and (directory / "preprocessor_config.json").is_file():
        made = f'processor = AutoImageProcessor.from_pretrained("{name}")'
        called = f"inputs = processor(image, return_tensors={kind})"
        imports = ["from PIL import Image", "from transformers import AutoImageProcessor"]
        return imports, [IMAGE, made, called]
    return [], []


def _rate(directory: Path) -> int | None:
    """The sampling rate of a feature extractor; None where there is none."""
    found = (read_json(directory / "preprocessor_config.json") or {}).get("sampling_rate")
    return found if isinstance(found, int) else None


def _example(directory: Path, task: str) -> tuple[Code, Code]:
    """Imports, and what makes the image or the recording that a pipeline is called with; neither
    for a sentence."""
    if task == "image-classification":
        return ["from PIL import Image"], [IMAGE]
    if task == "audio-classification":
        return ["import numpy as np"], [AUDIO.format(rate=_rate(directory))]
    return [], []


def _sentences(arguments: str) -> Code:
    return [
        "from sentence_transformers import SentenceTransformer",
        "",
        f"model = SentenceTransformer({arguments})",
        'embeddings = model.encode(["A sentence.", "Another one."])',
    ]


def _block(lines: Code) -> Iterator[str]:
    yield from ("```python", *lines, "```", "")
