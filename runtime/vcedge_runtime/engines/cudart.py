"""CUDA's run time through ctypes: memory, copies, a stream and its graphs, and nothing else.

A device needs no package for it: the library comes with TensorRT's or with JetPack.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.metadata
import importlib.util
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from vcedge_runtime.errors import EngineError, MissingExtraError
from vcedge_runtime.installing import how_to_install

GENERATIONS = (12, 13)
"""CUDA's that are supported: in the one before, ``cudaGraphInstantiate`` takes something else."""
LIBRARIES = (*(f"libcudart.so.{each}" for each in GENERATIONS), "libcudart.so")
_TO_DEVICE, _TO_HOST, _WITHIN = 1, 2, 3
_MAJOR, _MINOR, _PROCESSORS = 75, 76, 16
"""Attributes of a device: the two parts of its compute capability, and its multiprocessors."""
_THREAD_LOCAL = 1
"""Mode of a capture: what other threads do meanwhile is not looked at."""
_OUT_OF_MEMORY = 2
_NON_BLOCKING = 1
"""Flag of a stream that waits for nothing that others put into the default stream."""
_P, _N, _INT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_TO_P, _TO_INT = ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_int)
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "cudaRuntimeGetVersion": (_TO_INT,),
    "cudaGetErrorString": (_INT,),
    "cudaGetLastError": (),
    "cudaDeviceGetAttribute": (_TO_INT, _INT, _INT),
    "cudaStreamCreateWithFlags": (_TO_P, ctypes.c_uint),
    "cudaStreamSynchronize": (_P,),
    "cudaStreamDestroy": (_P,),
    "cudaMalloc": (_TO_P, _N),
    "cudaFree": (_P,),
    "cudaHostAlloc": (_TO_P, _N, ctypes.c_uint),
    "cudaFreeHost": (_P,),
    "cudaMemcpyAsync": (_P, _P, _N, _INT, _P),
    "cudaMemcpy2DAsync": (_P, _N, _P, _N, _N, _N, _INT, _P),
    "cudaStreamBeginCapture": (_P, _INT),
    "cudaStreamEndCapture": (_P, _TO_P),
    "cudaGraphInstantiate": (_TO_P, _P, ctypes.c_ulonglong),
    "cudaGraphDestroy": (_P,),
    "cudaGraphLaunch": (_P, _P),
    "cudaGraphExecDestroy": (_P,),
}
"""What is called, and what each function takes; all but the text give an error's number."""


class Cuda:
    """One device and one stream.

    Args:
        libraries: names of the run time to look for, in order; then come those from pip.
        generation: CUDA's that its other user was built with, whose run time comes first; None
            where it is not known.

    Attributes:
        stream: its handle.

    Raises:
        MissingExtraError: there is no such library.
        EngineError: there is no device, or its driver does not answer.
    """

    def __init__(
        self, libraries: Sequence[str] = LIBRARIES, *, generation: int | None = None
    ) -> None:
        self._library = _load([*libraries, *_find_installed()], generation)
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
        self._call("cudaMalloc", ctypes.byref(pointer), max(1, size))
        return int(pointer.value or 0)

    def free(self, pointer: int) -> None:
        """Give memory back; a device that has failed has none to give."""
        self._library.cudaFree(pointer)

    def allocate_host(self, size: int) -> int:
        """Allocate page-locked memory of the host: its address; ``free_host`` gives it back.

        Raises:
            EngineError: there is not so much.
        """
        pointer = ctypes.c_void_p()
        self._call("cudaHostAlloc", ctypes.byref(pointer), max(1, size), 0)
        return int(pointer.value or 0)

    def free_host(self, pointer: int) -> None:
        """Give memory of the host back, likewise."""
        self._library.cudaFreeHost(pointer)

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
        sides = (target, step, source, width)
        self._call("cudaMemcpy2DAsync", *sides, width, rows, _WITHIN, self.stream)

    def synchronize(self) -> None:
        """Wait for everything in the stream.

        Raises:
            EngineError: something in it failed.
        """
        self._call("cudaStreamSynchronize", self.stream)

    def record(self, work: Callable[[], None]) -> int:
        """Record what some work puts into the stream, which does not run.

        Args:
            work: queues, and does nothing that waits.

        Returns:
            The handle of a graph that ``launch`` runs; ``drop`` releases it.

        Raises:
            EngineError: it cannot be recorded; the stream is as it was.
        """
        graph, made = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cudaStreamBeginCapture", self.stream, _THREAD_LOCAL)
        # Memory that the garbage collector gives back meanwhile would spoil the recording.
        collects = gc.isenabled()
        gc.disable()
        try:
            work()
        except BaseException:
            self._library.cudaStreamEndCapture(self.stream, ctypes.byref(graph))
            self._library.cudaGetLastError()
            self._destroy(graph)
            raise
        finally:
            if collects:
                gc.enable()
        try:
            self._call("cudaStreamEndCapture", self.stream, ctypes.byref(graph))
            self._call("cudaGraphInstantiate", ctypes.byref(made), graph, 0)
        finally:
            self._destroy(graph)
        return int(made.value or 0)

    def _destroy(self, graph: ctypes.c_void_p) -> None:
        if graph.value:
            self._library.cudaGraphDestroy(graph)

    def launch(self, graph: int) -> None:
        """Queue a recorded graph."""
        self._call("cudaGraphLaunch", graph, self.stream)

    def drop(self, graph: int) -> None:
        """Release a recorded graph."""
        self._library.cudaGraphExecDestroy(graph)

    def close(self) -> None:
        """Release the stream with the last user; memory is given back by who allocated it."""
        self._users -= 1
        if self._users == 0:
            self._library.cudaStreamDestroy(self.stream)
            self.stream = 0

    def _ask(self, attribute: int) -> int:
        value = ctypes.c_int()
        self._call("cudaDeviceGetAttribute", ctypes.byref(value), attribute, 0)
        return value.value

    def _copy(self, target: int, source: int, size: int, kind: int) -> None:
        self._call("cudaMemcpyAsync", target, source, size, kind, self.stream)

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            # It is told once; ONNX Runtime and TensorRT shall not take it for theirs.
            self._library.cudaGetLastError()
            text = self._library.cudaGetErrorString(code).decode()
            mend = "; close other programs or lower --size" if code == _OUT_OF_MEMORY else ""
            raise EngineError(f"CUDA's {name} failed: {text} (code {code}){mend}")


def cuda_of_tensorrt() -> int | None:
    """CUDA's generation that TensorRT was built with; None where its package's name leaves it open.

    JetPack's does; the system has the one run time that belongs to it.
    """
    found = {each for each in GENERATIONS if _is_installed(f"tensorrt-cu{each}-bindings")}
    return found.pop() if len(found) == 1 else None


def _load(names: Sequence[str], generation: int | None) -> ctypes.CDLL:
    """Open the first run time that is there and new enough, those of a generation before others."""
    reasons = []
    for name in sorted(
        names, key=lambda name: generation is not None and _generation_of(name) != generation
    ):
        try:
            library = _declare(ctypes.CDLL(name))
        except (OSError, AttributeError) as exc:
            reasons.append(str(exc))
            continue
        version = ctypes.c_int()
        library.cudaRuntimeGetVersion(ctypes.byref(version))
        if version.value >= 1000 * min(GENERATIONS):
            return library
        reasons.append(f"{name} is version {version.value // 1000}")
    wanted = min(GENERATIONS) if generation is None else generation
    raise MissingExtraError(
        f"received no run time of CUDA {wanted} ({'; '.join(reasons)}); it comes with JetPack, or "
        f"run: {how_to_install('tensorrt')}"
    )


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    for name, takes in FUNCTIONS.items():
        function = getattr(library, name)
        function.argtypes, function.restype = takes, ctypes.c_int
    library.cudaGetErrorString.restype = ctypes.c_char_p
    return library


def _generation_of(name: str) -> int | None:
    """The generation that the name of a library says."""
    found = re.search(r"libcudart\.so\.(\d+)", name)
    return int(found[1]) if found else None


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _find_installed() -> Iterator[str]:
    """Libraries that pip installed, which the system's loader does not look for."""
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec and spec.submodule_search_locations) or ():
        yield from map(str, sorted(Path(folder).glob("*/lib/libcudart.so.*")))
