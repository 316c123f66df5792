"""Arrays on a device, made of the host's memory."""

from __future__ import annotations

import numpy as np
import pytest

from tests.runtime.engines.fake_cuda import FakeCuda
from vcedge_runtime.buffers import (
    Block,
    DeviceArray,
    host_arrays,
    share_array,
    to_host,
    zeros_for,
)
from vcedge_runtime.errors import EngineError

NUMBERS = np.arange(60, dtype=np.float32).reshape(3, 4, 5)


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


def on_device(cuda: FakeCuda) -> DeviceArray:
    shared = share_array(NUMBERS, cuda)
    assert isinstance(shared, DeviceArray)
    return shared


@pytest.mark.parametrize(
    "index", [0, 2, slice(1, 3), slice(None), slice(2, 9), slice(2, 2), None], ids=str
)
def test_views_are_those_of_numpy(cuda: FakeCuda, index: int | slice | None) -> None:
    array = on_device(cuda)
    view, expected = array[index], NUMBERS[index]
    assert (view.shape, view.ndim, view.nbytes) == (expected.shape, expected.ndim, expected.nbytes)
    assert len(view) == len(expected)
    np.testing.assert_array_equal(view.read(), expected)
    view.write(expected + 100)
    changed = NUMBERS.copy()
    changed[index] += 100
    np.testing.assert_array_equal(array.read(), changed)


def test_a_view_of_a_view_is_one(cuda: FakeCuda) -> None:
    np.testing.assert_array_equal(on_device(cuda)[1][2:][1].read(), NUMBERS[1, 3])


@pytest.mark.parametrize("index", [3, -1, slice(0, 3, 2)], ids=str)
def test_entries_that_there_are_not_are_refused(cuda: FakeCuda, index: int | slice) -> None:
    with pytest.raises(IndexError):
        on_device(cuda)[index]


def test_another_shape_or_dtype_is_refused(cuda: FakeCuda) -> None:
    for wrong in (NUMBERS[:2], NUMBERS.astype(np.float64)):
        with pytest.raises(EngineError, match=r"for a device's float32\(3, 4, 5\)"):
            on_device(cuda).write(wrong)


def test_memory_goes_with_the_last_view(cuda: FakeCuda) -> None:
    array = on_device(cuda)
    view = array[1]
    del array
    assert cuda.bytes_held == NUMBERS.nbytes
    np.testing.assert_array_equal(view.read(), NUMBERS[1])
    del view
    assert not cuda.held


def test_memory_that_is_short_is_said(cuda: FakeCuda) -> None:
    cuda.room = 10
    with pytest.raises(EngineError, match="out of memory"):
        zeros_for((3,), cuda)
    assert not cuda.held


def test_part_of_the_last_axis_but_one_is_written(cuda: FakeCuda) -> None:
    array, part = on_device(cuda), share_array(-NUMBERS[:, 1:3], cuda)
    assert isinstance(part, DeviceArray)
    array.put_columns(2, part)
    expected = NUMBERS.copy()
    expected[:, 2:] = -NUMBERS[:, 1:3]
    np.testing.assert_array_equal(array.read(), expected)


def test_a_block_is_one_array_on_the_host() -> None:
    block = Block.of(NUMBERS, None)
    assert block.shared is block.host
    assert block.nbytes == NUMBERS.nbytes
    block.host[1] = 0
    block.push(1)
    block.fetch()
    np.testing.assert_array_equal(block.host[2], NUMBERS[2])
    assert not block.host[1].any()


def test_a_block_on_a_device_is_brought_in_line_either_way(cuda: FakeCuda) -> None:
    block = Block.of(NUMBERS, cuda)
    assert isinstance(block.shared, DeviceArray)
    assert block.nbytes == 2 * NUMBERS.nbytes
    block.host[...] = -1
    np.testing.assert_array_equal(block.shared.read(), NUMBERS)
    block.push(0)
    block.fetch(slice(1, 3))
    np.testing.assert_array_equal(block.host[1:], NUMBERS[1:])
    np.testing.assert_array_equal(block.shared.read()[0], block.host[0])
    assert (block.host[0] == -1).all()
    assert len(cuda.held_on_host) == 1
    del block
    assert not cuda.held
    assert not cuda.held_on_host


def test_what_is_shared_without_a_device_is_the_array_itself(cuda: FakeCuda) -> None:
    assert share_array(NUMBERS, None) is NUMBERS
    assert to_host(NUMBERS) is NUMBERS
    np.testing.assert_array_equal(to_host(on_device(cuda)), NUMBERS)
    for device in (None, cuda):
        np.testing.assert_array_equal(to_host(zeros_for((2, 3), device)), np.zeros((2, 3)))


def test_engines_on_the_host_refuse_a_devices_arrays(cuda: FakeCuda) -> None:
    assert host_arrays("encoder", {"key": NUMBERS}) == {"key": NUMBERS}
    with pytest.raises(EngineError, match=r"encoder runs on the host, and received \['image'\]"):
        host_arrays("encoder", {"image": on_device(cuda), "key": NUMBERS})


def test_a_view_of_a_part_is_told_from_one_of_the_whole_and_shares_its_memory() -> None:
    whole = DeviceArray(FakeCuda(), (3, 4))
    assert not whole.is_part
    assert not whole[None].is_part
    assert not whole[:3].is_part
    assert whole[1].is_part
    assert whole[:2].is_part
    assert whole[1].memory is whole.memory
    assert DeviceArray(FakeCuda(), (3, 4)).memory is not whole.memory
