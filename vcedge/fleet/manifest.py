"""Which videos are to be done: a CSV or JSON Lines manifest, or a folder, an entry at a time."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from vcedge_runtime.errors import ManifestError
from vcedge_runtime.settings import show
from vcedge_runtime.video.sources import VIDEO_SUFFIXES

VIDEO, MASK = "video", "mask"
MASK_SUFFIX = ".png"
MOST_LINE = 2**20
"""Bytes of a manifest's line (our choice)."""
LINES_SUFFIXES = (".jsonl", ".ndjson", ".json")


@dataclass(frozen=True)
class Entry:
    """One video of a list.

    Attributes:
        line: where it stands, from 1; in a folder, its place there.
        video: its path, relative to the list's folder or not.
        values: what else is said of it, by column: text of a CSV, JSON's values of JSON Lines.
    """

    line: int
    video: str
    values: dict[str, Any] = field(default_factory=dict)


def read_entries(place: Path) -> Iterator[Entry]:
    """Yield the videos of a manifest, read as a stream, or of a folder.

    Args:
        place: a file of CSV, whose first line names the columns, or of JSON Lines, an object a
            line; or a folder in which ``NAME.png`` lies beside ``NAME.mp4`` or the folder ``NAME``.

    Raises:
        ManifestError: it cannot be read, or a line of it is none; the message says which.
    """
    if place.is_dir():
        yield from _list_folder(place)
        return
    form = _read_lines if _holds_json(place) else _read_rows
    yield from form(place)


def refuse(place: Path, line: int, received: str, expected: str) -> NoReturn:
    """Refuse a line of a manifest.

    Raises:
        ManifestError: always.
    """
    raise ManifestError(f"line {line} of {place}: received {received}; expected {expected}")


def _list_folder(folder: Path) -> Iterator[Entry]:
    try:
        found = {path.name: path for path in folder.iterdir() if not path.name.startswith(".")}
    except OSError as exc:
        raise ManifestError(
            f"received {folder}, which cannot be listed ({exc.strerror}); expected a folder of "
            "videos, or a manifest"
        ) from exc
    line = 0
    for name in sorted(found):
        path = found[name]
        # What is no folder has its suffix off: clip.mp4 has clip.png.
        mask = (path.name if path.is_dir() else path.stem) + MASK_SUFFIX
        if path.suffix.lower() == MASK_SUFFIX or not (
            path.suffix.lower() in VIDEO_SUFFIXES or mask in found
        ):
            continue
        line += 1
        yield Entry(line, name, {MASK: mask} if mask in found else {})
    if not line:
        raise ManifestError(
            f"received {folder}, which holds no video; expected NAME.mp4 with NAME.png beside it, "
            "or name a manifest"
        )


def _read_lines(place: Path) -> Iterator[Entry]:
    """Entries of JSON Lines."""
    for line, text in _number_lines(place):
        if not text.strip():
            continue
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            refuse(place, line, show(text.strip()), 'an object such as {"video": "a.mp4", ...}')
        if not isinstance(values, dict):
            refuse(place, line, show(values), 'an object such as {"video": "a.mp4", ...}')
        yield _make_entry(place, line, values)


def _read_rows(place: Path) -> Iterator[Entry]:
    """Entries of CSV; a row begins in the line that it is told by."""
    reader = csv.reader((text for _, text in _number_lines(place)), skipinitialspace=True)
    header: list[str] = []
    line = 1
    try:
        for cells in reader:
            row = [cell.strip() for cell in cells]
            if any(row) and not header:
                header = row
                _check_header(place, line, header)
            elif any(row):
                if len(row) > len(header):
                    refuse(place, line, f"{len(row)} cells", f"{len(header)}, as in the header")
                values = zip(header, row, strict=False)
                yield _make_entry(place, line, {key: cell for key, cell in values if cell})
            line = reader.line_num + 1
    except csv.Error as exc:
        refuse(place, line, f"text that is no CSV ({exc})", f"the columns {', '.join(header)}")
    if not header:
        raise ManifestError(
            f"received {place}, which is empty; expected a first line of columns, video among "
            "them, and then a video a line"
        )


def _check_header(place: Path, line: int, header: list[str]) -> None:
    if VIDEO not in header:
        refuse(place, line, f"the columns {show(', '.join(header))}", "video among them")
    twice = [name for name in header if name and header.count(name) > 1]
    if twice:
        refuse(place, line, f"the column {show(twice[0])} twice", "each once")


def _make_entry(place: Path, line: int, values: dict[str, Any]) -> Entry:
    video = values.pop(VIDEO, None)
    if not isinstance(video, str) or not video:
        refuse(place, line, f"{show(video)} as video", "the path of a file, or of a folder")
    return Entry(line, video, {key: value for key, value in values.items() if value is not None})


def _number_lines(place: Path) -> Iterator[tuple[int, str]]:
    """Lines of a file as text, with their numbers, however long the file is."""
    try:
        # A pipe would have to be read twice.
        if not place.is_file():
            raise ManifestError(
                f"received {place}, which is no file; expected a manifest, or a folder of videos"
            )
        with place.open("rb") as file:
            lines: Iterable[bytes] = iter(lambda: file.readline(MOST_LINE + 1), b"")
            for line, data in enumerate(lines, start=1):
                if len(data) > MOST_LINE:
                    refuse(place, line, f"more than {MOST_LINE:,} bytes", "a video a line")
                try:
                    yield line, data.decode("utf-8-sig" if line == 1 else "utf-8")
                except UnicodeDecodeError:
                    refuse(place, line, f"the bytes {show(data[:40])}", "text in UTF-8")
    except OSError as exc:
        raise ManifestError(
            f"received {place}, which cannot be read ({exc.strerror}); expected a manifest"
        ) from exc


def _holds_json(place: Path) -> bool:
    """Whether a manifest is of JSON Lines: by its suffix, else by how it begins."""
    if place.suffix.lower() in (*LINES_SUFFIXES, ".csv"):
        return place.suffix.lower() in LINES_SUFFIXES
    begins = next((text for _, text in _number_lines(place) if text.strip()), "")
    return begins.lstrip().startswith("{")
