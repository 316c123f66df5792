"""A log in files of bounded size: a run of weeks fills no disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vcedge_runtime.errors import OutputError
from vcedge_runtime.files import explaining
from vcedge_runtime.video.outputs import GrowingFile, Output

LEAST_BYTES = 2**16
"""A file holds more than a line or two."""


class Lines(Protocol):
    """Takes text line by line."""

    def write(self, text: str) -> None:
        """Write whole lines, all of them or none."""

    def close(self) -> None:
        """Finish; closing twice does no harm."""


@dataclass(frozen=True)
class Rotation:
    """How large a log may become.

    Attributes:
        most_bytes: of a file; a line is never broken.
        keep: how many files that are full stay beside the one that grows.

    Raises:
        OutputError: there is no such rotation.
    """

    most_bytes: int
    keep: int = 5

    def __post_init__(self) -> None:
        if self.most_bytes < LEAST_BYTES or self.keep < 0:
            raise OutputError(
                f"received {self.keep} full logs of {self.most_bytes} bytes to keep; expected 0 or "
                f"more, of at least {LEAST_BYTES} bytes"
            )


def open_lines(path: Path, output: Output | None = None, rotation: Rotation | None = None) -> Lines:
    """Open a log that grows; see ``GrowingFile`` and ``RotatingFile``."""
    return GrowingFile(path, output) if rotation is None else RotatingFile(path, rotation, output)


class RotatingFile:
    """A log that grows under its name; a full one is numbered, and the oldest are removed.

    ``objects.ndjson`` becomes ``objects.00001.ndjson``, the next one ``objects.00002.ndjson``.

    Args:
        path: the file that grows.
        rotation: when it is full.
        output: the run's folder, which records all of them; None to empty what has its name.

    Raises:
        OutputError: it cannot be opened, or something has its name that no run wrote.
    """

    def __init__(self, path: Path, rotation: Rotation, output: Output | None = None) -> None:
        self._path, self._rotation, self._output = path, rotation, output
        self._text = GrowingFile(path, output)
        self._size = self._full = 0

    def write(self, text: str) -> None:
        """Write on, in a new file where this one would become too large.

        Raises:
            OutputError: it cannot be written; what was written before stands.
        """
        more = len(text.encode())
        if self._size and self._size + more > self._rotation.most_bytes:
            self._rotate()
        self._text.write(text)
        self._size += more

    def close(self) -> None:
        """Finish the file that grows; where it is empty, there is none."""
        self._text.close()

    def _rotate(self) -> None:
        self._text.leave()
        self._full, self._size = self._full + 1, 0
        full = self._place_of(self._full)
        if self._output is not None:
            self._output.claim(full)
            self._output.note(full)
        with explaining(full):
            self._path.replace(full)
            if self._full > self._rotation.keep:
                self._place_of(self._full - self._rotation.keep).unlink(missing_ok=True)
        if self._output is not None and full.exists():
            self._output.note(full, full)
        self._text = GrowingFile(self._path, self._output)

    def _place_of(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.stem}.{number:05d}{self._path.suffix}")
