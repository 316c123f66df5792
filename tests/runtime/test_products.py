"""numpy's matrix products take one thread while anybody is within, and as many as before after."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event, Thread

import pytest
from threadpoolctl import ThreadpoolController

from vcedge_runtime.products import OneThread

BEFORE = 3
"""More than one, whatever the machine has."""


def count_threads() -> set[int]:
    libraries = ThreadpoolController().select(user_api="blas")
    return {each["num_threads"] for each in libraries.info()}


@pytest.fixture(autouse=True)
def several_threads() -> Iterator[None]:
    libraries = ThreadpoolController().select(user_api="blas")
    with libraries.limit(limits=BEFORE):
        if count_threads() != {BEFORE}:
            pytest.skip("numpy's library of products takes no number of threads here")
        yield


def test_products_take_one_thread_within_and_as_many_as_before_after() -> None:
    one = OneThread()
    with one.held():
        assert count_threads() == {1}
        with one.held():
            assert count_threads() == {1}
        assert count_threads() == {1}
    assert count_threads() == {BEFORE}


def test_an_error_within_puts_the_threads_back() -> None:
    with pytest.raises(MemoryError), OneThread().held():
        raise MemoryError
    assert count_threads() == {BEFORE}


def test_who_leaves_last_puts_the_threads_back() -> None:
    one, entered, leave = OneThread(), Event(), Event()

    def stay() -> None:
        with one.held():
            entered.set()
            leave.wait(10)

    other = Thread(target=stay)
    with one.held():
        other.start()
        assert entered.wait(10)
    assert count_threads() == {1}
    leave.set()
    other.join(10)
    assert count_threads() == {BEFORE}
