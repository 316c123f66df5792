"""Cameras without a wall clock: frames come when a clock of the test's own says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from threading import Semaphore

import numpy as np

from vcedge_runtime.errors import SourceError
from vcedge_runtime.video.frame import Frame, Source
from vcedge_runtime.video.live import LiveOptions, LiveSource

HW = (48, 64)
ALL = LiveOptions(drop=False)


def make_frame(index: int, time_s: float | None = None) -> Frame:
    """A frame whose pixels say its number."""
    return Frame(index, f"{index:05d}", np.full((*HW, 3), index % 256, np.uint8), time_s=time_s)


class ListSource(Source):
    """Gives frames, and ends in order, with a reason, or by an error."""

    live = True

    def __init__(
        self,
        frames: Iterable[Frame],
        end: str | SourceError | None = None,
        frame_hw: tuple[int, int] = HW,
    ) -> None:
        self.label, self.fps, self.frame_hw = "the list", 25.0, frame_hw
        self._frames, self._end = iter(frames), end
        self.closed = 0

    def __iter__(self) -> Iterator[Frame]:
        yield from self._frames
        if isinstance(self._end, SourceError):
            raise self._end
        self.ended_early = self._end

    def close(self) -> None:
        self.closed += 1


class Clock:
    """Seconds, which pass when the test says so, and a camera that gives frames meanwhile."""

    def __init__(self, fps: float) -> None:
        self.now_s = 0.0
        self._period_s, self._given = 1 / fps, 0
        self._due, self._asked = Semaphore(0), Semaphore(0)

    def __call__(self) -> float:
        return self.now_s

    def make_frames(self) -> Iterator[Frame]:
        """Frames without end, the first one at once, each later one when its time has come."""
        yield make_frame(0)
        while True:
            self._asked.release()
            self._due.acquire()
            self._given += 1
            yield make_frame(self._given)

    def advance(self, seconds: float) -> None:
        """Let time pass; each frame that is due has been received when it goes on."""
        end_s = self.now_s + seconds
        while (due_s := (self._given + 1) * self._period_s) <= end_s:
            self._asked.acquire()  # the one before was handed on
            self.now_s = due_s
            self._due.release()
            self._asked.acquire()
            self._asked.release()
        self.now_s = end_s


def open_each(*sources: Source | SourceError) -> Callable[[], Source]:
    """What opens one source after the other, some of which cannot be."""
    left = iter(sources)

    def reopen() -> Source:
        found = next(left)
        if isinstance(found, SourceError):
            raise found
        return found

    return reopen


def read_live(source: LiveSource) -> tuple[list[int], SourceError | None]:
    """The first pixel of every frame, and the error that came after them."""
    levels: list[int] = []
    with source:
        try:
            for frame in source:
                levels.append(int(frame.image[0, 0, 0]))
        except SourceError as exc:
            return levels, exc
    return levels, None
