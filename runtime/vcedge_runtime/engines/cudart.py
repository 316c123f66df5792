"""CUDA's run time through ctypes: memory, copies, a stream and its graphs, and nothing else.

A device needs no package for it: the library comes with TensorRT's or with JetPack.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from vcedge_runtime.errors import EngineError, MissingExtraError
from vcedge_runtime.installing import how_to_install

LIBRARIES = ("libcudart.so.12", "libcudart.so.13", "libcudart.so")
_TO_DEVICE, _TO_HOST, _WITHIN = 1, 2, 3
_MAJOR, _MINOR, _PROCESSORS = 75, 76, 16
"""Attributes of a device: the two parts of its compute capability, and its multiprocessors."""
_THREAD_LOCAL = 1
"""Mode of a capture: what other threads do meanwhile is not looked at."""
_OUT_OF_MEMORY = 2
_NON_BLOCKING = 1
"""Flag of a stream that waits for nothing that others put into the default stream."""


class Cuda:
    """One device and one stream.

    Args:
        libraries: names of the run time to look for, in order.

    Attributes:
        stream: its handle.

    Raises:
        MissingExtraError: there is no such library.
        EngineError: there is no device, or its driver does not answer.
    """

    def __init__(self, libraries: Sequence[str] = LIBRARIES) -> None:
        self._library = _load(libraries)
        self._library.cudaGetErrorString.restype = ctypes.c_char_p
        stream = ctypes.c_void_p()
        self._call("cudaStreamCreateWithFlags", ctypes.byref(stream), _NON_BLOCKING)
        self.stream = int(stream.value or 0)
        self._users = 1

    def share(self) -> Cuda:
        """One more user, who closes it too."""
        self._users += 1
        return self

    @property
    def compute_capability(self) -> tuple[int, int]:
        """Major and minor number."""
        return self._ask(_MAJOR), self._ask(_MINOR)

    @property
    def multiprocessors(self) -> int:
        """How many it has: boards of one compute capability differ in it."""
        return self._ask(_PROCESSORS)

    def allocate(self, size: int) -> int:
        """Allocate device memory: its address; ``free`` gives it back.

        Raises:
            EngineError: there is not so much.
        """
        pointer = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(pointer), ctypes.c_size_t(max(1, size)))
        return int(pointer.value or 0)

    def free(self, pointer: int) -> None:
        """Give memory back; a device that has failed has none to give."""
        self._library.cudaFree(ctypes.c_void_p(pointer))

    def allocate_host(self, size: int) -> int:
        """Allocate page-locked memory of the host: its address; ``free_host`` gives it back.

        Raises:
            EngineError: there is not so much.
        """
        pointer = ctypes.c_void_p()
        self._call("cudaHostAlloc", ctypes.byref(pointer), ctypes.c_size_t(max(1, size)), 0)
        return int(pointer.value or 0)

    def free_host(self, pointer: int) -> None:
        """Give memory of the host back, likewise."""
        self._library.cudaFreeHost(ctypes.c_void_p(pointer))

    def copy_in(self, array: NDArray[Any], pointer: int) -> None:
        """Copy a contiguous array to the device; ``synchronize`` before changing it."""
        self._copy(pointer, array.ctypes.data, array.nbytes, _TO_DEVICE)

    def copy_out(self, pointer: int, array: NDArray[Any]) -> None:
        """Copy from the device into a contiguous array; ``synchronize`` before reading it."""
        self._copy(array.ctypes.data, pointer, array.nbytes, _TO_HOST)

    def copy_within(self, target: int, source: int, size: int) -> None:
        """Copy bytes from one place of the device to another."""
        self._copy(target, source, size, _WITHIN)

    def copy_rows(self, target: int, step: int, source: int, width: int, rows: int) -> None:
        """Copy rows of ``width`` bytes that lie close together to rows ``step`` bytes apart."""
        self._call(
            "cudaMemcpy2DAsync",
            ctypes.c_void_p(target),
            ctypes.c_size_t(step),
            ctypes.c_void_p(source),
            ctypes.c_size_t(width),
            ctypes.c_size_t(width),
            ctypes.c_size_t(rows),
            _WITHIN,
            ctypes.c_void_p(self.stream),
        )

    def synchronize(self) -> None:
        """Wait for everything in the stream.

        Raises:
            EngineError: something in it failed.
        """
        self._call("cudaStreamSynchronize", ctypes.c_void_p(self.stream))

    def record(self, work: Callable[[], None]) -> int:
        """Record what some work puts into the stream, which does not run.

        Args:
            work: queues, and does nothing that waits.

        Returns:
            The handle of a graph that ``launch`` runs; ``drop`` releases it.

        Raises:
            EngineError: it cannot be recorded; the stream is as it was.
        """
        stream, graph, made = ctypes.c_void_p(self.stream), ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cudaStreamBeginCapture", stream, _THREAD_LOCAL)
        # Memory that the garbage collector gives back meanwhile would spoil the recording.
        collects = gc.isenabled()
        gc.disable()
        try:
            work()
        except BaseException:
            self._library.cudaStreamEndCapture(stream, ctypes.byref(graph))
            self._library.cudaGetLastError()
            self._destroy(graph)
            raise
        finally:
            if collects:
                gc.enable()
        try:
            self._call("cudaStreamEndCapture", stream, ctypes.byref(graph))
            flags = ctypes.c_ulonglong(0)
            self._call("cudaGraphInstantiate", ctypes.byref(made), graph, flags)
        finally:
            self._destroy(graph)
        return int(made.value or 0)

    def _destroy(self, graph: ctypes.c_void_p) -> None:
        if graph.value:
            self._library.cudaGraphDestroy(graph)

    def launch(self, graph: int) -> None:
        """Queue a recorded graph."""
        self._call("cudaGraphLaunch", ctypes.c_void_p(graph), ctypes.c_void_p(self.stream))

    def drop(self, graph: int) -> None:
        """Release a recorded graph."""
        self._library.cudaGraphExecDestroy(ctypes.c_void_p(graph))

    def close(self) -> None:
        """Release the stream with the last user; memory is given back by who allocated it."""
        self._users -= 1
        if self._users == 0:
            self._library.cudaStreamDestroy(ctypes.c_void_p(self.stream))
            self.stream = 0

    def _ask(self, attribute: int) -> int:
        value = ctypes.c_int()
        self._call("cudaDeviceGetAttribute", ctypes.byref(value), attribute, 0)
        return value.value

    def _copy(self, target: int, source: int, size: int, kind: int) -> None:
        self._call(
            "cudaMemcpyAsync",
            ctypes.c_void_p(target),
            ctypes.c_void_p(source),
            ctypes.c_size_t(size),
            kind,
            ctypes.c_void_p(self.stream),
        )

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            # It is told once; ONNX Runtime and TensorRT shall not take it for theirs.
            self._library.cudaGetLastError()
            text = self._library.cudaGetErrorString(code).decode()
            mend = "; close other programs or lower --size" if code == _OUT_OF_MEMORY else ""
            raise EngineError(f"CUDA's {name} failed: {text} (code {code}){mend}")


def _load(libraries: Sequence[str]) -> ctypes.CDLL:
    reasons = []
    for name in (*libraries, *_find_installed()):
        try:
            return ctypes.CDLL(name)
        except OSError as exc:
            reasons.append(str(exc))
    raise MissingExtraError(
        f"CUDA's run time is not installed ({'; '.join(reasons)}); it comes with JetPack, or "
        f"run: {how_to_install('tensorrt')}"
    )


def _find_installed() -> Iterator[str]:
    """Libraries that pip installed, which the system's loader does not look for."""
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec and spec.submodule_search_locations) or ():
        yield from map(str, sorted(Path(folder).glob("*/lib/libcudart.so.*")))
