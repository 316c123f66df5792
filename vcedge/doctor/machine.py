"""What this machine is and which parts of vcedge work on it: what `vcedge doctor` shows."""

from __future__ import annotations

import importlib
import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vcedge.doctor.availability import Ability, BackEnds, check_parts
from vcedge.doctor.clocks import Clock, describe_clocks, read_clocks
from vcedge.doctor.nvidia import (
    ask_driver_cuda,
    ask_gpus,
    ask_power_mode,
    find_cuda,
    find_tensorrt,
    find_tensorrt_library,
    judge_tensorrt,
    read_jetpack,
)
from vcedge.doctor.probing import find_version, read_text
from vcedge_runtime.engines.processor import count_cores, sums_bytes_exactly


@dataclass(frozen=True)
class MachineReport:
    """What was found; None or an empty tuple stands for what is not there or cannot be asked.

    Attributes:
        python: Python's version.
        system: operating system and architecture.
        cpu: the processor's name, or the board's.
        cores: cores that this process may use.
        fast_int8: whether ONNX Runtime's fast INT8 is right on the processor.
        memory_bytes: all memory.
        memory_free_bytes: memory that a new program can have.
        numpy: NumPy's version.
        opencv: OpenCV's version.
        video_backends: what OpenCV can read and write video with.
        onnxruntime: its version.
        onnxruntime_error: why it is installed and cannot be imported.
        providers: ONNX Runtime's execution providers; one that is listed may still lack a driver.
        tensorrt: version of its Python package.
        tensorrt_library: version of the system's library.
        torch: its version; it is not imported for this.
        gpus: each NVIDIA GPU's name, driver and memory.
        cuda_driver: newest CUDA that the driver runs.
        cuda: CUDA's own version, of the toolkit or of its run-time library.
        jetpack: the Jetson's software release.
        power_mode: the Jetson's power mode.
        clocks: of CPU, GPU and memory.
        parts: which commands and back-ends work.
    """

    python: str
    system: str
    cpu: str
    cores: int
    fast_int8: bool
    memory_bytes: int | None
    memory_free_bytes: int | None
    numpy: str
    opencv: str
    video_backends: tuple[str, ...]
    onnxruntime: str | None
    onnxruntime_error: str | None
    providers: tuple[str, ...]
    tensorrt: str | None
    tensorrt_library: str | None
    torch: str | None
    gpus: tuple[str, ...]
    cuda_driver: str | None
    cuda: str | None
    jetpack: str | None
    power_mode: str | None
    clocks: tuple[Clock, ...]
    parts: tuple[Ability, ...]

    @property
    def line(self) -> str:
        """The machine in one line, to stand beside a measurement."""
        held = describe_clocks(self.clocks) if self.jetpack else None
        named = (("JetPack", self.jetpack), ("power mode", self.power_mode), ("clocks", held))
        versions = (("Python", self.python), ("OpenCV", self.opencv))
        graphs = (("ONNX Runtime", self.onnxruntime), ("TensorRT", self.tensorrt))
        memory = None if self.memory_bytes is None else f"{_gib(self.memory_bytes)} memory"
        facts = [self.system, self.cpu, f"{self.cores} cores", memory, *self.gpus]
        facts += [f"{name} {value}" for name, value in (*named, *versions, *graphs) if value]
        return ", ".join(fact for fact in facts if fact)

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Every fact as a name and a text, in the order of a page."""
        free = "" if self.memory_free_bytes is None else f", {_gib(self.memory_free_bytes)} free"
        total = "unknown" if self.memory_bytes is None else _gib(self.memory_bytes)
        jetson = [("JetPack", self.jetpack), ("power mode", self.power_mode)]
        return [
            ("system", self.system),
            ("processor", f"{self.cpu}, {self.cores} cores; {self._int8_text()}"),
            ("memory", total + free),
            ("NVIDIA GPU", "; ".join(self.gpus) or "none"),
            ("CUDA", self._cuda_text()),
            *((name, value) for name, value in jetson if value),
            *([("clocks", self._clocks_text())] if self.clocks else []),
            ("Python", self.python),
            ("NumPy", self.numpy),
            ("OpenCV", f"{self.opencv}; video: {', '.join(self.video_backends) or 'none'}"),
            ("ONNX Runtime", self._onnxruntime_text()),
            ("TensorRT", self._tensorrt_text()),
            ("PyTorch", self.torch or "not installed (only training and export need it)"),
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON's types."""
        return asdict(self)

    def _int8_text(self) -> str:
        return "fast in INT8" if self.fast_int8 else "slow in INT8 (no VNNI): prefer FP32"

    def _onnxruntime_text(self) -> str:
        if self.onnxruntime_error:
            return f"cannot be imported: {self.onnxruntime_error}"
        if self.onnxruntime is None:
            return "not installed"
        return f"{self.onnxruntime}; {', '.join(self.providers)}"

    def _cuda_text(self) -> str:
        driver = f"the driver runs up to {self.cuda_driver}" if self.cuda_driver else ""
        return "; ".join(filter(None, (self.cuda or "not installed", driver)))

    def _clocks_text(self) -> str:
        state = describe_clocks(self.clocks)
        mend = ""
        if self.jetpack and any(clock.held is False for clock in self.clocks):
            mend = "; `sudo jetson_clocks` holds them while you measure"
        moving = f"; {state}{mend}" if state else ""
        return ", ".join(clock.text for clock in self.clocks) + moving

    def _tensorrt_text(self) -> str:
        if self.tensorrt:
            return f"{self.tensorrt}; {judge_tensorrt(self.tensorrt)}"
        if self.tensorrt_library:
            return f"library {self.tensorrt_library}, but no Python package"
        return "not installed"


def describe_machine(*, root: Path = Path("/")) -> MachineReport:
    """Look at this machine; what is missing is left out, never an error.

    ONNX Runtime is imported, PyTorch and TensorRT are not.

    Args:
        root: where the system's files lie; a test puts its own there.
    """
    version, providers, error = _ask_onnxruntime()
    memory, free = read_memory(root)
    tensorrt, gpus, jetpack = find_tensorrt(), ask_gpus(), read_jetpack(root)
    jetson = jetpack is not None
    back_ends = BackEnds(providers, tensorrt, gpu=bool(gpus) or jetson, jetson=jetson)
    return MachineReport(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=_read_cpu(root),
        cores=count_cores(),
        fast_int8=sums_bytes_exactly(root),
        memory_bytes=memory,
        memory_free_bytes=free,
        numpy=np.__version__,
        opencv=cv2.__version__,
        video_backends=_list_video_backends(),
        onnxruntime=version,
        onnxruntime_error=error,
        providers=providers,
        tensorrt=tensorrt,
        tensorrt_library=find_tensorrt_library(root),
        torch=find_version("torch"),
        gpus=gpus,
        cuda_driver=ask_driver_cuda(),
        cuda=find_cuda(root),
        jetpack=jetpack,
        power_mode=ask_power_mode(),
        clocks=read_clocks(root),
        parts=check_parts(back_ends),
    )


def _ask_onnxruntime() -> tuple[str | None, tuple[str, ...], str | None]:
    """Return ONNX Runtime's version, its providers, and why it cannot be imported."""
    try:
        module = importlib.import_module("onnxruntime")
        return str(module.__version__), tuple(module.get_available_providers()), None
    except ModuleNotFoundError as exc:
        # A module that onnxruntime itself needs is a broken installation, not a missing one.
        return None, (), None if exc.name == "onnxruntime" else str(exc)
    except Exception as exc:
        return None, (), str(exc).partition("\n")[0] or type(exc).__name__


def _list_video_backends() -> tuple[str, ...]:
    registry = cv2.videoio_registry
    found = (b for b in registry.getBackends() if registry.hasBackend(b))
    return tuple(dict.fromkeys(registry.getBackendName(b) for b in found))


def _read_cpu(root: Path) -> str:
    board = read_text(root / "proc/device-tree/model").rstrip("\0\n")
    model = re.search(r"^model name\s*:\s*(.+)$", read_text(root / "proc/cpuinfo"), re.MULTILINE)
    return board or (model[1].strip() if model else "") or platform.processor() or "unknown"


def read_memory(root: Path = Path("/")) -> tuple[int | None, int | None]:
    """Read how many bytes of memory there are, and how many are free; None where nothing says."""
    text = read_text(root / "proc/meminfo")
    found = dict(re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB$", text, re.MULTILINE))
    size = {name: 1024 * int(kilobytes) for name, kilobytes in found.items()}
    return size.get("MemTotal"), size.get("MemAvailable")


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
