"""Asking the system: a vendor's tool, a file under /sys or /proc, an installed package."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

COMMAND_SECONDS = 10.0
"""How long a vendor's tool may take; a driver that hangs must not hang the report."""


def run_tool(command: Sequence[str]) -> str:
    """Return a tool's output, nothing where it is not on the PATH, fails or hangs."""
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


def read_text(path: Path) -> str:
    """Return a file's text, nothing where it is missing or may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def read_number(path: Path) -> int | None:
    """Return the whole number that a file of /sys holds; None where there is none."""
    try:
        return int(read_text(path).strip())
    except ValueError:
        return None


def find_version(*distributions: str) -> str | None:
    """Version of the first of these packages that is installed, without importing it."""
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
