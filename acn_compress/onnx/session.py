"""An ONNX file in ONNX Runtime, on the CPU: the one place that opens one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from acn_compress.errors import AcnError, CheckpointError, DataError
from acn_compress.onnx.cache import from_the_beginning, is_present, own_inputs
from acn_compress.onnx.layout import file_bytes
from acn_compress.tasks.base import features

if TYPE_CHECKING:
    from onnxruntime import SessionOptions
    from torch import Tensor

Array = np.ndarray[Any, np.dtype[Any]]

LARGEST = 1 << 28  # numbers of one input: more is a damaged shape
PATIENCE = 60.0  # seconds to open a file or run it once, and one more for each
FRAMES = {"frame": 400, "hop": 320}  # samples, where a file of clips does not say it: wav2vec 2.0's
PER_SECOND = 10_000_000  # bytes of it
# of inputs: those of our models first, then what else strangers' take
TYPES = {
    "tensor(int64)": "int64",
    "tensor(float)": "float32",
    "tensor(int32)": "int32",
    "tensor(float16)": "float16",
}


def reason(error: BaseException) -> str:
    """Why a library failed, in one line of at most 200 characters: the first line of the innermost
    cause, as exporters wrap theirs in hundreds."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:200]


@dataclass(frozen=True)
class Input:
    """One input of a file: its name, its shape (None where any size fits), its numpy type."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


class Session:
    """A file, open.

    Args:
        path: the file.
        threads: of ONNX Runtime.
        lean: keep no second, rewritten copy of the weights, which takes more time per run.
        folded: work out once what does not depend on the inputs. A weight in half precision is then
            held in float32 too, and opening takes four times the file's bytes.
    Raises:
        CheckpointError: in one line, if it is damaged or something else.
    """

    def __init__(
        self, path: Path, threads: int = 1, *, lean: bool = False, folded: bool = True
    ) -> None:
        self.path = path
        self.patience = PATIENCE + file_bytes(path) / PER_SECOND
        options = _options(threads, lean, folded)
        with self._readable(lambda: options.set_load_cancellation_flag(True)):
            import onnxruntime

            self._session = onnxruntime.InferenceSession(
                str(path),
                options,
                providers=["CPUExecutionProvider"],
                enable_fallback=0,
                disabled_optimizers=None if folded else ["ConstantFolding"],
            )
            said = [o.name for o in self._session.get_outputs()]
            self.outputs: list[str] = [name for name in said if not is_present(name)]
            self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
            self.inputs = [self._input(i) for i in self._session.get_inputs()]

    def _input(self, given: Any) -> Input:
        if given.type not in TYPES:
            raise CheckpointError(
                f"{self.path}: input {given.name} is a {given.type}. "
                f"Expected {' or '.join(TYPES)}, as in the files that export writes."
            )
        shape = tuple(d if isinstance(d, int) else None for d in given.shape)
        return Input(given.name, shape, TYPES[given.type])

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, Array]) -> list[Array]:
        """The outputs `names` (None: all) for inputs by name, of a text from its beginning where
        nothing is said of a past."""
        found: list[Array] = self._session.run(names, from_the_beginning(feeds, self.inputs))
        return found

    def try_out(self, feeds: Mapping[str, Array]) -> None:
        """Run it once, with an end to patience.

        Raises:
            CheckpointError: in one line, if it cannot be run.
        """
        import onnxruntime

        options = onnxruntime.RunOptions()
        options.log_severity_level = 4
        with self._readable(lambda: setattr(options, "terminate", True)):
            self._session.run(None, feeds, options)

    @contextmanager
    def _readable(self, stop: Callable[[], None]) -> Iterator[None]:
        """Inside, whatever ONNX Runtime raises is one line, and `stop` is called when patience
        ends."""
        timer = threading.Timer(self.patience, stop)
        timer.daemon = True
        timer.start()
        try:
            yield
        except AcnError:
            raise
        except Exception as error:  # it has a dozen classes of its own, all bare Exceptions
            late = "" if timer.is_alive() else f" within {self.patience:.0f} s"
            raise CheckpointError(
                f"{self.path}: ONNX Runtime cannot run this file{late} ({reason(error)}). "
                "Export it again."
            ) from None
        finally:
            timer.cancel()

    def feeds(self, batch: int, length: int) -> dict[str, Array]:
        """Inputs that the file accepts: random numbers, and tokens that are all 1.

        Args:
            batch: rows.
            length: of what else has any size: tokens, or fewer where the model takes no more; of
                clips, frames.
        Raises:
            CheckpointError: if it asks for more than anything could hold.
        """
        longest = self.metadata.get("max_length", "")
        length = min(length, int(longest)) if longest.isdecimal() and int(longest) else length
        if any(i.name == "input_values" for i in self.inputs):
            told = {n: self.metadata.get(n, "") for n in FRAMES}
            first, step = (int(t) if t.isdecimal() else FRAMES[n] for n, t in told.items())
            length = first + (length - 1) * step
        rng = np.random.default_rng(0)
        own = own_inputs(self.inputs)
        given = [i for i in self.inputs if i not in own]
        made = {i.name: self._feed(i, batch, length, rng) for i in given}
        return from_the_beginning(made, self.inputs)

    def _feed(self, given: Input, batch: int, length: int, rng: np.random.Generator) -> Array:
        sizes = [length if size is None else size for size in given.shape]
        shape = [batch, *sizes[1:]] if sizes else []
        if min(shape, default=1) < 1 or np.prod(shape, dtype=float) > LARGEST:
            raise CheckpointError(
                f"{self.path}: input {given.name} is to have the shape {shape}. "
                "The file is damaged: export it again."
            )
        if given.dtype.startswith("int"):
            return np.ones(shape, dtype=given.dtype)
        return np.asarray(rng.standard_normal(shape), dtype=given.dtype)


def taken(batch: Mapping[str, Tensor], inputs: Sequence[Input]) -> dict[str, Array]:
    """What a file takes of a batch; token types that a tokenizer leaves out are all 0, and a text
    is read from its beginning.

    Raises:
        DataError: if it asks for something else.
    """
    found = dict(batch)
    if "input_ids" in batch:
        found.setdefault("token_type_ids", torch.zeros_like(batch["input_ids"]))
    own = own_inputs(inputs)
    asked = [i for i in inputs if i not in own]
    if unknown := [i.name for i in asked if i.name not in found]:
        there = ", ".join(sorted(features(found)))
        raise DataError(
            f"the ONNX file has an input {unknown[0]}, which is not made of the data: expected "
            f"among {there}."
        )
    given = {i.name: np.ascontiguousarray(found[i.name].numpy(), i.dtype) for i in asked}
    return from_the_beginning(given, inputs)


def _options(threads: int, lean: bool, folded: bool) -> SessionOptions:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = folded and not lean  # it keeps what a run needed
    if lean:
        level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.graph_optimization_level = level
        # a weight becomes float32 when it is needed, not first
        options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
        options.enable_mem_pattern = False
        options.add_session_config_entry("session.disable_prepacking", "1")
    return options
