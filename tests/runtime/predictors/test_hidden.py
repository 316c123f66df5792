"""States of objects: what is written is taken when a frame is done, and not before."""

from __future__ import annotations

import numpy as np
import pytest

from tests.runtime.engines.fake_cuda import FakeCuda
from vcedge_runtime.buffers import DeviceArray, to_host
from vcedge_runtime.predictors.hidden import HiddenStates


def write(states: HiddenStates, value: float) -> None:
    content = np.full(states.next.shape, value, np.float32)
    if isinstance(states.next, DeviceArray):
        states.next.write(content)
    else:
        states.next[...] = content


def read(states: HiddenStates) -> list[float]:
    return [float(to_host(each).ravel()[0]) for each in (states.before, states.last)]


@pytest.mark.parametrize("device", [None, FakeCuda()], ids=["host", "device"])
def test_states_move_on_when_a_frame_is_done(device: FakeCuda | None) -> None:
    states = HiddenStates((2, 3, 4, 5), device)
    assert read(states) == [0, 0]
    write(states, 1)
    assert read(states) == [0, 0]
    states.finish()
    assert read(states) == [0, 1]
    write(states, 2)
    states.finish()
    assert read(states) == [1, 2]
    write(states, 3)
    states.replace()
    assert read(states) == [1, 3]


@pytest.mark.parametrize("device", [None, FakeCuda()], ids=["host", "device"])
def test_a_change_of_objects_is_put_back(device: FakeCuda | None) -> None:
    states = HiddenStates((2, 3, 4, 5), device)
    for value in (1, 2):
        write(states, value)
        states.finish()
    restore = states.save()
    states.add()
    assert states.last.shape == (3, 3, 4, 5)
    assert not to_host(states.last)[2].any()
    assert to_host(states.last)[:2].all()
    write(states, 7)
    states.replace()
    restore()
    assert read(states) == [1, 2]
    assert states.last.shape == (2, 3, 4, 5)
    states.remove(0)
    assert states.last.shape == (1, 3, 4, 5)


def test_bytes_are_those_of_three_states_and_none_where_there_is_none() -> None:
    assert HiddenStates((2, 3, 4, 5), None).nbytes == 3 * 4 * 2 * 3 * 4 * 5
    assert HiddenStates((2, 0, 4, 5), None).nbytes == 0
