"""Ctrl-C, SIGTERM and SIGHUP while a step runs."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from vcedge_runtime import stopping
from vcedge_runtime.stopping import ENDS, Stopped, finish_first, stoppable


@pytest.fixture(autouse=True)
def _default_handlers() -> Iterator[None]:
    """Hear what a shell or nohup lets its children ignore."""
    former = {signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler)}
    former |= {number: signal.signal(number, signal.SIG_DFL) for number in ENDS}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


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


def test_ctrl_c_is_heard_though_the_block_failed() -> None:
    def work() -> None:
        with finish_first():
            os.kill(os.getpid(), signal.SIGINT)
            raise RuntimeError("step failed")

    with pytest.raises(KeyboardInterrupt) as raised:
        work()
    assert str(raised.value.__context__) == "step failed"
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


ENDING = [pytest.param(number, id=signal.Signals(number).name) for number in ENDS]


@pytest.mark.parametrize("number", ENDING)
def test_what_would_end_the_process_is_raised_instead(number: int) -> None:
    def work() -> None:
        with stoppable():
            os.kill(os.getpid(), number)
            pytest.fail("went on")

    with pytest.raises(Stopped) as found:
        work()
    assert (found.value.number, str(found.value)) == (number, signal.Signals(number).name)


@pytest.mark.parametrize("number", ENDING)
def test_the_end_of_a_stopped_process_is_not_cut_off(number: int) -> None:
    with pytest.raises(Stopped), stoppable():
        os.kill(os.getpid(), number)
    for again in ENDS:
        os.kill(os.getpid(), again)


def test_the_handlers_come_back_where_nothing_was_stopped() -> None:
    with stoppable():
        pass
    assert [signal.getsignal(number) for number in ENDS] == len(ENDS) * [signal.SIG_DFL]


@pytest.mark.parametrize("number", ENDING)
def test_what_comes_again_at_once_is_one_signal(number: int) -> None:
    done = []

    def work() -> None:
        with stoppable():
            try:
                os.kill(os.getpid(), number)
            finally:
                for again in ENDS:
                    os.kill(os.getpid(), again)
                done.append("closed")

    with pytest.raises(Stopped):
        work()
    assert done == ["closed"]


def test_what_comes_later_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "ECHO_S", -1.0)

    def work() -> None:
        with stoppable():
            for number in 2 * [signal.SIGTERM]:
                with pytest.raises(Stopped):
                    os.kill(os.getpid(), number)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        work()


@pytest.mark.parametrize("number", ENDING)
def test_what_is_ignored_or_handled_stays_so(number: int) -> None:
    heard: list[int] = []
    for handler in (signal.SIG_IGN, lambda number, frame: heard.append(number)):
        signal.signal(number, handler)
        try:
            with stoppable():
                os.kill(os.getpid(), number)
                assert signal.getsignal(number) is handler
        finally:
            signal.signal(number, signal.SIG_DFL)
    assert heard == [number]


@pytest.mark.parametrize("number", ENDING)
def test_a_block_ends_before_it_is_stopped(number: int) -> None:
    done = []

    def work() -> None:
        with stoppable():
            with finish_first(), finish_first():
                os.kill(os.getpid(), number)
                done.append("whole")
            done.append("after")

    with pytest.raises(Stopped):
        work()
    assert done == ["whole"]


def test_what_ends_a_program_of_others_is_not_held_back() -> None:
    with finish_first():
        assert [signal.getsignal(number) for number in ENDS] == len(ENDS) * [signal.SIG_DFL]
