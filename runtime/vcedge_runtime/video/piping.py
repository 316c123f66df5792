"""Files of libraries that wait for ever where a disk is full: they get a pipe instead."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Thread

from vcedge_runtime.closing import Closing
from vcedge_runtime.files import Draft, explaining, unwritable

_PIECE = 2**20


class PipedFile(Closing):
    """A draft that a library writes through a pipe, which a thread of ours always empties.

    Args:
        path: the file, as it will be named.

    Attributes:
        draft: where it is written; the caller's to keep or to discard.
        place: what the library opens for writing; once it has, ``let_go`` leaves the pipe to it.

    Raises:
        OutputError: the file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.draft = Draft(path)
        self._error: OSError | None = None
        with explaining(path):
            # Without a buffer: a full disk is noticed at once.
            self._file = self.draft.place.open("wb", buffering=0)
        self._read, self._write = os.pipe()
        self.place = f"/dev/fd/{self._write}"
        self._thread = Thread(target=self._copy, daemon=True)
        self._thread.start()

    def let_go(self) -> None:
        """Have no part in the pipe's writing end: it is at its end when the library closes it."""
        if self._write >= 0:
            os.close(self._write)
            self._write = -1

    def check(self) -> None:
        """Tell whether everything that came so far could be written.

        Raises:
            OutputError: it could not.
        """
        if self._error is not None:
            raise unwritable(self.draft.path, self._error) from self._error

    def close(self) -> None:
        """Wait for the rest, once the library has closed the pipe; twice does no harm."""
        self.let_go()
        self._thread.join()

    def _copy(self) -> None:
        with os.fdopen(self._read, "rb", buffering=0) as pipe, self._file:
            while piece := pipe.read(_PIECE):
                rest = memoryview(piece)
                try:
                    while rest and self._error is None:
                        rest = rest[self._file.write(rest) :]
                except OSError as exc:
                    self._error = exc
