"""What this machine's processor is, and what sessions of ONNX Runtime are told for its sake."""

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
SPIN_US = 10
"""Microseconds for which a session's threads look for work (our choice: ``docs/results.md``)."""
SPINS_BRIEFLY = (1, 26)
"""The first version of ONNX Runtime to which one can say how long."""


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


def spin_briefly(options: Any, version: str) -> None:
    """Have the threads of a session look for the next operator for ``SPIN_US``, then sleep.

    Waking them for each operator takes a tenth of a small network's time. A session that spins as
    long as ONNX Runtime has it by default keeps other sessions and other programs from the cores
    that they need; before 1.26 it knows no other length, and its threads sleep at once.

    Args:
        options: its ``SessionOptions``.
        version: of ONNX Runtime.
    """
    known = re.match(r"(\d+)\.(\d+)", version)
    brief = known is not None and (int(known[1]), int(known[2])) >= SPINS_BRIEFLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if brief else "0")
    if brief:
        options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))


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
