"""Ctrl-C between the steps of a run, not within one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def finish_first() -> Iterator[None]:
    """Hold Ctrl-C back until the block has ended; a second Ctrl-C goes through at once.

    A step that is cut off has changed statistics and memories that a resumed run would change
    again. Outside the main thread, where Python delivers no signals, nothing is done.

    Raises:
        KeyboardInterrupt: at the end, if it was held back.
    """
    former = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(former):
        yield
        return
    held: list[int] = []

    def hold(number: int, frame: object) -> None:
        if held:
            raise KeyboardInterrupt
        held.append(number)

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
    if held:
        raise KeyboardInterrupt
