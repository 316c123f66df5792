"""numpy's matrix products take one thread while anybody is within, and as many as before after."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from threading import Event, Thread

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController, threadpool_limits

from vcedge_runtime import products
from vcedge_runtime.products import OneThread

BEFORE = 3
"""More than one, whatever the machine has."""


def count_threads() -> int:
    """Threads of numpy's own library."""
    libraries = ThreadpoolController().select(internal_api="openblas").info()
    return next(each["num_threads"] for each in libraries if "numpy" in each["filepath"])


@pytest.fixture(autouse=True)
def several_threads() -> Iterator[None]:
    libraries = ThreadpoolController().select(internal_api="openblas")
    own = [each for each in libraries.info() if "numpy" in each["filepath"]]
    if [each["threading_layer"] for each in own] != ["pthreads"]:
        pytest.skip(f"numpy {np.__version__} has no OpenBLAS of its own here")
    with libraries.limit(limits=BEFORE):
        yield


class Other:
    """A thread that does what it is told to, and then waits."""

    def __init__(self, within: Callable[[Callable[[], None]], None]) -> None:
        self._entered, self._leave = Event(), Event()
        self._thread = Thread(target=within, args=(self._stay,))
        self._thread.start()
        assert self._entered.wait(10)

    def leave(self) -> None:
        self._leave.set()
        self._thread.join(10)

    def _stay(self) -> None:
        self._entered.set()
        assert self._leave.wait(10)


def test_products_take_one_thread_within_and_as_many_as_before_after() -> None:
    one = OneThread()
    for _ in range(2):
        with one.held():
            assert count_threads() == 1
            with one.held():
                assert count_threads() == 1
            assert count_threads() == 1
        assert count_threads() == BEFORE


def test_an_error_within_puts_the_threads_back() -> None:
    with pytest.raises(MemoryError), OneThread().held():
        raise MemoryError
    assert count_threads() == BEFORE


def test_who_leaves_last_puts_the_threads_back() -> None:
    one = OneThread()

    def within(stay: Callable[[], None]) -> None:
        with one.held():
            stay()

    with one.held():
        other = Other(within)
    assert count_threads() == 1
    other.leave()
    assert count_threads() == BEFORE


def test_a_thread_that_limits_them_itself_keeps_nobody_from_it() -> None:
    def within(stay: Callable[[], None]) -> None:
        with threadpool_limits(2, "blas"):
            stay()

    one, other = OneThread(), Other(within)
    for _ in range(2):
        with one.held():
            assert count_threads() == 1
    other.leave()


def test_a_number_that_somebody_set_within_stays() -> None:
    with OneThread().held():
        threadpool_limits(2, "blas")
    assert count_threads() == 2


def test_one_thread_that_somebody_else_gave_them_is_not_ours_to_take_back() -> None:
    with threadpool_limits(1, "blas"):
        with OneThread().held():
            pass
        assert count_threads() == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_has_its_threads_back() -> None:
    one = OneThread()
    with one.held():
        child = os.fork()
        if not child:
            # What fails here must not run the tests again.
            try:
                right = count_threads() == BEFORE
                with one.held():
                    right &= count_threads() == 1
                os._exit(0 if right and count_threads() == BEFORE else 1)
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        assert count_threads() == 1


def test_libraries_that_cannot_be_read_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise TypeError("cannot unpack")

    products._find_libraries.cache_clear()
    monkeypatch.setattr(products, "ThreadpoolController", refuse)
    with OneThread().held():
        assert count_threads() == BEFORE
    products._find_libraries.cache_clear()
