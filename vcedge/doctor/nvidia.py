"""What NVIDIA's tools and files say: GPUs, CUDA, TensorRT, JetPack and its power mode."""

from __future__ import annotations

import json
import re
from pathlib import Path

from vcedge.doctor.probing import find_version, read_text, run_tool
from vcedge_runtime.installing import LEAST_TENSORRT

JETPACK_OF_L4T = {"35": "5", "36": "6", "38": "7"}
SUPPORTED_TENSORRT = ((10, 3), (10, 16))
"""And every 11.x."""


def ask_gpus() -> tuple[str, ...]:
    """Each GPU as ``name, driver x, y MiB``."""
    fields = "--query-gpu=name,driver_version,memory.total"
    text = run_tool(["nvidia-smi", fields, "--format=csv,noheader"])
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines()]
    return tuple(f"{r[0]}, driver {r[1]}, {r[2]}" for r in rows if len(r) == 3)


def ask_driver_cuda() -> str | None:
    """Newest CUDA that the driver runs, from the head of ``nvidia-smi``."""
    found = re.search(r"CUDA(?: UMD)? Version:\s*(\d+[\d.]*)", run_tool(["nvidia-smi"]))
    return found[1] if found else None


def find_cuda(root: Path) -> str | None:
    """CUDA's own version: of the toolkit, of its run-time library, or of the library from pip.

    Args:
        root: where the system's files lie.
    """
    folder = root / "usr/local/cuda"
    try:
        return str(json.loads(read_text(folder / "version.json"))["cuda"]["version"])
    except (ValueError, KeyError, TypeError):
        pass
    libraries = [*folder.glob("lib64/libcudart.so.*"), *root.glob("usr/lib/*/libcudart.so.*")]
    return _newest(libraries) or find_version(
        "nvidia-cuda-runtime", "nvidia-cuda-runtime-cu13", "nvidia-cuda-runtime-cu12"
    )


def find_tensorrt() -> str | None:
    """Version of TensorRT's Python package, which is not imported for it."""
    return find_version("tensorrt", "tensorrt-cu12", "tensorrt-cu13")


def find_tensorrt_library(root: Path) -> str | None:
    """Version of the system's library, which is there without a Python package too.

    Args:
        root: where the system's files lie.
    """
    return _newest(list(root.glob("usr/lib/*/libnvinfer.so.*")))


def judge_tensorrt(version: str) -> str:
    """Say in words whether vcedge supports a version of TensorRT."""
    number = parse_version(version)
    if number[:2] in SUPPORTED_TENSORRT or number[:1] == (11,):
        return "supported"
    if number[:2] == (10, 2):
        return "known bad: GridSample is up to 4 times slower than in 10.3"
    if number < LEAST_TENSORRT:
        return "too old: 10.3 or newer is needed"
    return "not tried: 10.3, 10.16 and 11.x are supported"


def parse_version(version: str) -> tuple[int, ...]:
    """``10.3.0.post1`` as ``(10, 3, 0)``."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def read_jetpack(root: Path) -> str | None:
    """JetPack's generation and the L4T release that it stands on, on a Jetson."""
    text = read_text(root / "etc/nv_tegra_release")
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    if not found:
        return None
    generation = JETPACK_OF_L4T.get(found[1], "of an unknown generation")
    return f"{generation} (L4T {found[1]}.{found[2]})"


def ask_power_mode() -> str | None:
    """The Jetson's power mode, by name."""
    found = re.search(r"NV Power Mode:\s*(\S+)", run_tool(["nvpmodel", "-q"]))
    return found[1] if found else None


def _newest(libraries: list[Path]) -> str | None:
    """Highest version that stands in the names of some libraries, the longest spelling of it."""
    names = [path.name.partition(".so.")[2] for path in libraries]
    return max(names, key=parse_version, default=None)
