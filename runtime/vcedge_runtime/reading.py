"""The one way to read what others wrote: no more than it may hold, and never a device."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

CHUNK = 2**20
"""Bytes of a file that are held while it is digested."""


def read_bounded(path: str | Path, most: int, *, piped: bool = False) -> bytes:
    """Read a file whole.

    Args:
        path: the file.
        most: bytes that it may hold.
        piped: whether a pipe will do, such as ``/dev/stdin``; whoever names it waits for it.

    Raises:
        OSError: it cannot be read, holds more, or is no file; ``strerror`` says which.
    """
    # A pipe that nobody writes to would be waited for, though it is refused.
    at_once = 0 if piped else os.O_NONBLOCK
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | at_once)) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) and not piped:
            raise OSError(errno.EINVAL, "it is no file", str(path))
        # A pipe does not know its size.
        expected = min(found.st_size, most) if stat.S_ISREG(found.st_mode) else most
        data = file.read(expected + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it holds more than {most:,} bytes", str(path))
    return data


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file, of which little is held."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            found.update(data)
    return found.hexdigest()
