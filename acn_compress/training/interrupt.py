"""How a run ends early: Ctrl-C, SIGTERM (a scheduler, `kill`, a shutdown) and SIGHUP (the terminal
is gone) are one thing here.

While a network trains the first of them ends the run after the current step, with a checkpoint; a
second one ends it at once. Everywhere else they are an exception, so that what is half is taken
away on the way out. The exit code is the shell's own: 128 and the signal's number. A SIGHUP that is
ignored from outside (`nohup`) stays ignored.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from acn_compress import processes

Handler = Callable[[int, FrameType | None], None]


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
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Stopped(number)


@contextmanager
def handling(handler: Handler = stop) -> Iterator[None]:
    """Inside, `handler` gets these signals; afterwards who had them before. Only the main thread
    can have them: in another one nothing changes."""
    before = {}
    try:
        for number in processes.SIGNALS:
            if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
    except ValueError:  # not the main thread
        pass
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old or signal.SIG_DFL)
