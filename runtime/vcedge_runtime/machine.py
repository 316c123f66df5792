"""What this machine is and which parts of vcedge work on it: what `vcedge doctor` shows."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

COMMAND_SECONDS = 10.0
"""How long a vendor's tool may take; a driver that hangs must not hang the report."""
JETPACK_OF_L4T = {"35": "5", "36": "6", "38": "7"}
PARTS = (
    ("track, demo, bench, eval", "cpu", ("onnxruntime",)),
    ("export", "export", ("torch", "onnx", "onnxscript", "onnxruntime", "safetensors")),
    ("train", "train", ("torch", "safetensors")),
)
"""Commands, the extra that installs what they need, and what that is."""


@dataclass(frozen=True)
class Part:
    """Whether some commands work here.

    Attributes:
        commands: their names.
        missing: what is not installed or cannot be imported; empty where they work.
        install: the command line that mends it; empty where they work.
    """

    commands: str
    missing: tuple[str, ...]
    install: str

    @property
    def works(self) -> bool:
        """Nothing is missing."""
        return not self.missing


@dataclass(frozen=True)
class MachineReport:
    """What was found; None or an empty tuple stands for what is not there or cannot be asked.

    Attributes:
        python: Python's version.
        system: operating system and architecture.
        cpu: the processor's name, or the board's.
        cores: cores that this process may use.
        memory_bytes: all memory.
        memory_free_bytes: memory that a new program can have.
        numpy: NumPy's version.
        opencv: OpenCV's version.
        video_backends: what OpenCV can read and write video with.
        onnxruntime: its version.
        onnxruntime_error: why it is installed and cannot be imported.
        providers: ONNX Runtime's execution providers; one that is listed may still lack a driver.
        tensorrt: its version.
        torch: its version; it is not imported for this.
        gpus: each NVIDIA GPU's name, driver and memory.
        jetpack: the Jetson's software release.
        power_mode: the Jetson's power mode.
        parts: which commands work.
    """

    python: str
    system: str
    cpu: str
    cores: int
    memory_bytes: int | None
    memory_free_bytes: int | None
    numpy: str
    opencv: str
    video_backends: tuple[str, ...]
    onnxruntime: str | None
    onnxruntime_error: str | None
    providers: tuple[str, ...]
    tensorrt: str | None
    torch: str | None
    gpus: tuple[str, ...]
    jetpack: str | None
    power_mode: str | None
    parts: tuple[Part, ...]

    @property
    def line(self) -> str:
        """The machine in one line, to stand beside a measurement."""
        named = (("JetPack", self.jetpack), ("power mode", self.power_mode))
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
            ("processor", f"{self.cpu}, {self.cores} cores"),
            ("memory", total + free),
            ("NVIDIA GPU", "; ".join(self.gpus) or "none"),
            *((name, value) for name, value in jetson if value),
            ("Python", self.python),
            ("NumPy", self.numpy),
            ("OpenCV", f"{self.opencv}; video: {', '.join(self.video_backends) or 'none'}"),
            ("ONNX Runtime", self._onnxruntime_text()),
            ("TensorRT", self.tensorrt or "not installed"),
            ("PyTorch", self.torch or "not installed (only training and export need it)"),
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON's types."""
        return asdict(self)

    def _onnxruntime_text(self) -> str:
        if self.onnxruntime_error:
            return f"cannot be imported: {self.onnxruntime_error}"
        if self.onnxruntime is None:
            return "not installed"
        return f"{self.onnxruntime}; {', '.join(self.providers)}"


def describe_machine(*, root: Path = Path("/")) -> MachineReport:
    """Look at this machine; what is missing is left out, never an error.

    ONNX Runtime is imported, PyTorch and TensorRT are not.

    Args:
        root: where the system's files lie; a test puts its own there.
    """
    version, providers, error = _ask_onnxruntime()
    memory, free = _read_memory(root)
    return MachineReport(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=_read_cpu(root),
        cores=_count_cores(),
        memory_bytes=memory,
        memory_free_bytes=free,
        numpy=np.__version__,
        opencv=cv2.__version__,
        video_backends=_list_video_backends(),
        onnxruntime=version,
        onnxruntime_error=error,
        providers=providers,
        tensorrt=_find_version("tensorrt", "tensorrt-cu12", "tensorrt-cu13"),
        torch=_find_version("torch"),
        gpus=_ask_gpus(),
        jetpack=_read_jetpack(root),
        power_mode=_ask_power_mode(),
        parts=_check_parts(runs_graphs=version is not None),
    )


def _check_parts(*, runs_graphs: bool) -> tuple[Part, ...]:
    parts = []
    for commands, extra, needs in PARTS:
        missing = tuple(
            name
            for name in needs
            if not (runs_graphs if name == "onnxruntime" else _find_version(name))
        )
        install = f'pip install "vcedge[{extra}]"' if missing else ""
        parts.append(Part(commands, missing, install))
    return tuple(parts)


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


def _find_version(*distributions: str) -> str | None:
    """Version of the first of these that is installed, without importing it."""
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _list_video_backends() -> tuple[str, ...]:
    registry = cv2.videoio_registry
    found = (b for b in registry.getBackends() if registry.hasBackend(b))
    return tuple(dict.fromkeys(registry.getBackendName(b) for b in found))


def _read_cpu(root: Path) -> str:
    board = _read_text(root / "proc/device-tree/model").rstrip("\0\n")
    model = re.search(r"^model name\s*:\s*(.+)$", _read_text(root / "proc/cpuinfo"), re.MULTILINE)
    return board or (model[1].strip() if model else "") or platform.processor() or "unknown"


def _count_cores() -> int:
    # Not on every system; where it is, it knows of a container's or a job's share.
    usable: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


def _read_memory(root: Path) -> tuple[int | None, int | None]:
    text = _read_text(root / "proc/meminfo")
    found = dict(re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB$", text, re.MULTILINE))
    size = {name: 1024 * int(kilobytes) for name, kilobytes in found.items()}
    return size.get("MemTotal"), size.get("MemAvailable")


def _read_jetpack(root: Path) -> str | None:
    """JetPack's generation and the L4T release that it stands on, on a Jetson."""
    text = _read_text(root / "etc/nv_tegra_release")
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    if not found:
        return None
    generation = JETPACK_OF_L4T.get(found[1], "of an unknown generation")
    return f"{generation} (L4T {found[1]}.{found[2]})"


def _ask_power_mode() -> str | None:
    found = re.search(r"NV Power Mode:\s*(\S+)", _run_tool(["nvpmodel", "-q"]))
    return found[1] if found else None


def _ask_gpus() -> tuple[str, ...]:
    """Each GPU as ``name, driver x, y MiB``."""
    fields = "--query-gpu=name,driver_version,memory.total"
    text = _run_tool(["nvidia-smi", fields, "--format=csv,noheader"])
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines()]
    return tuple(f"{r[0]}, driver {r[1]}, {r[2]}" for r in rows if len(r) == 3)


def _run_tool(command: Sequence[str]) -> str:
    """Return a tool's output, nothing where it is not on the PATH or fails."""
    path = shutil.which(command[0])
    if path is None:
        return ""
    try:
        done = subprocess.run(
            [path, *command[1:]],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
