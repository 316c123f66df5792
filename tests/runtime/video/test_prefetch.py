"""Decoding ahead in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from vcedge_runtime.errors import SourceError
from vcedge_runtime.video.prefetch import prefetch


def decoding_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("vcedge-decode")]


@pytest.mark.parametrize("depth", [1, 2, 7])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_items_arrive_in_order_and_the_thread_ends(count: int, depth: int) -> None:
    assert list(prefetch(range(count), depth)) == list(range(count))
    assert not decoding_threads()


def test_the_thread_is_no_more_than_its_depth_ahead() -> None:
    made: list[int] = []

    def count_up() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    ahead = prefetch(count_up(), 2)
    next(ahead)
    time.sleep(0.05)
    assert len(made) == 3
    next(ahead)
    assert len(made) <= 4


def test_an_error_comes_after_the_items_before_it() -> None:
    def fail_at_three() -> Iterator[int]:
        yield from range(3)
        raise SourceError("the fourth is broken")

    ahead = prefetch(fail_at_three(), 2)
    assert [next(ahead) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(SourceError, match="fourth"):
        next(ahead)
    assert not decoding_threads()


def test_leaving_the_loop_early_does_not_hang() -> None:
    def slow() -> Iterator[int]:
        for number in range(1000):
            time.sleep(0.01)
            yield number

    started = time.perf_counter()
    for _ in prefetch(slow(), 4):
        break
    assert time.perf_counter() - started < 1  # a hang would last ten seconds
    assert not decoding_threads()


def test_making_and_using_overlap() -> None:
    def slow() -> Iterator[int]:
        for number in range(10):
            time.sleep(0.02)
            yield number

    started = time.perf_counter()
    for _ in prefetch(slow()):
        time.sleep(0.02)
    assert time.perf_counter() - started < 0.35  # in turn it would be 0.40 at the least
