"""Standard output as the command line needs it: what cannot be written there is one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO, cast

from vcedge_runtime.errors import OutputError


class _Told:
    """A stream whose failures are errors that a user can mend; all else is the stream's own."""

    def __init__(self, stream: TextIOWrapper) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write on."""
        with _telling():
            return self._stream.write(text)

    def flush(self) -> None:
        """Hand on what was written."""
        with _telling():
            self._stream.flush()


@contextmanager
def told_output() -> Iterator[None]:
    """Make what standard output cannot take an ``OutputError``, when it is written or at the end.

    Bytes of a name that are no text are printed as they are.
    """
    stream = sys.stdout
    if not isinstance(stream, TextIOWrapper):
        yield
        return
    errors = stream.errors
    stream.reconfigure(errors="surrogateescape")
    sys.stdout = cast("TextIOWrapper", _Told(stream))
    try:
        yield
        sys.stdout.flush()
    except OutputError:
        forget_unwritten(stream)
        raise
    finally:
        sys.stdout = stream
        with suppress(OSError):
            stream.reconfigure(errors=errors)


def forget_unwritten(stream: TextIO | None) -> None:
    """Drop what a stream holds and cannot take: Python would try again at its end, and fail."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        with suppress(OSError), Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
            stream.flush()


@contextmanager
def _telling() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise OutputError(
            f"standard output cannot be written ({exc.strerror or exc}); what has a name is "
            "whole; free the disk, or let the output go elsewhere"
        ) from exc
