"""The processes of one launch (`torchrun`, `accelerate launch`), which do one command together.

The first one, rank 0, runs the command as it would alone: it reads, decides, times, writes and
speaks. The others wait, and do their part where work is shared:

    together(function, *args)    every process calls `function`, with what rank 0 has; inside, sums
                                 and means are over all of them

So nothing but a shared function need know that there are several, and what is not shared is done
once. How a command ends is told to all. An error inside a shared function ends the command: who has
it leaves, and the others lose the connection.
"""

from __future__ import annotations

import atexit
import io
import os
import pickle
import signal
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from acn_compress.errors import AcnError, ConfigError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
LONG = timedelta(days=30)  # rank 0 may be busy alone for as long as a training takes
POLL = 0.005  # seconds between two looks for work, in which a signal is heard
CHUNK = 1 << 28  # bytes that are sent at once
FAILED = "acn-compress/failed"  # where a process leaves what went wrong in it
OTHERS = {"ACCELERATE_USE_FSDP": "FSDP", "ACCELERATE_USE_DEEPSPEED": "DeepSpeed"}


def rank() -> int:
    """Of this process; 0 where there is one only."""
    return int(os.environ.get("RANK", "0")) if world() > 1 else 0


def world() -> int:
    """How many processes were launched."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_rank() -> int:
    """Of this process on its machine: the number of its accelerator."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def local_world() -> int:
    """How many were launched on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", str(world())))


def led(command: Callable[[], T]) -> T:
    """Do a command: rank 0 calls it, the others work for it.

    Returns:
        What it returned, in every process.
    Raises:
        What it raised, likewise; in the others SystemExit for what nobody foresaw, which rank 0
        shows.
    """
    launch = _Launch.now
    if world() == 1 or (launch is not None and launch.busy):
        return command()
    launch = launch or _connected()
    if launch.broken:
        raise RuntimeError("an error has parted the processes: launch them again.")
    launch.busy = True
    try:
        return launch.lead(command) if rank() == 0 else launch.work()
    finally:
        launch.busy = False
        if launch.broken:
            launch.leave()


def together(function: Callable[..., T], *args: object, **own: object) -> T:
    """Call a function in every process.

    Args:
        function: of a module, so that it can be named.
        args: sent to the others; an object whose class has `sent_once` only the first time.
        own: of rank 0 alone: the others call it without.
    Returns:
        What it returned here; what it returned elsewhere, or did to `args` there, is gone.
    """
    launch = _Launch.now
    if launch is None or not launch.busy or launch.sharing:
        return function(*args, **own)
    with launch.parting():
        launch.send(_Task(function, tuple(map(launch.packed, args))))
        return launch.share(function, args, own)


# inside a shared function


def part() -> slice:
    """This process's share of a sequence, evenly spread: of batches, for one."""
    return slice(rank(), None, world()) if _sharing() else slice(None)


def joined(parts: list[T]) -> list[T]:
    """The whole sequence, from every process's share of it (`part`)."""
    if not _sharing():
        return parts
    import torch.distributed as dist

    shares: list[Any] = [None] * world()
    dist.all_gather_object(shares, parts, group=_group())
    return [shares[i % world()][i // world()] for i in range(sum(map(len, shares)))]


def summed(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The sums over all processes, without gradients."""
    if not _sharing():
        return tensors
    import torch.distributed as dist

    found = tuple(tensor.detach().clone().contiguous() for tensor in tensors)
    for tensor in found:
        dist.all_reduce(tensor, group=_group() if tensor.device.type == "cpu" else None)
    return found


def mean(values: Tensor, weight: Tensor | None = None) -> Tensor:
    """This process's part of the weighted mean over the values of all: the mean of what the
    processes get is that mean, and so are its gradients, which are averaged as well."""
    weight = values.new_ones(values.shape) if weight is None else weight
    (whole,) = summed(weight.sum())
    shares = world() if _sharing() else 1
    return (values * weight).sum() / whole * shares


def largest(number: int) -> int:
    """The largest of what every process has."""
    if not _sharing():
        return number
    import torch
    import torch.distributed as dist

    found = torch.tensor(number)
    dist.all_reduce(found, dist.ReduceOp.MAX, group=_group())
    return int(found)


# how it is done


class _Task(NamedTuple):
    """Work for all."""

    function: Callable[..., object]
    args: tuple[object, ...]


class _End(NamedTuple):
    """How the command ended."""

    result: object
    error: BaseException | None


class _Known(NamedTuple):
    """Stands for an object that is sent once.

    Args:
        number: of it.
        new: the object, the first time.
        gone: numbers of those that rank 0 has no more.
    """

    number: int
    new: object
    gone: tuple[int, ...]


@dataclass
class _Launch:
    """The processes, once they are connected.

    Args:
        group: of all, on the CPU.
        store: what all can read.
        ours: they were not connected before.
        busy: a command runs.
        sharing: a shared function is running.
        broken: an error came out of one: the others are not where they can be told.
    """

    group: Any
    store: Any
    ours: bool
    busy: bool = False
    sharing: bool = False
    broken: bool = False
    known: dict[int, Any] = field(default_factory=dict)
    numbers: dict[int, int] = field(default_factory=dict)
    gone: list[int] = field(default_factory=list)

    now: ClassVar[_Launch | None] = None

    def lead(self, command: Callable[[], T]) -> T:
        """What rank 0 does."""
        try:
            result = command()
        except BaseException as error:
            foreseen = isinstance(error, AcnError | KeyboardInterrupt)
            if not self.broken:
                with suppress(RuntimeError):  # who left first has heard the same signal
                    self.send(_End(None, error if foreseen else SystemExit(1)))
            raise
        self.send(_End(result, None))
        return result

    def work(self) -> Any:
        """What the others do."""
        with self.parting():
            while isinstance(told := self.receive(), _Task):
                self.share(told.function, tuple(map(self.unpacked, told.args)), {})
        if told.error is not None:
            raise told.error
        return told.result

    def share(
        self, function: Callable[..., T], args: tuple[object, ...], own: dict[str, object]
    ) -> T:
        """Call a shared function."""
        self.sharing = True
        try:
            return function(*args, **own)
        finally:
            self.sharing = False

    @contextmanager
    def parting(self) -> Iterator[None]:
        """An error inside parts the processes."""
        try:
            yield
        except BaseException as error:
            self.broken = True
            raise self._first_of(error) from None

    def _first_of(self, error: BaseException) -> BaseException:
        """What went wrong first, in whichever process."""
        told = error
        if not isinstance(error, AcnError | KeyboardInterrupt):
            told = RuntimeError(f"in process {rank()}:\n{traceback.format_exc()}")
        if rank() == 0 and told is not error and (first := self._left()) is not None:
            return first
        if rank() and not self.store.check([FAILED]):
            self.store.set(FAILED, pickle.dumps(told))
        if rank() and told is not error:
            return SystemExit(1)
        return error

    def _left(self) -> BaseException | None:
        """What another process left, if that is why it is gone."""
        if not self.store.check([FAILED]):
            time.sleep(1)
        if not self.store.check([FAILED]):
            return None
        first: BaseException = pickle.loads(self.store.get(FAILED))
        return first

    def leave(self) -> None:
        """Part with the others."""
        import torch.distributed as dist

        if self.ours and dist.is_initialized():
            dist.destroy_process_group()

    # messages

    def send(self, message: _Task | _End) -> None:
        """From rank 0 to all others."""
        import torch
        import torch.distributed as dist

        buffer = io.BytesIO()
        torch.save(message, buffer)
        content = torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8)
        dist.broadcast(torch.tensor(len(content)), 0, group=self.group)
        for chunk in content.split(CHUNK):
            dist.broadcast(chunk, 0, group=self.group)

    def receive(self) -> _Task | _End:
        """What rank 0 sends next; a signal is heard while nothing comes."""
        import torch
        import torch.distributed as dist

        size = torch.tensor(0)
        coming = dist.broadcast(size, 0, group=self.group, async_op=True)
        while not coming.is_completed():
            time.sleep(POLL)
        coming.wait()
        content = torch.empty(int(size), dtype=torch.uint8)
        for chunk in content.split(CHUNK):
            dist.broadcast(chunk, 0, group=self.group)
        own = {"cuda:0": f"cuda:{local_rank()}"}
        message: _Task | _End
        buffer = io.BytesIO(content.numpy().data)
        # pickle, as no file is read here: it comes from rank 0 of this launch, as this process does
        message = torch.load(buffer, map_location=own, weights_only=False)
        return message

    def packed(self, arg: object) -> object:
        """What is sent of an argument."""
        if not getattr(arg, "sent_once", False):
            return arg
        gone, self.gone = tuple(self.gone), []
        if (number := self.numbers.get(id(arg))) is not None:
            return _Known(number, None, gone)
        number = self.numbers[id(arg)] = max(self.numbers.values(), default=0) + 1
        weakref.finalize(arg, self._forget, id(arg))
        return _Known(number, arg, gone)

    def _forget(self, place: int) -> None:
        self.gone.append(self.numbers.pop(place))

    def unpacked(self, arg: object) -> object:
        """The argument."""
        if not isinstance(arg, _Known):
            return arg
        for number in arg.gone:
            self.known.pop(number, None)
        return self.known.setdefault(arg.number, arg.new)


def _sharing() -> bool:
    return _Launch.now is not None and _Launch.now.sharing


def _group() -> Any:
    assert _Launch.now is not None
    return _Launch.now.group


def _connected() -> _Launch:
    """The processes, connected until they end.

    Raises:
        ConfigError: for launches that would be wrong.
    """
    for name, what in OTHERS.items():
        if os.environ.get(name, "false").lower() in ("1", "true"):
            raise ConfigError(
                f"{what} is not supported: a model is whole in every process. Launch without it: "
                "torchrun --nproc_per_node N -m acn_compress ..."
            )
    import torch
    import torch.distributed as dist

    cuda = torch.cuda.is_available()
    if cuda and local_rank() < torch.cuda.device_count():
        torch.cuda.set_device(local_rank())
    ours = not dist.is_initialized()
    if ours:
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=LONG)
    group = dist.new_group(backend="gloo", timeout=LONG)
    launch = _Launch(group, dist.distributed_c10d._get_default_store(), ours)
    _Launch.now = launch
    atexit.register(launch.leave)
    return launch
