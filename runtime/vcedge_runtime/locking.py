"""One process at a time writes to a place: a lock that ends with the process, however it ends."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from vcedge_runtime.closing import Closing
from vcedge_runtime.errors import OutputError

LOCK_NAME = ".vcedge.lock"
"""Of the lock of a folder, in it."""

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows: nothing is locked there
    fcntl = None

_HELD: set[int] = set()
"""Handles of the locks of this process."""


def _let_go() -> None:
    """Have no part in the locks of the process that this one was forked from."""
    for handle in _HELD:
        os.close(handle)
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


class Lock(Closing):
    """A lock that only one process holds; where the system or the disk knows none, nothing is held.

    Its file is taken away when it is closed. A process that is killed leaves the file, which holds
    nobody up. A process that is forked has no part in it.

    Args:
        path: the lock's own file; made where it is missing.
        what: what is locked, for the error.

    Raises:
        OutputError: another process holds it.
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path, what: Path) -> None:
        self.path = path
        self._handle: int | None = None
        while fcntl is not None and self._handle is None:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError) as exc:
                os.close(handle)
                raise _taken(what) from exc
            except OSError:
                os.close(handle)
                return
            # Whoever held it may have taken the file away meanwhile.
            if _is_same(handle, path):
                self._handle = handle
                _HELD.add(handle)
            else:
                os.close(handle)

    def close(self) -> None:
        """Let the next one in; closing twice does no harm."""
        handle, self._handle = self._handle, None
        if handle not in _HELD:
            return
        _HELD.remove(handle)
        with suppress(OSError):
            self.path.unlink()
        os.close(handle)


def refuse_locked(path: Path, what: Path) -> None:
    """Refuse a place that another process holds, and hold nothing.

    Args:
        path: the lock's file.
        what: what is locked, for the error.

    Raises:
        OutputError: it does.
    """
    if fcntl is None or not path.exists():
        return
    with suppress(OSError), path.open("rb+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as exc:
            raise _taken(what) from exc


def _is_same(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        return False


def _taken(what: Path) -> OutputError:
    return OutputError(
        f"received {what}, which another process is writing to; wait for it, or choose "
        "another place"
    )
