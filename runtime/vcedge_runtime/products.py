"""Matrix products of numpy, in the calling thread alone while a tracker works."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from threading import Lock

from threadpoolctl import LibController, ThreadpoolController


class OneThread:
    """Keeps numpy's OpenBLAS to one thread in the whole process, while anybody is within.

    After a product its threads spin for tens of milliseconds (2**26 cycles), on the cores that the
    next graph needs; what several threads would save is less (measured: ``docs/results.md``).
    Whoever leaves last puts back the number of threads, unless somebody else has set another.
    Libraries whose number is each thread's own (MKL, OpenBLAS with OpenMP) stay as they are.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._within = 0
        self._lowered: list[tuple[LibController, int]] = []
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin_again)

    @contextmanager
    def held(self) -> Iterator[None]:
        """One thread within the block."""
        with self._lock:
            if not self._within:
                self._lower()
            self._within += 1
        try:
            yield
        finally:
            with self._lock:
                self._within -= 1
                if not self._within:
                    self._put_back()

    def _lower(self) -> None:
        found = [(library, library.get_num_threads()) for library in _find_libraries()]
        self._lowered = [(library, number) for library, number in found if number > 1]
        for library, _ in self._lowered:
            _set(library, 1)

    def _put_back(self) -> None:
        for library, number in self._lowered:
            if library.get_num_threads() == 1:
                _set(library, number)
        self._lowered = []

    def _begin_again(self) -> None:
        """In a process that was forked, where nobody is within."""
        self._lock, self._within = Lock(), 0
        self._put_back()


ONE_THREAD = OneThread()
"""Of this process."""


def _set(library: LibController, number: int) -> None:
    """Set a number of threads, whichever thread set the last one (threadpoolctl 3.8 asks)."""
    let: Callable[..., None] | None = getattr(library, "clear_controlling_thread", None)
    if let is not None:
        let(force=True)
    library.set_num_threads(number)
    if let is not None:
        let(force=True)


@cache
def _find_libraries() -> list[LibController]:
    """The OpenBLAS that are loaded, numpy's among them, and have one number for the process."""
    import_module("numpy")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = ThreadpoolController().select(internal_api="openblas").lib_controllers
    except Exception:
        # Of a library that threadpoolctl cannot read: it is as fast as it was.
        return []
    return [each for each in found if getattr(each, "threading_layer", None) == "pthreads"]
