"""Examples that other processes read ahead: torch's DataLoader, told how many of them pay, kept out
of the way of signals, and with errors of one line.

What is random about an example follows from its own seed and its batch from the sampler, both of
this process: any number of workers gives the same batches, none included.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from acn_compress import processes
from acn_compress.errors import AcnError

MOST = 8  # workers that are started unasked
SHARED = Path("/dev/shm")  # what workers hand batches over in, on Linux; small in containers
QUEUED = 2  # batches that a worker has ready, as in torch
WORKER = "in DataLoader worker process"  # how torch marks an error of one
# a copy of this process, which needs no guard in a user's script; elsewhere the system's own way
CONTEXT = "fork" if sys.platform == "linux" else None

Collate = Callable[[Any], dict[str, torch.Tensor]]


def sensible() -> int:
    """How many workers to start unasked: one per processor that this process has beside its own, at
    most `MOST`; none where they would start a user's script again."""
    if CONTEXT is None:
        return 0
    spare = len(os.sched_getaffinity(0)) // processes.local_world() - 1
    return min(MOST, max(0, spare))


def loader(
    examples: Any, collate: Collate, workers: int, batch_bytes: int = 0, **batching: Any
) -> DataLoader[Any]:
    """A DataLoader with as many workers as have room for their batches.

    Args:
        examples: by index.
        collate: makes a batch of some of them.
        workers: 0 reads in this process.
        batch_bytes: of one batch, made; 0 is taken for little.
        batching: a sampler, batch_size and so on, as torch has them.
    """
    if (workers := min(workers, room(batch_bytes))) == 0:
        return DataLoader(examples, collate_fn=collate, **batching)
    with unwarned():
        return DataLoader(
            examples,
            collate_fn=collate,
            num_workers=workers,
            prefetch_factor=QUEUED,
            worker_init_fn=partial(deaf, leaving()),
            multiprocessing_context=CONTEXT,
            **batching,
        )


def room(batch_bytes: int) -> int:
    """How many workers can have their batches in shared memory, where the system says how much of
    it is left: beyond that they would be killed."""
    if batch_bytes == 0 or not SHARED.is_dir():
        return sys.maxsize
    batches = shutil.disk_usage(SHARED).free // 2 // batch_bytes  # half, for who else needs it
    return max(0, (batches - 1) // QUEUED)  # one is in use


def ahead(
    examples: Any,
    batches: Sequence[Sequence[int]],
    collate: Collate,
    workers: int,
    batch_bytes: int = 0,
) -> Iterator[Any]:
    """Batches of examples by their numbers, in order; torch's own random numbers are left alone."""
    if workers == 0:
        yield from (collate([examples[i] for i in numbers]) for numbers in batches)
        return
    own = torch.Generator()
    made = loader(examples, collate, workers, batch_bytes, batch_sampler=batches, generator=own)
    with unwarned():
        begun = iter(made)
    told = None
    try:
        yield from begun
    except AcnError as error:
        told = plain(error)
    finally:
        del begun  # ends its workers now, while nothing else keeps them
    if told is not None:
        raise told


@cache
def leaving() -> Event:
    """Set when this process ends, before it waits for its workers."""
    found = multiprocessing.get_context(CONTEXT).Event()
    atexit.register(found.set)
    return found


def deaf(done: Event, worker: int) -> None:
    """Leave signals to the process that a worker works for, as Ctrl-C and a scheduler reach both;
    but end with it."""
    for number in processes.SIGNALS:
        signal.signal(number, lambda *_: os._exit(0) if done.is_set() else None)


@contextmanager
def unwarned() -> Iterator[None]:
    """Inside, torch does not say that there are more workers than processors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def plain(error: AcnError) -> AcnError:
    """An error of a worker as it would be said here: torch puts its traceback into its text, whose
    last line is the error."""
    text = str(error)
    if WORKER not in text:
        return error
    traceback.clear_frames(error.__traceback__)  # of torch, which hold its workers
    return type(error)(text.strip().splitlines()[-1].partition(": ")[2])
