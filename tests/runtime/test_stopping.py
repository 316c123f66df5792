"""Ctrl-C while a step runs."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from vcedge_runtime.stopping import finish_first


@pytest.fixture(autouse=True)
def _default_handler() -> Iterator[None]:
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_block_ends_before_ctrl_c_is_heard() -> None:
    done = []

    def work() -> None:
        with finish_first():
            press_ctrl_c()
            done.append("whole")
        done.append("after")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["whole"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_is_heard_at_once() -> None:
    done = []

    def work() -> None:
        with finish_first():
            press_ctrl_c()
            done.append("first")
            press_ctrl_c()
            done.append("second")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["first"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_of_the_block_goes_through_and_the_handler_comes_back() -> None:
    def fail() -> None:
        with finish_first():
            raise RuntimeError("step failed")

    with pytest.raises(RuntimeError, match="step failed"):
        fail()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_thread_is_left_alone() -> None:
    done: list[bool] = []

    def work() -> None:
        with finish_first():
            done.append(signal.getsignal(signal.SIGINT) is signal.default_int_handler)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]


def test_a_process_that_ignores_ctrl_c_goes_on_ignoring_it() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with finish_first():
        press_ctrl_c()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
