"""States of objects: what is written is taken when a frame is done, and not before."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.runtime.engines.fake_cuda import FakeCuda
from vcedge_runtime.buffers import DeviceArray, to_host
from vcedge_runtime.frames.windows import Window
from vcedge_runtime.predictors.hidden import HiddenStates


def write(states: HiddenStates, value: float) -> None:
    fill(states, np.full(states.next.shape, value, np.float32))


def fill(states: HiddenStates, content: NDArray[np.float32]) -> None:
    if isinstance(states.next, DeviceArray):
        states.next.write(content)
    else:
        states.next[...] = content


def read(states: HiddenStates) -> list[float]:
    return [float(to_host(each).ravel()[0]) for each in (states.before, states.last)]


WHOLE = Window((32, 40), (4, 5), (4, 5))
DEVICES = pytest.mark.parametrize("device", [None, FakeCuda()], ids=["host", "device"])


@DEVICES
def test_states_move_on_when_a_frame_is_done(device: FakeCuda | None) -> None:
    states = HiddenStates((2, 3, 4, 5), device)
    for value in (1, 2):
        states.begin(WHOLE, WHOLE)
        assert states.now is states.last
        write(states, value)
        assert read(states) == [max(0, value - 2), value - 1]
        states.finish()
        assert read(states) == [value - 1, value]
    write(states, 9)  # of a frame that failed
    states.begin_again(WHOLE, WHOLE)
    assert states.now is states.before
    write(states, 3)
    states.finish()
    assert read(states) == [1, 3]


@DEVICES
def test_states_move_as_the_window_does(device: FakeCuda | None) -> None:
    states = HiddenStates((1, 2, 4, 5), device, moves=True)
    content = np.random.default_rng(0).standard_normal((1, 2, 4, 5)).astype(np.float32)
    states.begin(WHOLE, WHOLE)
    fill(states, content)
    states.finish()
    former, window = (Window((32, 80), (4, 5), (4, 10), (0, at)) for at in (2, 3))
    states.begin(former, window)
    np.testing.assert_array_equal(to_host(states.now)[..., :-1], content[..., 1:])
    np.testing.assert_array_equal(to_host(states.last), content)
    write(states, 7)
    states.finish()
    np.testing.assert_array_equal(to_host(states.before)[..., :-1], content[..., 1:])
    assert to_host(states.last).ravel()[0] == 7
    # The same frame, seen through the former window again.
    states.begin_again(window, former)
    np.testing.assert_array_equal(to_host(states.now)[..., 1:-1], content[..., 1:-1])
    write(states, 8)
    states.finish()
    np.testing.assert_array_equal(to_host(states.before)[..., 1:-1], content[..., 1:-1])
    assert to_host(states.last).ravel()[0] == 8
    rooms = {id(states.before), id(states.last), id(states.next), *map(id, states._spare)}
    assert len(rooms) == 4


@DEVICES
def test_a_change_of_objects_is_put_back(device: FakeCuda | None) -> None:
    states = HiddenStates((2, 3, 4, 5), device)
    for value in (1, 2):
        states.begin(WHOLE, WHOLE)
        write(states, value)
        states.finish()
    restore = states.save()
    states.add()
    assert states.last.shape == (3, 3, 4, 5)
    assert not to_host(states.last)[2].any()
    assert to_host(states.last)[:2].all()
    states.begin_again(WHOLE, WHOLE)
    write(states, 7)
    states.finish()
    restore()
    assert read(states) == [1, 2]
    assert states.last.shape == (2, 3, 4, 5)
    states.remove(0)
    assert states.last.shape == (1, 3, 4, 5)


def test_bytes_are_those_of_all_states_and_none_where_there_is_none() -> None:
    assert HiddenStates((2, 3, 4, 5), None).nbytes == 3 * 4 * 2 * 3 * 4 * 5
    assert HiddenStates((2, 3, 4, 5), None, moves=True).nbytes == 4 * 4 * 2 * 3 * 4 * 5
    assert HiddenStates((2, 0, 4, 5), None).nbytes == 0
