"""The log of the objects on a stream, for whoever reads it while the run goes on."""

from __future__ import annotations

from typing import TextIO

from vcedge_runtime.video.sinks import ObjectLog


class ObjectLines(ObjectLog):
    """The lines of an ``ObjectLog`` on a stream, each handed on at once.

    Args:
        stream: such as standard output; left open.
    """

    def __init__(self, stream: TextIO) -> None:
        self._text = _Flushed(stream)


class _Flushed:
    """Lines on a stream that others may follow."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    def close(self) -> None:
        """Leave the stream open."""
