"""The tracker on its way through the video, from what the user drew, forward or backward."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from vcedge.studio.footage import Footage
from vcedge.studio.records import Record, Records
from vcedge_runtime.errors import TrackerError
from vcedge_runtime.tracker import Tracker

FORWARD, BACKWARD = 1, -1
MOST_REMEMBERED = 4
"""Drawn frames that a tracker sees before it goes on from another place (our choice)."""
Labels = NDArray[np.uint8]


class Follower:
    """Leads a tracker along the frames, and writes what it finds into the records.

    It goes on where it is; where it shall go on from elsewhere, it begins anew, with the drawn
    frames that lie behind. What the user drew in a frame on its way is kept, and taken up.

    Args:
        tracker: used by nobody else.
        footage: the frames.
        records: of the frames.
    """

    def __init__(self, tracker: Tracker, footage: Footage, records: Records) -> None:
        self.tracker = tracker
        self._footage = footage
        self._records = records
        self._at: tuple[int, int] | None = None
        self._held: Record | None = None

    def lose(self, frame: int | None = None) -> None:
        """Begin anew next time, because a frame was drawn in; none where all of it changed.

        Args:
            frame: the one; where the tracker stands in it, it takes up the change instead.
        """
        if self._at is not None and self._at[0] != frame:
            self._at = None

    def find_start(self, frame: int, direction: int) -> int:
        """The frame to go on from: this one, or the nearest before it that has a mask.

        Raises:
            TrackerError: there is none.
        """
        known = self._records.frames()
        behind = [at for at in known if (frame - at) * direction >= 0]
        if not behind:
            raise TrackerError("nothing is drawn here or before; draw an object first")
        return min(behind, key=lambda at: abs(at - frame))

    def find_end(self, start: int, direction: int) -> int:
        """The last frame to follow to.

        Forward, that is the end. Backward, half way to the drawn frame before, which is nearer to
        what lies beyond; the first frame where there is none.
        """
        span = self._footage.span
        if direction == FORWARD:
            return span[-1]
        drawn = [at for at in self._records.drawn_frames() if at < start]
        return (drawn[-1] + start) // 2 + 1 if drawn else span[0]

    def begin(self, start: int, direction: int, objects: Iterable[int]) -> None:
        """Bring the tracker to a frame.

        Args:
            start: a frame with a mask.
            direction: ``FORWARD`` or ``BACKWARD``.
            objects: that are followed.

        Raises:
            SourceError: a frame cannot be read.
            TrackerError: no object is in any frame.
            EngineError: a graph failed.
        """
        known = set(objects)
        record = self._records.find(start)
        if self._at == (start, direction):
            self._take_up(start, record, changed_alone=True)
        else:
            self._begin_anew(start, direction)
        for object_id in set(self.tracker.object_ids) - known:
            self.tracker.remove_object(object_id)
        self._at, self._held = (start, direction), self._records.find(start)

    def step(self, frame: int) -> Record:
        """Follow into the next frame, and record it.

        Raises:
            SourceError: it cannot be read.
            EngineError: a graph failed.
        """
        if self._at is None:
            raise TrackerError("received a step without a beginning; call begin() first")
        result = self.tracker.step(self._footage.read(frame).image)
        drawn = self._records.find(frame)
        if drawn is not None and drawn.drawn:
            labels = self._records.labels_of(drawn)
            record = self._merge(labels, drawn, result.mask, result.scores)
            self._take_up(frame, drawn, changed_alone=False)
        else:
            record = self._records.make(result.mask, result.scores)
        self._records.put(frame, record)
        self._at, self._held = (frame, self._at[1]), record
        return record

    def _begin_anew(self, start: int, direction: int) -> None:
        behind = [at for at in self._records.drawn_frames() if (start - at) * direction > 0]
        nearest = sorted(behind, key=lambda at: abs(at - start))[:MOST_REMEMBERED]
        self._at, begun = None, False
        for at in [*reversed(nearest), start]:
            record = self._records.find(at)
            labels = self._records.labels_of(record)
            image = self._footage.read(at).image
            if begun:
                self.tracker.step(image)
                self._take_up(at, record, changed_alone=False, whole=at == start)
            elif labels.any():
                self.tracker.start(image, labels)
                begun = True
        if not begun:
            raise TrackerError("nothing is drawn here or before; draw an object first")

    def _take_up(
        self, frame: int, record: Record | None, *, changed_alone: bool, whole: bool = False
    ) -> None:
        """Correct the tracker, which stands in a frame, by the mask that is recorded there.

        Args:
            frame: the frame.
            record: of it.
            changed_alone: only objects that differ from what the tracker holds.
            whole: all objects that are seen, not only those that were drawn.
        """
        if record is None or (changed_alone and record == self._held):
            return
        labels = self._records.labels_of(record)
        held = self._records.labels_of(self._held) if changed_alone else None
        ids = set(np.unique(labels[labels > 0]).tolist())
        for object_id in sorted(ids if whole else ids & record.drawn):
            mask = labels == object_id
            if held is None or not np.array_equal(mask, held == object_id):
                self.tracker.add_object(object_id, mask)
        for object_id in set(self.tracker.object_ids) & record.drawn - ids:
            self.tracker.remove_object(object_id)

    def _merge(
        self, drawn_labels: Labels, drawn: Record, found: Labels, scores: Mapping[int, float]
    ) -> Record:
        """What the tracker found, and over it what the user drew."""
        merged = found.copy()
        for object_id in drawn.drawn:
            merged[merged == object_id] = 0
        for object_id in drawn.drawn:
            merged[drawn_labels == object_id] = object_id
        own = {object_id: drawn.scores.get(object_id, 0.0) for object_id in drawn.drawn}
        return self._records.make(merged, {**scores, **own}, drawn.drawn)
