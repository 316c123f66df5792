"""What stops a run, Ctrl-C, SIGTERM or SIGHUP: heard between two pieces of work, not in one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

ENDS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""What ends a run as Ctrl-C does; Windows has no SIGHUP."""
STOPS = (signal.SIGINT, *ENDS)
ECHO_S = 3.0
"""A terminal that closes says so itself, and its shell says it again (our choice)."""


class Stopped(KeyboardInterrupt):
    """A signal of ``ENDS`` came.

    Attributes:
        number: which one.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise ``Stopped`` at SIGTERM and SIGHUP, where they would end the process.

    What is ignored stays ignored, such as SIGHUP under nohup. What comes again within ``ECHO_S`` is
    one and the same, and what comes after the block has been stopped is ignored: it would end the
    process half way through its own ending. Outside the main thread, where Python delivers no
    signals, nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = float("-inf")

    def stop(number: int, frame: object) -> None:
        nonlocal heard
        since, heard = monotonic() - heard, monotonic()
        if since > ECHO_S:
            raise Stopped(number)

    ours = [number for number in ENDS if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        stopped = heard > float("-inf")
        for number in ours:
            signal.signal(number, signal.SIG_IGN if stopped else signal.SIG_DFL)


@contextmanager
def finish_first() -> Iterator[None]:
    """Hold back what stops a run until the block has ended; a second Ctrl-C goes through at once.

    What is cut off half way may be lost: a frame's line, a step's statistics. Signals that are
    ignored, or end the process by themselves, are left alone, and so are threads but the main one.

    Raises:
        KeyboardInterrupt: at the end, if something was held back, also where the block failed.
    """
    formers = {number: handler for number in STOPS if callable(handler := signal.getsignal(number))}
    if threading.current_thread() is not threading.main_thread():
        formers = {}
    held: list[int] = []

    def hold(number: int, frame: object) -> None:
        if number == signal.SIGINT and number in held:
            raise KeyboardInterrupt
        held.append(number)

    for number in formers:
        signal.signal(number, hold)
    try:
        yield
    finally:
        for number, handler in formers.items():
            signal.signal(number, handler)
        for number in held[:1]:
            formers[signal.Signals(number)](number, None)
