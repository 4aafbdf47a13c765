"""Data a user names in one word: `digits`, a folder, parquet/csv/json files, a Hub data set; with
`:split` where it matters.

The checkpoint's own image processor or tokenizer prepares the examples (`images.py`, `text.py`);
labels are matched to the model by name where both have names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from acn_compress import options
from acn_compress.checkpoint.directory import Source
from acn_compress.errors import DataError
from acn_compress.network.network import Network

if TYPE_CHECKING:
    import datasets

Role = str  # "train" or "eval": which split a command reads when the user names none
SPLITS = {"train": ("train",), "eval": ("validation", "val", "dev", "test")}
FILE_TYPES = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".txt": "text",
}
LABEL_COLUMNS = ("label", "labels", "class", "target", "category", "fine_label")
TAG_COLUMNS = ("ner_tags", "pos_tags", "tags", "labels", "label")
AT_ONCE = {
    "masked-lm": 8,
    "causal-lm": 8,
}  # texts measured at once: every token has a score for the whole vocabulary


@dataclass(frozen=True)
class Columns:
    """Columns the user named; None means guess. Two text columns are written with a comma
    between."""

    label: str | None = None
    image: str | None = None
    text: str | None = None

    @classmethod
    def of(cls, how: options.Columns) -> Columns:
        """Those of a verb's options."""
        return cls(how.label_column, how.image_column, how.text_column)


class Examples(Protocol):
    """Prepared examples of one modality; `sizes` ([examples], or None if all are of one size) says
    which to put in one batch."""

    labels: list[str] | None
    sizes: Tensor | None

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...

    def collate(
        self, examples: Sequence[dict[str, Any]], *, train: bool = False, noise: Noise | None = None
    ) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class Noise:
    """Corruption of an input image, in [0, 1] pixel space before normalisation, seeded per example.

    Args:
        kind: "gaussian" (amount = standard deviation) or "salt-pepper" (amount = share of pixels
            set to 0 or 1).
    """

    kind: str
    amount: float

    @classmethod
    def parse(cls, text: str) -> Noise:
        """From "gaussian:0.2" or "salt-pepper:0.05".

        Raises:
            DataError: if it is neither.
        """
        kind, _, amount = text.partition(":")
        try:
            value = float(amount)
        except ValueError:
            value = -1.0
        if (
            kind not in {"gaussian", "salt-pepper"}
            or value < 0
            or (kind == "salt-pepper" and value > 1)
        ):
            raise DataError(
                f"noise '{text}' is not known. Expected gaussian:SD or salt-pepper:SHARE, for example gaussian:0.2 or salt-pepper:0.05."
            )
        return cls(kind, value)


@dataclass
class Data:
    """A split, ready for the model.

    Args:
        name: what the user called it, with the split.
        task: the model's task.
        examples: the prepared examples.
    """

    name: str
    task: str
    examples: Examples

    def __len__(self) -> int:
        return len(self.examples)

    def batches(
        self, size: int, *, device: Any = "cpu", noise: Noise | None = None
    ) -> Iterator[dict[str, Tensor]]:
        """Every example once, those of similar size together. The order follows from the data alone
        (a text's size is its characters, whatever the tokenizer), so that models measured on the
        same data can be paired example by example."""
        sizes = self.examples.sizes
        order = torch.arange(len(self)) if sizes is None else sizes.argsort(stable=True)
        for numbers in torch.split(order, min(size, AT_ONCE.get(self.task, size))):
            rows = [self.examples[i] for i in numbers.tolist()]
            yield {k: v.to(device) for k, v in self.examples.collate(rows, noise=noise).items()}

    def sample(
        self, count: int, *, device: Any = "cpu", noise: Noise | None = None
    ) -> Iterator[dict[str, Tensor]]:
        """At most `count` examples, evenly spread over the data, each a batch of its own."""
        for i in range(0, len(self), -(-len(self) // count)):
            yield {
                k: v.to(device)
                for k, v in self.examples.collate([self.examples[i]], noise=noise).items()
            }


def load_data(
    spec: str,
    net: Network,
    source: Source | None,
    *,
    role: Role,
    columns: Columns = Columns(),
    limit: int | None = None,
    augment: str | None = None,
    max_length: int | None = None,
    reference: Network | None = None,
) -> Data:
    """Read the data `spec` names, for `model`.

    Args:
        spec: "digits", a path, or a Hub data set, with ":split" if wanted.
        net: decides the task, the labels and the input size.
        source: where its image processor or tokenizer lies.
        role: "train" or "eval".
        columns: as the user named them.
        limit: at most this many examples, from the start.
        augment: "crop" or "flip-crop", for training on images.
        max_length: of a text, in tokens.
        reference: the model whose embeddings are the labels of the task features; None is `model`
            as it is now.
    Raises:
        DataError: saying what is there and what was expected.
    """
    from acn_compress.tasks import task_of

    task = task_of(net)
    table, name = open_table(spec, role)
    if limit is not None:
        table = table.select(range(min(limit, len(table))))
    if len(table) == 0:
        raise DataError(f"data {name} is empty.")
    if net.modality == "image":
        from acn_compress.data.images import ImageExamples

        examples: Examples = ImageExamples.prepare(table, name, net, source, columns, augment)
    else:
        from acn_compress.data.text import TextExamples

        examples = texts = TextExamples.prepare(table, name, net, source, columns, task, max_length)
        if task == "features":
            _check_reference(net, reference)
            texts.refer(reference or net)
    return Data(name, task, examples)


def _check_reference(net: Network, reference: Network | None) -> None:
    if reference is None:
        return
    for what, theirs, ours in (
        ("width", reference.width, net.width),
        ("vocabulary", reference.config.vocab_size, net.config.vocab_size),
    ):
        if theirs != ours:
            raise DataError(
                f"features: the reference has {what} {theirs}, but the model {ours}. "
                "They must be equal."
            )


def open_table(spec: str, role: Role) -> tuple[datasets.Dataset, str]:
    """The rows of a split, and its full name."""
    place, split = _split_spec(spec)
    if place == "digits":
        split = split or ("train" if role == "train" else "test")
        if split not in {"train", "test"}:
            raise DataError(f"data digits:{split}: no such split. Present: train, test.")
        return _digits(split), f"digits:{split}"
    found = _load(place)
    if split is None:
        split = next((s for s in SPLITS[role] if s in found), None) or (
            next(iter(found)) if len(found) == 1 else None
        )
    if split not in found:
        what = f"no split '{split}'" if split else f"no split for {role} could be guessed"
        raise DataError(
            f"data {place}: {what}. Present: {', '.join(found)}. Name one as {place}:SPLIT."
        )
    return found[split], f"{place}:{split}"


def has_eval_split(spec: str) -> bool:
    """Whether `spec` names no split and another split than the one it trains on is there to measure
    on."""
    place, split = _split_spec(spec)
    if split is not None:
        return False
    if place == "digits":
        return True
    return any(s in _load(place) for s in SPLITS["eval"])


def _split_spec(spec: str) -> tuple[str, str | None]:
    place, colon, split = spec.rpartition(":")
    if not colon or Path(spec).exists() or "/" in split or "\\" in split:
        return spec, None
    return place, split


def _digits(split: str) -> datasets.Dataset:
    """scikit-learn's digits: 1,797 images of 8 x 8, a fixed stratified fifth of them for test."""
    import datasets
    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    pixels = np.round(data.images * (255 / 16)).astype("uint8")
    train, test = train_test_split(
        np.arange(len(pixels)), test_size=0.2, stratify=data.target, random_state=0
    )
    rows = train if split == "train" else test
    features = datasets.Features(
        {
            "image": datasets.Array2D((8, 8), "uint8"),
            "label": datasets.ClassLabel(names=[str(i) for i in range(10)]),
        }
    )
    return datasets.Dataset.from_dict(
        {"image": pixels[rows], "label": data.target[rows]}, features=features
    )


def _load(place: str) -> dict[str, datasets.Dataset]:
    import datasets

    datasets.disable_progress_bars()
    path = Path(place).expanduser()
    try:
        if path.is_file() or "," in place:
            return _load_files([Path(p).expanduser() for p in place.split(",")])
        if path.is_dir():
            return _load_folder(path)
        if path.is_absolute() or place.startswith((".", "~")) or path.suffix in FILE_TYPES:
            raise DataError(f"data {place}: no such file or folder.")
        return dict(datasets.load_dataset(place))
    except DataError:
        raise
    except Exception as error:  # datasets raises a dozen classes of its own and of pyarrow's
        reason = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
        if "corresponds to no data" in reason[0]:  # how datasets says that there are no rows
            raise DataError(f"data {place} is empty.") from None
        raise DataError(
            f"data {place}: cannot be read ({type(error).__name__}: {reason[0][:160]})."
        ) from None


def _load_files(files: list[Path]) -> dict[str, datasets.Dataset]:
    import datasets

    for file in files:
        if not file.is_file():
            raise DataError(f"data {file}: no such file.")
        if file.suffix not in FILE_TYPES:
            raise DataError(
                f"data {file}: files of type '{file.suffix}' are not read. Expected {', '.join(FILE_TYPES)}, or a folder."
            )
        if file.stat().st_size == 0:
            raise DataError(f"data {file} is empty.")
    return dict(
        datasets.load_dataset(
            FILE_TYPES[files[0].suffix],
            data_files=[str(f) for f in files],
            **_reading(files[0].suffix),
        )
    )


def _reading(suffix: str) -> dict[str, Any]:
    """Options of the reader of a file type; a line keeps its end, which tells that the text goes on
    in the next."""
    options: dict[str, dict[str, Any]] = {
        ".tsv": {"delimiter": "\t"},
        ".txt": {"keep_linebreaks": True},
    }
    return options.get(suffix, {})


def _load_folder(path: Path) -> dict[str, datasets.Dataset]:
    """A folder of table files (split by their names), or of images (one sub-folder per class, or
    per split and class)."""
    import datasets

    for suffix, kind in FILE_TYPES.items():
        files = sorted(str(f) for f in path.glob(f"*{suffix}"))
        if files:
            names = {
                s: [f for f in files if s in Path(f).stem.split("-")[0].split("_")[0]]
                for s in ("train", "validation", "test")
            }
            by_split = {s: f for s, f in names.items() if f} or {"train": files}
            return dict(datasets.load_dataset(kind, data_files=by_split, **_reading(suffix)))
    if not any(path.iterdir()):
        raise DataError(f"data {path} is empty.")
    return dict(datasets.load_dataset("imagefolder", data_dir=str(path)))


def pick_column(
    table: Any, name: str, wanted: str | None, guesses: Sequence[str], option: str, what: str
) -> str:
    """The column to read.

    Raises:
        DataError: listing the columns present.
    """
    present = list(table.column_names)
    if wanted is not None:
        if wanted in present:
            return wanted
        raise DataError(
            f"data {name} has no column '{wanted}'. Present: {', '.join(present)}. Set {option}."
        )
    for guess in guesses:
        if guess in present:
            return guess
    raise DataError(
        f"data {name}: no column holds the {what}. Present: {', '.join(present)}. Name it with {option}."
    )


_NEW_HEAD = "To train a head for these labels: acn-compress finetune with --task, for example --task text-classification."


def label_ids(table: Any, name: str, column: str, net: Network) -> tuple[Tensor, list[str]]:
    """Labels as the model numbers them, and the model's names for them: [rows], [classes].

    Raises:
        DataError: if data and model do not have the same classes.
    """
    import datasets

    own = {int(k): str(v) for k, v in net.config.id2label.items()}
    names = [own[i] for i in sorted(own)]
    generic = all(n == f"LABEL_{i}" for i, n in enumerate(names))
    feature, values = table.features[column], table[column][:]
    if any(v is None for v in values):
        raise DataError(f"data {name}: column '{column}' has empty labels.")
    found = list(feature.names) if isinstance(feature, datasets.ClassLabel) else None
    if found is None and isinstance(values[0], str):
        found = sorted(set(values))
        values = [found.index(v) for v in values]
    if found is None:
        if any(int(v) != v for v in values):
            raise DataError(
                f"data {name}: column '{column}' is not a class label (found {values[0]!r})."
            )
        numbers = [int(v) for v in values]
        if not generic and {str(v) for v in numbers} <= set(names):  # stars from 1 to 5, say
            return torch.tensor([names.index(str(v)) for v in numbers]), names
        low, high = min(numbers), max(numbers)
        if low < 0 or high >= len(names):
            raise DataError(
                f"data {name}: labels run from {low} to {high}, but the model has {len(names)} classes (0 to {len(names) - 1}). {_NEW_HEAD}"
            )
        return torch.tensor(numbers), names
    if not generic and {n.lower() for n in found} <= {
        n.lower() for n in names
    }:  # a split need not have every label
        order = {n.lower(): i for i, n in enumerate(names)}
        values = [order[found[int(v)].lower()] if v >= 0 else v for v in values]
    elif len(found) != len(names):
        raise DataError(
            f"data {name} has {len(found)} labels ({_some(found)}), but the model has {len(names)} ({_some(names)}). {_NEW_HEAD}"
        )
    elif not generic and any(not n.isdigit() for n in found):
        raise DataError(
            f"data {name} has the labels {_some(found)}, but the model knows {_some(names)}. They must have the same names."
        )
    if min(values) < 0:
        raise DataError(
            f"data {name}: split has no labels (found {min(values)}). Name another split."
        )
    return torch.tensor(values), names


def label_names(spec: str, columns: Columns, task: str) -> list[str] | None:
    """The label names of the training split, for a model that has none yet; None for a task without
    classes."""
    import datasets

    if not task.endswith("classification"):
        return None
    table, name = open_table(spec, "train")
    typed = [c for c, f in table.features.items() if isinstance(f, datasets.ClassLabel)]
    guesses = TAG_COLUMNS if task == "token-classification" else (*typed, *LABEL_COLUMNS)
    column = pick_column(table, name, columns.label, guesses, "--label-column", "labels")
    table = flat(table, column)
    feature = table.features[column]
    if isinstance(feature, datasets.ClassLabel):
        return list(feature.names)
    return [str(v) for v in sorted(set(table[column][:]) - {None})]


def flat(table: Any, column: str) -> Any:
    """A column as a table of its own; of lists, every entry is a row."""
    import datasets

    inner = getattr(table.features[column], "feature", None)
    if inner is None:
        return table.select_columns([column])
    values = [value for row in table[column][:] for value in row or ()]
    return datasets.Dataset.from_dict({column: values}, features=datasets.Features({column: inner}))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
