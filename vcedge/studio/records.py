"""What is known of each frame: its mask, scores, and what of it the user drew himself."""

from __future__ import annotations

import struct
import tempfile
import threading
import weakref
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.closing import Closing
from vcedge_runtime.files import explaining
from vcedge_runtime.video.palette import decode_labels, encode_label_png

Labels = NDArray[np.uint8]
UNKNOWN, UNSEEN, LEAST_SEEN, MOST_SEEN = 0, 1, 2, 202
"""A frame's byte in an object's lane: nothing is known, not seen, or a score from 0 to 1."""


LEAST_ROOM = 1024
"""Bytes that a mask takes in the file at least (our choice)."""


@dataclass(frozen=True, eq=False)
class Place:
    """Where a mask stands in the file; its room is another's once nobody holds it.

    Attributes:
        offset: of its first byte.
        size: bytes.
    """

    offset: int
    size: int

    @property
    def room(self) -> int:
        """Bytes that are kept for it: a power of two, so that what is given back fits another."""
        return max(LEAST_ROOM, 1 << (self.size - 1).bit_length())


@dataclass(frozen=True)
class Record:
    """What is known of one frame; a value, so that to undo is to put the former one back.

    Attributes:
        made: how many records were made before it.
        place: of its mask.
        scores: how sure the tracker is of each object, 0 to 1; 1 for what was drawn.
        drawn: the objects whose mask here is the user's own, empty where he says so.
    """

    made: int
    place: Place
    scores: Mapping[int, float] = field(default_factory=dict)
    drawn: frozenset[int] = frozenset()


class Records(Closing):
    """Records by frame; the masks lie in a file without a name, which nobody else sees or keeps.

    Threads may share it. The file is as large as the most that was ever held: what frames of a
    camera had there that are gone, and changes that cannot be undone, is written over.

    Args:
        frame_hw: height and width of every mask.

    Attributes:
        frame_hw: as given.
        made: how many records there were.
    """

    def __init__(self, frame_hw: tuple[int, int]) -> None:
        self.frame_hw = frame_hw
        self._file = tempfile.TemporaryFile(prefix="vcedge-studio-")  # noqa: SIM115
        self._end = 0
        self._free: defaultdict[int, list[int]] = defaultdict(list)
        self.made = 0
        self._found: dict[int, Record] = {}
        self._gone: Mapping[int, int] = {}
        self._lock = threading.Lock()

    def find(self, index: int) -> Record | None:
        """What is known of a frame, without the objects that are gone."""
        record = self._found.get(index)
        return None if record is None else self._leave_out(record)

    def find_whole(self, index: int) -> Record | None:
        """What is known of a frame, for who may want objects back that are gone."""
        return self._found.get(index)

    def put(self, index: int, record: Record | None) -> None:
        """Know something of a frame from now on, or nothing."""
        with self._lock:
            if record is None:
                self._found.pop(index, None)
            else:
                self._found[index] = record

    def make(
        self, labels: Labels, scores: Mapping[int, float], drawn: Iterable[int] = ()
    ) -> Record:
        """Write a mask; it belongs to no frame yet.

        Raises:
            OutputError: the disk is full.
        """
        data = encode_label_png(labels)
        with self._lock, explaining(Path(tempfile.gettempdir())):
            place = self._find_place(len(data))
            self._file.seek(place.offset)
            self._file.write(data)
            self._file.flush()
            self.made += 1
        return Record(self.made - 1, place, dict(scores), frozenset(drawn))

    def labels_of(self, record: Record | None) -> Labels:
        """A record's mask, without the objects that are gone; nothing where there is no record.

        Returns:
            (H, W) uint8 object ids; the caller's own.
        """
        if record is None:
            return np.zeros(self.frame_hw, np.uint8)
        with self._lock:
            self._file.seek(record.place.offset)
            data = self._file.read(record.place.size)
        labels = decode_labels(data, "a mask of the studio")
        for object_id in self._gone_from(record):
            labels[labels == object_id] = 0
        return labels

    def hide(self, objects: Mapping[int, int]) -> None:
        """Leave objects out of every mask that there was when they were removed.

        Args:
            objects: these and no others, and what ``made`` was then; a mask that was made later
                shows another object of the same id.
        """
        self._gone = dict(objects)

    def forget_before(self, index: int) -> None:
        """Give up the records of frames that are no longer there."""
        with self._lock:
            for known in [known for known in self._found if known < index]:
                del self._found[known]

    def frames(self) -> list[int]:
        """Frames of which something is known, in their order."""
        with self._lock:
            return sorted(self._found)

    def drawn_frames(self) -> list[int]:
        """Frames in which the user drew, in their order."""
        with self._lock:
            found = self._found.items()
            return sorted(index for index, record in found if self._leave_out(record).drawn)

    def lane(self, object_id: int, span: range) -> bytes:
        """An object's bytes over the frames of a span, see ``UNKNOWN``."""
        lane = np.zeros(len(span), np.uint8)
        with self._lock:
            for index, record in self._found.items():
                if index in span:
                    lane[index - span.start] = lane_byte(self._leave_out(record), object_id)
        return lane.tobytes()

    def close(self) -> None:
        """Give up everything."""
        self._file.close()

    def _gone_from(self, record: Record) -> frozenset[int]:
        return frozenset(known for known, since in self._gone.items() if record.made < since)

    def _leave_out(self, record: Record) -> Record:
        gone = self._gone_from(record)
        if not gone & (record.scores.keys() | record.drawn):
            return record
        scores = {known: score for known, score in record.scores.items() if known not in gone}
        return replace(record, scores=scores, drawn=record.drawn - gone)

    def _find_place(self, size: int) -> Place:
        """Room that nobody holds any more, or more of the file."""
        place = Place(self._end, size)
        free = self._free[place.room]
        if free:
            place = replace(place, offset=free.pop())
        else:
            self._end += place.room
        weakref.finalize(place, free.append, place.offset)
        return place


def lane_byte(record: Record | None, object_id: int) -> int:
    """A frame's byte in an object's lane, see ``UNKNOWN``."""
    if record is None or object_id not in record.scores.keys() | record.drawn:
        return UNKNOWN
    score = record.scores.get(object_id, 0.0)
    if object_id in record.drawn:
        return MOST_SEEN if score else UNSEEN
    return LEAST_SEEN + round((MOST_SEEN - LEAST_SEEN) * min(1.0, score)) if score > 0 else UNSEEN


def with_drawn(record: Record, object_id: int, seen: bool) -> Record:
    """The record in which an object is the user's own."""
    scores = {**record.scores, object_id: 1.0 if seen else 0.0}
    return replace(record, scores=scores, drawn=record.drawn | {object_id})


def runs_of(labels: Labels, to_hw: tuple[int, int]) -> bytes:
    """Write a mask as runs of ids, row after row, as the page reads them.

    Args:
        labels: (H, W) uint8 object ids.
        to_hw: size in which the page shows it; nearest pixels.

    Returns:
        The number of runs and their lengths, uint32, little-endian, then their ids, uint8.
    """
    (height, width), (rows, columns) = labels.shape, to_hw
    if labels.shape != to_hw:
        down = ((np.arange(rows) + 0.5) * height / rows).astype(np.intp)
        across = ((np.arange(columns) + 0.5) * width / columns).astype(np.intp)
        labels = labels[down[:, None], across]
    flat = np.ascontiguousarray(labels).ravel()
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    lengths = np.diff(starts, append=flat.size).astype("<u4")
    return b"".join((struct.pack("<I", len(starts)), lengths.tobytes(), flat[starts].tobytes()))
