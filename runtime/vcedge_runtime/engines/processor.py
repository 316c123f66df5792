"""What this machine's processor is: its cores, and what it does with bytes."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

X86 = ("x86_64", "amd64", "i386", "i486", "i586", "i686", "x86")
EXACT = ("avx512_vnni", "avx_vnni", "amx_int8")
"""Linux's names of what sums up products of bytes in 32 bits (VNNI, AMX)."""


def count_cores() -> int:
    """Count the cores that this process may use."""
    # Not on every system; where it is, it knows of a container's or a job's share.
    usable: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


def sums_bytes_exactly(root: Path = Path("/")) -> bool:
    """Whether products of unsigned and signed bytes are summed up without a loss.

    An x86 processor without VNNI sums up pairs in 16 bits, which overflow: ONNX Runtime's fast INT8
    is then wrong. False where it is not known.

    Args:
        root: where the system's files lie; a test puts its own there.
    """
    return _sums_exactly(platform.machine(), root / "proc/cpuinfo")


def take_exact_products(options: Any) -> None:
    """Have a session of ONNX Runtime take its exact products where the fast ones overflow.

    They take twice the time.

    Args:
        options: its ``SessionOptions``.
    """
    exact = "0" if sums_bytes_exactly() else "1"
    options.add_session_config_entry("session.x64quantprecision", exact)


@cache
def _sums_exactly(machine: str, cpuinfo: Path) -> bool:
    if machine.lower() not in X86:
        return True
    try:
        text = cpuinfo.read_text(errors="replace")
    except OSError:
        return False
    flags = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return flags is not None and not set(EXACT).isdisjoint(flags[1].split())
