"""A device made of the host's memory, with the interface of ``Cuda``."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import numpy as np
from numpy.typing import NDArray

from tests.runtime.engines import tensorrt_double as double
from vcedge_runtime.buffers import HostArray
from vcedge_runtime.errors import EngineError

_HANDLES = count(1)


class FakeCuda:
    """A device of host memory that does nothing before it is waited for, as a real one may.

    Memory that is given back becomes NaN, and is never given out again.

    Attributes:
        room: bytes that it has.
        held: device memory that was not given back, by address.
        held_on_host: page-locked memory, likewise.
        users: how many have not closed it.
        copied_in: bytes of each copy to the device, in order.
        copied_out: bytes of each copy to the host, in order.
        launches: recordings that were played.
        recorded: recordings that were ever made.
    """

    compute_capability = (8, 7)
    multiprocessors = 8

    def __init__(self, room: int = 1 << 30) -> None:
        self.room = room
        self.held: dict[int, NDArray[np.uint8]] = {}
        self.held_on_host: dict[int, NDArray[np.uint8]] = {}
        self.users = 1
        self.copied_in: list[int] = []
        self.copied_out: list[int] = []
        self.launches = 0
        self.recorded = 0
        self.stream = next(_HANDLES)
        self._graphs: dict[int, list[Callable[[], None]]] = {}
        self._queue: list[Callable[[], None]] = []
        self._given_back: list[NDArray[np.uint8]] = []
        double.streams[self.stream] = self._queue.append

    @property
    def graphs(self) -> int:
        """Recordings that were not dropped."""
        return len(self._graphs)

    @property
    def bytes_held(self) -> int:
        """Of device memory."""
        return sum(block.size for block in self.held.values())

    def share(self) -> FakeCuda:
        self.users += 1
        return self

    def allocate(self, size: int) -> int:
        if self.bytes_held + size > self.room:
            raise EngineError("CUDA's cudaMalloc failed: out of memory (code 2)")
        return _take(self.held, size)

    def free(self, pointer: int) -> None:
        self._give_back(self.held, pointer)

    def allocate_host(self, size: int) -> int:
        return _take(self.held_on_host, size)

    def free_host(self, pointer: int) -> None:
        self._give_back(self.held_on_host, pointer)

    def copy_in(self, array: HostArray, pointer: int) -> None:
        assert array.flags.c_contiguous
        # What is not page-locked is read at once.
        source = array if self._is_locked(array) else array.copy()
        self._queue.append(lambda: self._write(pointer, source))
        self.copied_in.append(array.nbytes)

    def copy_out(self, pointer: int, array: HostArray) -> None:
        assert array.flags.c_contiguous
        self._queue.append(lambda: self._read(pointer, array))
        if not self._is_locked(array):
            self.synchronize()
        self.copied_out.append(array.nbytes)

    def copy_within(self, target: int, source: int, size: int) -> None:
        self.copy_rows(target, size, source, size, 1)

    def copy_rows(self, target: int, step: int, source: int, width: int, rows: int) -> None:
        def copy() -> None:
            for row in range(rows):
                piece = self._find(source + row * width, width)
                self._find(target + row * step, width)[...] = piece

        self._queue.append(copy)

    def synchronize(self) -> None:
        waiting, self._queue[:] = list(self._queue), []
        for work in waiting:
            work()

    def record(self, work: Callable[[], None]) -> int:
        double.behaviour.captured = recorded = []
        try:
            work()
        finally:
            double.behaviour.captured = None
        self.recorded += 1
        self._graphs[self.recorded] = recorded
        return self.recorded

    def launch(self, graph: int) -> None:
        self.launches += 1
        self._queue.extend(self._graphs[graph])

    def drop(self, graph: int) -> None:
        del self._graphs[graph]

    def close(self) -> None:
        self.users -= 1

    def _give_back(self, held: dict[int, NDArray[np.uint8]], pointer: int) -> None:
        self.synchronize()
        block = held.pop(pointer)
        block[...] = 0xFF
        self._given_back.append(block)

    def _is_locked(self, array: HostArray) -> bool:
        first = array.ctypes.data
        ends = [(start, start + block.size) for start, block in self.held_on_host.items()]
        return any(start <= first and first + array.nbytes <= end for start, end in ends)

    def _write(self, pointer: int, array: HostArray) -> None:
        self._find(pointer, array.nbytes)[...] = array.reshape(-1).view(np.uint8)

    def _read(self, pointer: int, array: HostArray) -> None:
        array.reshape(-1).view(np.uint8)[...] = self._find(pointer, array.nbytes)

    def _find(self, pointer: int, size: int) -> NDArray[np.uint8]:
        """Bytes of the device; what reaches beyond a piece of its memory is an error."""
        for start, block in self.held.items():
            if start <= pointer and pointer + size <= start + block.size:
                return block[pointer - start :][:size]
        raise EngineError("CUDA's cudaMemcpyAsync failed: an illegal memory access (code 700)")


def _take(held: dict[int, NDArray[np.uint8]], size: int) -> int:
    block = np.full(max(1, size), 0xAB, np.uint8)
    held[block.ctypes.data] = block
    return int(block.ctypes.data)
