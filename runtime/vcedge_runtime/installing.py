"""What installs a missing part: from where vcedge itself came, since no registry has its name."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

CHECKOUT = Path(__file__).parents[2]
"""The repository's folder, where the code runs from it."""
GPU_DEVICES = ("/dev/nvidiactl", "/dev/nvhost-ctrl-gpu", "/dev/nvgpu/igpu0/ctrl")
"""What a driver of NVIDIA's makes, the last two on a Jetson."""
LEAST_TENSORRT = (10, 3)
"""What the extra ``tensorrt`` asks for; JetPack 6 has it."""
TAKES_TORCH = ("export", "train")
"""Extras with PyTorch among them."""
CPU_TORCH = (
    "without a GPU, install PyTorch's build for CPUs first, which brings no CUDA: torch==2.13.0 of "
    "constraints.txt"
)


def how_to_install(extra: str) -> str:
    """The command line that installs an extra beside what is installed, and what to know of it.

    Args:
        extra: its name, such as ``export``.
    """
    note = f" ({CPU_TORCH})" if extra in TAKES_TORCH and not _has_gpu() else ""
    if (CHECKOUT / "pyproject.toml").is_file():
        return f'pip install -e "{CHECKOUT}[{extra}]"{note}'
    source = _find_source()
    if source is None:
        return f'pip install ".[{extra}]" in the folder of vcedge\'s repository{note}'
    named = f"{source}[{extra}]" if isinstance(source, Path) else f"vcedge[{extra}] @ {source}"
    return f'pip install "{named}"{note}'


def _find_source() -> Path | str | None:
    """The file or folder, or the address, that pip installed vcedge from; None where it is gone."""
    try:
        direct = json.loads(distribution("vcedge").read_text("direct_url.json") or "{}")
        url = str(direct.get("url", ""))
        vcs = direct.get("vcs_info")
    except (PackageNotFoundError, ValueError, AttributeError):
        return None
    if vcs:
        return f"{vcs.get('vcs', 'git')}+{url}@{vcs.get('commit_id', 'main')}"
    if urlsplit(url).scheme != "file":
        return url or None
    path = Path(url2pathname(urlsplit(url).path))
    return path if path.exists() else None


def _has_gpu() -> bool:
    return any(Path(device).exists() for device in GPU_DEVICES)
