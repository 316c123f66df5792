"""Whether a video file is all there: containers say how long they are, and FFmpeg does not ask."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

_BOXES = {b"moov", b"mdat", b"moof"}
"""Boxes of an MP4 or QuickTime file whose loss is a loss of video."""
_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067


def find_cut(path: Path) -> str | None:
    """Tell whether a file ends before the end that its container announces.

    MP4 and QuickTime boxes, RIFF's (AVI) and Matroska's sizes are compared with the file's own;
    other kinds announce nothing.

    Args:
        path: the file.

    Returns:
        How much is missing, in words; None where nothing is, or nobody knows.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            end = _announced_end(file, size)
    except OSError:
        return None
    if end is None or end <= size:
        return None
    return f"the file is cut off: it has {size} bytes of the {end} that it announces"


def _announced_end(file: BinaryIO, size: int) -> int | None:
    start = file.read(12)
    if start[:4] == b"RIFF" and len(start) == 12:
        return 8 + int(struct.unpack("<I", start[4:8])[0])
    if start[:4] == _EBML.to_bytes(4, "big"):
        return _end_of_segment(file)
    if start[4:8] in _BOXES | {b"ftyp", b"wide", b"free", b"skip", b"styp"}:
        return _end_of_boxes(file, size)
    return None


def _end_of_boxes(file: BinaryIO, size: int) -> int | None:
    """Walk an MP4's outermost boxes up to the first that leaves the file (ISO 14496-12, 4.2)."""
    place = 0
    while place + 8 <= size:
        file.seek(place)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1 and len(head) == 16:
            length = int.from_bytes(head[8:], "big")
        if length < 8:  # up to the end of the file, or no box at all
            return None
        place += length
        if place > size:
            return place if kind in _BOXES else None
    return None


def _end_of_segment(file: BinaryIO) -> int | None:
    """Where a Matroska's one segment ends (RFC 8794: numbers tell their length themselves)."""
    file.seek(4)
    header = _read_number(file)
    if header is None:
        return None
    file.seek(header, 1)
    if file.read(4) != _SEGMENT.to_bytes(4, "big"):
        return None
    length = _read_number(file)
    return None if length is None else file.tell() + length


def _read_number(file: BinaryIO) -> int | None:
    """Read a variable-length number; None where it is not known, or none."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & (0x7F >> more)]) + file.read(more), "big")
    unknown = (1 << 7 * (more + 1)) - 1
    return None if value == unknown else value
