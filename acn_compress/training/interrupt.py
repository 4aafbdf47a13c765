"""How a run ends early: Ctrl-C, SIGTERM (a scheduler, `kill`, a shutdown) and SIGHUP (the terminal
is gone) are one thing here.

While a network trains the first of them ends the run after the current step, with a checkpoint; a
second one ends it at once. Everywhere else they are an exception, so that what is half is taken
away on the way out. The exit code is the shell's own: 128 and the signal's number. A SIGHUP that is
ignored from outside (`nohup`) stays ignored.

An exception that may come anywhere does not always get out. While a C extension is imported it
becomes an ImportError ("initialization failed"), in a descriptor's `__set_name__` a RuntimeError:
`as_signal` makes it the signal again. In a `__del__` it is dropped: the signal is given again.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from acn_compress import processes
from acn_compress.errors import Interrupted

Handler = Callable[[int, FrameType | None], None]
AGAIN = 0.05  # seconds after which a signal that was dropped is given again

_raised: list[int] = []
"""The signals that were made exceptions inside `handling`."""


class Stopped(KeyboardInterrupt):
    """SIGTERM or SIGHUP came, where nothing could be saved any more."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def exit_code(number: int) -> int:
    """Of a process that a signal ended: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + number


def number_of(stopped: KeyboardInterrupt) -> int:
    """The signal behind an exception."""
    return stopped.number if isinstance(stopped, Stopped) else int(signal.SIGINT)


def stop(number: int, frame: FrameType | None) -> None:
    """A handler: end what is running now. A launcher of several processes passes on what they have
    heard already, and kills them when it has waited long enough: further ones are not heard there.

    Raises:
        KeyboardInterrupt, Stopped: as the signal is.
    """
    if processes.world() > 1:
        for other in processes.SIGNALS:
            signal.signal(other, signal.SIG_IGN)
    _raised.append(number)
    raise _exception(number)


@contextmanager
def as_signal() -> Iterator[None]:
    """An error inside that a signal was made into, by whoever was at work then, is the signal.

    Raises:
        KeyboardInterrupt, Stopped: as the signal was.
    """
    try:
        yield
    except Exception as error:
        if not _raised or isinstance(error, Interrupted):
            raise
        raise _exception(_raised[-1]) from error


@contextmanager
def handling(handler: Handler = stop) -> Iterator[None]:
    """Inside, `handler` gets these signals; afterwards who had them before. Only the main thread
    can have them: in another one nothing changes."""
    before, hook = {}, sys.unraisablehook
    try:
        for number in processes.SIGNALS:
            if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
    except ValueError:  # not the main thread
        pass
    else:
        sys.unraisablehook = _giving_again(hook)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        _raised.clear()
        for number, old in before.items():
            signal.signal(number, old or signal.SIG_DFL)


def _exception(number: int) -> KeyboardInterrupt:
    return KeyboardInterrupt() if number == signal.SIGINT else Stopped(number)


def _giving_again(before: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """What is told of exceptions that Python drops; `before` hears of all but signals."""

    def dropped(what: Any) -> None:
        if not (issubclass(what.exc_type, KeyboardInterrupt) and _raised):
            before(what)
            return
        number = _raised[-1]
        signal.signal(number, stop)  # in one of several processes it is ignored by now
        timer = threading.Timer(AGAIN, os.kill, (os.getpid(), number))
        timer.daemon = True
        timer.start()

    return dropped
