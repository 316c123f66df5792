"""Matrix products of numpy, in the calling thread alone while a tracker works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

from threadpoolctl import ThreadpoolController


class OneThread:
    """Keeps the BLAS libraries of the process to one thread, while anybody is within.

    After a product their threads spin for tens of milliseconds (OpenBLAS: 2**26 cycles), on the
    cores that the next graph needs; what several threads would save is less (measured:
    ``docs/results.md``). Those who come in while others are within stay as long as they like: the
    last to leave puts back the numbers of threads that the first one found.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._within = 0
        self._limit: Any = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """One thread within the block; libraries without a number of threads stay as they are."""
        with self._lock:
            if not self._within:
                self._limit = _find_libraries().limit(limits=1)
            self._within += 1
        try:
            yield
        finally:
            with self._lock:
                self._within -= 1
                if not self._within:
                    _let_anybody_set()
                    self._limit.restore_original_limits()
                    _let_anybody_set()


ONE_THREAD = OneThread()
"""Of this process."""


def _let_anybody_set() -> None:
    """Let this thread set what another one has set, which threadpoolctl 3.8 refuses otherwise."""
    for library in _find_libraries().lib_controllers:
        let: Callable[..., None] | None = getattr(library, "clear_controlling_thread", None)
        if let is not None:
            let(force=True)


@cache
def _find_libraries() -> ThreadpoolController:
    """The BLAS libraries that are loaded by now: numpy's is, before any tracker is."""
    return ThreadpoolController().select(user_api="blas")
