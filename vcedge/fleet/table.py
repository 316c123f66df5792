"""What became of each video: ``results.csv``, a row for each."""

from __future__ import annotations

import csv
import io
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vcedge_runtime.closing import Closing
from vcedge_runtime.files import GrowingText, writing_whole
from vcedge_runtime.telling import make_printable

TABLE_NAME = "results.csv"
DONE, FAILED = "done", "failed"
"""A row's state: tracked to its end; not, or not whole. ``STOPPED``: broken off with all others."""


@dataclass(frozen=True)
class Row:
    """What became of a video.

    Attributes:
        line: of the manifest, or its place in the folder.
        video: as it was named.
        results: name of the folder that its results are in.
        state: one of ``DONE``, ``FAILED`` and ``crews.STOPPED``.
        frames: how many were tracked.
        seconds: what they took.
        score: how sure the model was of what it followed, on average, 0 to 1; None where nothing
            was.
        message: why it failed, or what is to be looked at.
    """

    line: int
    video: str
    results: str
    state: str
    frames: int = 0
    seconds: float = 0.0
    score: float | None = None
    message: str = ""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Row:
        """Read what ``asdict`` gives.

        Raises:
            TypeError: it is something else.
            ValueError: likewise.
            KeyError: likewise.
        """
        kinds = {"line": int, "frames": int, "seconds": float, "score": float}
        given = {name: value[name] for name in COLUMNS}
        known = {name: kinds.get(name, str)(v) for name, v in given.items() if v is not None}
        return cls(**known)


COLUMNS = tuple(field.name for field in fields(Row))


class Table(Closing):
    """A row a video, which stands in the file as soon as the video is done.

    While a run goes on, what an earlier one wrote stands above it, and the last row of a video
    counts. ``settle`` leaves that one alone, in the order of the manifest.

    Args:
        path: the file.
        keep: go on behind what is there.

    Raises:
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path, *, keep: bool = False) -> None:
        self.path = path
        kept = keep and path.exists()
        if kept:
            settle_rows(path)
        self._text = GrowingText(path, keep=kept)
        self._began = path.stat().st_size if kept else 0
        if not self._began:
            self._write(COLUMNS)

    def add(self, row: Row) -> None:
        """Write a row, whole or not at all."""
        score = "" if row.score is None else f"{row.score:.4f}"
        told = replace(row, seconds=f"{row.seconds:.3f}", score=score)  # type: ignore[arg-type]
        self._write([_write_plainly(str(cell)) for cell in astuple(told)])

    def settle(self, *, through: bool) -> None:
        """Leave one row a video, in the order of the manifest.

        Args:
            through: whether every video has had its row in this run: earlier rows are then gone.
        """
        self._text.close()
        settle_rows(self.path, self._began if through else 0)

    def close(self) -> None:
        """Finish the file; what is in it stays."""
        self._text.close()

    def _write(self, cells: Any) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerow(cells)
        self._text.write(text.getvalue())


def _write_plainly(text: str) -> str:
    """Write a text in one line that any file takes."""
    return make_printable(" ".join(text.split())).encode(errors="backslashreplace").decode()


def settle_rows(path: Path, since: int = 0) -> None:
    """Leave the last row of each video, by its line; what was cut short goes.

    Args:
        path: the file.
        since: byte from which on rows count.
    """
    with path.open("rb") as file:
        rows = array("q")
        for found in _list_rows(file):
            rows.extend(found)
        # In turn: the first of those that come again is then the last one.
        known = np.array(rows, np.int64).reshape(-1, 3)[::-1]
        known = known[known[:, 0] >= since]
        _, last = np.unique(known[:, 2], return_index=True)
        kept = known[last]
        with writing_whole(path) as place, place.open("wb") as settled:
            for offset in (0, *kept[np.argsort(kept[:, 1], kind="stable"), 0]):
                file.seek(offset)
                settled.write(file.readline())


def _list_rows(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """Where each row begins, its line of the manifest, and what its video is told apart by."""
    offset = len(file.readline())
    for data in iter(file.readline, b""):
        cells = next(csv.reader([data.decode(errors="replace")]), [])
        if data.endswith(b"\n") and len(cells) == len(COLUMNS) and cells[0].isdecimal():
            yield offset, int(cells[0]), hash(tuple(cells[:2]))
        offset += len(data)
