"""Arrays where the engines want them: on the host, or in the memory of a device."""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vcedge_runtime.errors import EngineError
from vcedge_runtime.timing import Timings, timed


class Device(Protocol):
    """What a device's memory is reached by; addresses are whole numbers."""

    def allocate(self, size: int) -> int:
        """Allocate device memory of some bytes: its address.

        Raises:
            EngineError: there is not so much.
        """

    def free(self, pointer: int) -> None:
        """Give device memory back."""

    def allocate_host(self, size: int) -> int:
        """Allocate page-locked memory of the host, which copies go to and from at full speed.

        Raises:
            EngineError: there is not so much.
        """

    def free_host(self, pointer: int) -> None:
        """Give memory of the host back."""

    def copy_in(self, array: NDArray[Any], pointer: int) -> None:
        """Copy a contiguous array to the device; ``synchronize`` before changing it."""

    def copy_out(self, pointer: int, array: NDArray[Any]) -> None:
        """Copy from the device into a contiguous array; ``synchronize`` before reading it."""

    def copy_within(self, target: int, source: int, size: int) -> None:
        """Copy bytes from one place of the device to another."""

    def copy_rows(self, target: int, step: int, source: int, width: int, rows: int) -> None:
        """Copy rows that lie close together on the device to rows ``step`` bytes apart there."""

    def synchronize(self) -> None:
        """Wait for all that was asked for.

        Raises:
            EngineError: something of it failed.
        """


class DeviceArray:
    """A C-contiguous array in a device's memory.

    What is taken out of it along its first axis is a view; the memory is given back with the last
    of them.

    Args:
        device: whose memory.
        shape: of the array.
        dtype: numpy's.

    Attributes:
        shape: as given.
        dtype: as given.
        pointer: its address.

    Raises:
        EngineError: there is not so much memory.
    """

    def __init__(self, device: Device, shape: Sequence[int], dtype: DTypeLike = np.float32) -> None:
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self._device = device
        self._memory = _Memory(device, self.nbytes)
        self.pointer = self._memory.pointer

    @property
    def ndim(self) -> int:
        """How many axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def is_part(self) -> bool:
        """Whether it is a view of a part of a larger array, such as one slot of memory."""
        return self.nbytes < self._memory.size

    @property
    def memory(self) -> object:
        """What its views have in common; it lives as long as the longest of them."""
        return self._memory

    def __len__(self) -> int:
        """Length of the first axis."""
        return self.shape[0]

    def __getitem__(self, index: int | slice | None) -> DeviceArray:
        """A view: one entry of the first axis, neighbouring ones, or all under a new first axis.

        Raises:
            IndexError: there is no such entry, or the entries are not neighbours.
        """
        if index is None:
            return self._view(0, (1, *self.shape))
        if isinstance(index, slice):
            start, stop, step = index.indices(self.shape[0])
            if step != 1:
                raise IndexError(f"received {index} of an array on a device; expected neighbours")
            return self._view(start, (max(0, stop - start), *self.shape[1:]))
        if not 0 <= index < self.shape[0]:
            raise IndexError(f"received entry {index} of an array of {self.shape}")
        return self._view(index, self.shape[1:])

    def write(self, array: NDArray[Any]) -> None:
        """Copy a host array of the same shape and dtype here, and wait.

        Raises:
            EngineError: it is another, or the copy failed.
        """
        if array.shape != self.shape or array.dtype != self.dtype:
            raise EngineError(
                f"received {array.dtype}{array.shape} for a device's {self.dtype}{self.shape}"
            )
        self._device.copy_in(np.ascontiguousarray(array), self.pointer)
        self._device.synchronize()

    def read(self, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Copy to the host, into ``out`` or a new array, and wait.

        Raises:
            EngineError: the copy failed.
        """
        found = np.empty(self.shape, self.dtype) if out is None else out
        self._device.copy_out(self.pointer, found)
        self._device.synchronize()
        return found

    def put_columns(self, start: int, source: DeviceArray) -> None:
        """Write (..., k, C) into the entries from ``start`` on of the last axis but one of this.

        Args:
            start: the first entry.
            source: of the same shape but for that axis, in the same memory.
        """
        inner = self.shape[-1] * self.dtype.itemsize
        self._device.copy_rows(
            self.pointer + start * inner,
            self.shape[-2] * inner,
            source.pointer,
            source.shape[-2] * inner,
            math.prod(self.shape[:-2]),
        )

    def _view(self, entry: int, shape: tuple[int, ...]) -> DeviceArray:
        view = DeviceArray.__new__(DeviceArray)
        view.shape, view.dtype = shape, self.dtype
        view._device, view._memory = self._device, self._memory
        view.pointer = self.pointer + entry * (self.nbytes // max(1, self.shape[0]))
        return view


class _Memory:
    """A piece of a device's memory, given back when nobody holds it."""

    def __init__(self, device: Device, size: int) -> None:
        self.size = size
        self.pointer = device.allocate(size)
        weakref.finalize(self, device.free, self.pointer)


HostArray = NDArray[Any]
"""A C-contiguous numpy array."""
Buffer = HostArray | DeviceArray
"""An array where the engine wants it."""


class Block:
    """An array that both Python and the engines work on; zeros to begin with.

    On the host it is one array. A device's engines have their own, which ``push`` and ``fetch``
    bring in line where the other side has written.

    Args:
        shape: of the array.
        device: of the engines; None where they run on the host.

    Attributes:
        host: float32, Python's; page-locked where there is a device.
        shared: the engines'.

    Raises:
        EngineError: there is not so much memory.
    """

    def __init__(self, shape: Sequence[int], device: Device | None) -> None:
        self.host = _zeros(shape, device)
        self.shared: Buffer = self.host
        if device is not None:
            self.shared = DeviceArray(device, shape)
            self.shared.write(self.host)

    @classmethod
    def of(cls, array: NDArray[np.float32], device: Device | None) -> Block:
        """A block that begins as an array is."""
        block = cls(array.shape, device)
        block.host[...] = array
        block.push()
        return block

    @property
    def nbytes(self) -> int:
        """Bytes, wherever they lie."""
        return self.host.nbytes + (self.shared.nbytes if self.is_apart else 0)

    @property
    def is_apart(self) -> bool:
        """Whether the engines have an array of their own."""
        return self.shared is not self.host

    def push(self, index: int | slice = slice(None)) -> None:
        """Give the engines what Python wrote.

        Args:
            index: of the first axis.
        """
        if isinstance(self.shared, DeviceArray):
            self.shared[index].write(self.host[index])

    def fetch(self, index: int | slice = slice(None)) -> None:
        """Give Python what the engines wrote; see ``push``."""
        if isinstance(self.shared, DeviceArray):
            self.shared[index].read(self.host[index])


def push_blocks(blocks: Iterable[Block | None], timings: Timings) -> None:
    """Give the engines what Python wrote, as a stage of its own where that is a copy."""
    apart = [block for block in blocks if block is not None and block.is_apart]
    if apart:
        with timed(timings, "upload"):
            for block in apart:
                block.push()


def fetch_block(block: Block, timings: Timings, index: int | slice = slice(None)) -> None:
    """Give Python what the engines wrote, as a stage of its own where that is a copy."""
    if block.is_apart:
        with timed(timings, "download"):
            block.fetch(index)


def share_array(array: NDArray[Any], device: Device | None) -> Buffer:
    """Give the engines an array that nobody changes any more: itself on the host, else a copy.

    Raises:
        EngineError: there is not so much memory.
    """
    if device is None:
        return array
    copied = DeviceArray(device, array.shape, array.dtype)
    copied.write(array)
    return copied


def zeros_for(shape: Sequence[int], device: Device | None) -> Buffer:
    """Zeros that the engines alone work on.

    Raises:
        EngineError: there is not so much memory.
    """
    return share_array(np.zeros(shape, np.float32), device)


def host_arrays(graph: str, arrays: Mapping[str, Buffer]) -> dict[str, HostArray]:
    """The arrays of a run of a graph on the host.

    Raises:
        EngineError: one of them is a device's.
    """
    found = {name: a for name, a in arrays.items() if not isinstance(a, DeviceArray)}
    if len(found) < len(arrays):
        raise EngineError(
            f"graph {graph} runs on the host, and received {sorted(set(arrays) - set(found))} in "
            "a device's memory"
        )
    return found


def to_host(buffer: Buffer) -> NDArray[Any]:
    """The array itself on the host, else a copy of it."""
    return buffer.read() if isinstance(buffer, DeviceArray) else buffer


def _zeros(shape: Sequence[int], device: Device | None) -> NDArray[np.float32]:
    size = 4 * math.prod(shape)
    if device is None or size == 0:
        return np.zeros(shape, np.float32)
    pointer = device.allocate_host(size)
    memory = (ctypes.c_byte * size).from_address(pointer)
    # Every array that is made of it holds it.
    weakref.finalize(memory, device.free_host, pointer)
    zeros: NDArray[np.float32] = np.frombuffer(memoryview(memory), np.float32).reshape(shape)
    zeros[...] = 0
    return zeros
