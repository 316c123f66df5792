"""One video in the studio: its objects, what is drawn, and the tracker at work on it."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from vcedge.studio.drawing import Point, Prompts, paint, put_object
from vcedge.studio.events import Events
from vcedge.studio.following import FORWARD, Follower
from vcedge.studio.footage import Footage, LiveFootage
from vcedge.studio.prompting import Box, Segmenter
from vcedge.studio.records import Record, Records, lane_byte, with_drawn
from vcedge.studio.working import Stop, Worker
from vcedge_runtime.closing import Closing
from vcedge_runtime.errors import MaskError, SourceError, TrackerError
from vcedge_runtime.tracker import MAX_OBJECTS, Tracker

MOST_UNDONE = 200
"""Changes that can be undone (our choice)."""
LIVE_FPS = 10.0
"""Frames a second of a camera that are shown while nothing is tracked (our choice)."""
CATCHING_UP = 4
"""A step leaves out a quarter of the camera's frames that the tracker is behind (our choice)."""
Labels = NDArray[np.uint8]
Given = ParamSpec("Given")
Found = TypeVar("Found")


@dataclass(frozen=True)
class StudioObject:
    """An object that is followed.

    Attributes:
        id: 1 to 255; its colour is the palette's.
        name: what the user calls it, and what exported categories are called.
    """

    id: int
    name: str


@dataclass(frozen=True)
class _Before:
    """What a change replaced: the objects, and the record of one frame."""

    objects: tuple[StudioObject, ...]
    gone: Mapping[int, int]
    frame: int | None = None
    record: Record | None = None


def _changing(
    method: Callable[Concatenate[Session, Given], Found],
) -> Callable[Concatenate[Session, Given], Found]:
    """Let a method change the session: what runs is stopped, and one thread at a time is in it.

    A camera is watched on: who draws in a frame of it wants those that come meanwhile.
    """

    @wraps(method)
    def change(session: Session, /, *args: Given.args, **kwargs: Given.kwargs) -> Found:
        with session._lock:
            work = session.work  # the worker's end takes it away
            if work is None or work["kind"] != "watch":
                session.worker.stop()
            return method(session, *args, **kwargs)

    return change


class Session(Closing):
    """Everything that the page can ask for; threads may share it.

    Args:
        footage: closed with the session.
        tracker: closed with the session.
        segmenter: makes masks of boxes and clicks; closed with the session.

    Attributes:
        footage: as given.
        records: what is known of each frame.
        objects: in the order in which they were added.
        events: what the page is told.
        worker: the thread that tracks and exports.
        work: what it does, for the page; None where it rests.
    """

    def __init__(self, footage: Footage, tracker: Tracker, segmenter: Segmenter) -> None:
        self.footage = footage
        self.segmenter = segmenter
        self.tracker = tracker
        self.records = Records(footage.frame_hw)
        self.objects: tuple[StudioObject, ...] = ()
        self.events = Events()
        self.worker = Worker(self._tell_end)
        self.work: dict[str, object] | None = None
        self.follower = Follower(tracker, footage, self.records)
        self._gone: Mapping[int, int] = {}
        self._prompts: Prompts | None = None
        self._undone: deque[_Before] = deque(maxlen=MOST_UNDONE)
        self._redone: deque[_Before] = deque(maxlen=MOST_UNDONE)
        self._lock = threading.RLock()

    @property
    def can_undo(self) -> bool:
        """Whether there is something to undo."""
        return bool(self._undone)

    @property
    def can_redo(self) -> bool:
        """Whether something was undone."""
        return bool(self._redone)

    def close(self) -> None:
        """Stop what runs, and close everything."""
        with ExitStack() as stack:
            for part in (self.records, self.tracker, self.segmenter, self.footage, self.worker):
                stack.callback(part.close)
            self.events.close()

    @_changing
    def add_object(self, name: str | None = None) -> StudioObject:
        """Name one more object; it is followed once it is drawn.

        Raises:
            TrackerError: there are too many.
        """
        known = {each.id for each in self.objects}
        free = [number for number in range(1, MAX_OBJECTS + 1) if number not in known]
        if not free:
            raise TrackerError(f"there are {MAX_OBJECTS} objects already; no mask holds more")
        # One that was never used, as long as there is one.
        object_id = min(free, key=lambda number: (number in self._gone, number))
        added = StudioObject(object_id, name or f"object {object_id}")
        self._remember()
        self.objects = (*self.objects, added)
        return added

    def rename_object(self, object_id: int, name: str) -> None:
        """Call an object something else; what runs goes on."""
        with self._lock:
            self._require_object(object_id)
            self._remember()
            self.objects = tuple(
                replace(known, name=name) if known.id == object_id else known
                for known in self.objects
            )

    @_changing
    def remove_object(self, object_id: int) -> None:
        """Take an object out of every frame."""
        self._require_object(object_id)
        self._remember()
        self._set_objects(
            tuple(known for known in self.objects if known.id != object_id),
            {**self._gone, object_id: self.records.made},
        )

    @_changing
    def draw_box(self, frame: int, object_id: int, box: Box) -> None:
        """Draw an object by a box around it.

        Raises:
            MaskError: nothing is found in it.
        """
        self._prompt(replace(self._prompts_of(frame, object_id), box=box))

    @_changing
    def click(self, frame: int, object_id: int, at: Point, *, positive: bool) -> None:
        """Draw an object by a click on it, or beside it.

        Raises:
            MaskError: nothing is found there.
        """
        prompts = self._prompts_of(frame, object_id)
        self._prompt(replace(prompts, clicks=(*prompts.clicks, (*at, positive))))

    @_changing
    def draw_stroke(
        self, frame: int, object_id: int, points: Sequence[Point], radius: float, *, erase: bool
    ) -> None:
        """Paint an object, or erase of it."""
        labels = self._labels_of(frame, object_id)
        self._draw(frame, object_id, paint(labels, object_id, points, radius, erase=erase))

    @_changing
    def clear(self, frame: int, object_id: int) -> None:
        """Say that an object is not in a frame; from there on it is not followed."""
        labels = self._labels_of(frame, object_id)
        nowhere = np.zeros(labels.shape, np.bool_)
        self._draw(frame, object_id, put_object(labels, object_id, nowhere))

    @_changing
    def load_mask(self, frame: int, labels: Labels) -> None:
        """Take a mask that was drawn elsewhere; ids that nobody knows become objects."""
        self._require_frame(frame)
        ids = np.unique(labels[labels > 0]).tolist()
        self._remember(frame)
        known = {each.id for each in self.objects}
        new = [StudioObject(number, f"object {number}") for number in ids if number not in known]
        self.objects = (*self.objects, *new)
        self._put(frame, self.records.make(labels, dict.fromkeys(ids, 1.0), {*ids, *known}))

    @_changing
    def undo(self) -> int | None:
        """Take back the last change; gives the frame that it was in."""
        return self._swap(self._undone, self._redone)

    @_changing
    def redo(self) -> int | None:
        """Change again what was taken back; gives the frame that it is in."""
        return self._swap(self._redone, self._undone)

    @_changing
    def track(self, frame: int, direction: int, steps: int | None = None) -> None:
        """Follow the objects from a frame on, in the worker.

        Args:
            frame: where the page is.
            direction: ``FORWARD`` or ``BACKWARD``.
            steps: how many frames; None up to the end.

        Raises:
            TrackerError: there is nothing to follow, or no frame to follow it to.
        """
        self._prompts = None
        footage = self.footage
        if isinstance(footage, LiveFootage):
            start = self.follower.find_start(frame, FORWARD)
            self.worker.stop()
            self._begin("track", frame=start, direction=FORWARD)
            self.worker.start(lambda stop: self._follow_live(footage, start, steps, stop))
            return
        start = self.follower.find_start(frame, direction)
        end = self.follower.find_end(start, direction)
        frames = range(start + direction, end + direction, direction)[:steps]
        if not frames:
            raise TrackerError("there is no frame to track that way")
        self._begin("track", frame=start, direction=direction)
        self.worker.start(lambda stop: self._follow(start, frames, stop))

    @_changing
    def watch(self) -> None:
        """Show a camera's newest frames until something else is done."""
        if isinstance(self.footage, LiveFootage):
            footage = self.footage
            self.worker.stop()
            self._begin("watch")
            self.worker.start(lambda stop: self._watch(footage, stop))

    @_changing
    def stop(self) -> None:
        """Stop what runs."""
        self.worker.stop()

    @_changing
    def export(self, work: Callable[[Stop], None]) -> None:
        """Write something in the worker."""
        self.worker.stop()
        self._begin("export")
        self.worker.start(work)

    def describe_frame(self, frame: int) -> dict[str, object]:
        """What the page must know of a frame."""
        record = self.records.find(frame)
        return {
            "frame": frame,
            "lanes": {known.id: lane_byte(record, known.id) for known in self.objects},
            "drawn": bool(record and record.drawn),
        }

    def _follow(self, start: int, frames: range, stop: Stop) -> None:
        self.follower.begin(start, frames.step, [known.id for known in self.objects])
        for frame in frames:
            if stop():
                return
            self._step(frame)

    def _follow_live(self, footage: LiveFootage, start: int, steps: int | None, stop: Stop) -> None:
        self.follower.begin(start, FORWARD, [known.id for known in self.objects])
        at = start
        while not stop() and steps != 0:
            # Frames that came while the user drew are gone through in strides, up to the newest.
            behind = footage.take().index - at - 1
            at += 1 + math.ceil(behind / CATCHING_UP)
            self._step(max(at, footage.span.start))
            self.records.forget_before(footage.span.start)
            steps = None if steps is None else steps - 1

    def _step(self, frame: int) -> None:
        began = time.perf_counter()
        self.follower.step(frame)
        took = 1000 * (time.perf_counter() - began)
        span = self.footage.span
        facts = {"ms": round(took, 1), "first": span.start, "end": span.stop}
        self.events.publish("frame", **self.describe_frame(frame), **facts)

    def _watch(self, footage: LiveFootage, stop: Stop) -> None:
        while not stop():
            began = time.perf_counter()
            if not self.events.heard:
                time.sleep(1 / LIVE_FPS)
                continue
            frame = footage.take().index
            span = footage.span
            self.records.forget_before(span.start)
            self.events.publish("live", frame=frame, first=span.start, end=span.stop)
            time.sleep(max(0.0, 1 / LIVE_FPS - (time.perf_counter() - began)))

    def _begin(self, kind: str, **facts: object) -> None:
        self.work = {"kind": kind, **facts}
        self.events.publish("work", work=self.work)

    def _tell_end(self, error: str | None) -> None:
        self.work = None
        self.events.publish("work", work=None)
        if error is not None:
            self.events.publish("error", message=error)

    def _require_object(self, object_id: int) -> None:
        if object_id not in {known.id for known in self.objects}:
            raise TrackerError(f"there is no object {object_id}; add one first")

    def _require_frame(self, frame: int) -> None:
        span = self.footage.span
        if frame not in span:
            raise SourceError(f"there is no frame {frame}; draw in one of {span[0]} to {span[-1]}")

    def _labels_of(self, frame: int, object_id: int) -> Labels:
        """The mask of a frame in which an object may be drawn."""
        self._require_object(object_id)
        self._require_frame(frame)
        return self.records.labels_of(self.records.find(frame))

    def _prompts_of(self, frame: int, object_id: int) -> Prompts:
        """The boxes and clicks to go on with: those of the same object and frame, or none yet."""
        last = self._prompts
        if last is not None and (last.frame, last.object_id) == (frame, object_id):
            return last
        return Prompts(frame, object_id, self._labels_of(frame, object_id))

    def _prompt(self, prompts: Prompts) -> None:
        labels = prompts.draw(self.footage.show(prompts.frame).image, self.segmenter)
        self._draw(prompts.frame, prompts.object_id, labels)
        self._prompts = prompts

    def _draw(self, frame: int, object_id: int, labels: Labels) -> None:
        """Record the user's own mask of an object, and what others lost by it."""
        former = self.records.find(frame)
        scores = {} if former is None else former.scores
        record = self.records.make(labels, scores, () if former is None else former.drawn)
        self._remember(frame)
        self._put(frame, with_drawn(record, object_id, bool((labels == object_id).any())))

    def _put(self, frame: int, record: Record | None) -> None:
        self.records.put(frame, record)
        self.follower.lose(frame)
        self._prompts = None

    def _remember(self, frame: int | None = None) -> None:
        self._undone.append(self._now(frame))
        self._redone.clear()

    def _now(self, frame: int | None) -> _Before:
        record = None if frame is None else self.records.find_whole(frame)
        return _Before(self.objects, self._gone, frame, record)

    def _swap(self, source: deque[_Before], target: deque[_Before]) -> int | None:
        if not source:
            raise MaskError("there is nothing to undo or to do again")
        before = source.pop()
        target.append(self._now(before.frame))
        self._set_objects(before.objects, before.gone)
        if before.frame is not None:
            self._put(before.frame, before.record)
        self._prompts = None
        return before.frame

    def _set_objects(self, objects: tuple[StudioObject, ...], gone: Mapping[int, int]) -> None:
        if gone != self._gone:
            self.follower.lose()
        self.objects, self._gone = objects, gone
        self.records.hide(gone)
