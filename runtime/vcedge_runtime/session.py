"""One video from source to sinks: the loop that every command shares."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import EngineError, SourceError
from vcedge_runtime.followed import StepResult
from vcedge_runtime.propagation.points import PointEstimate
from vcedge_runtime.stopping import finish_first
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.sinks import Sink
from vcedge_runtime.video.sources import Frame

KEPT_TIMINGS = 2_000
"""Frames whose timings are kept: a camera may run for weeks."""


class PointSink(Protocol):
    """Takes the points of one frame after the other."""

    def write(self, frame: Frame, points: Mapping[str, PointEstimate]) -> None:
        """Write the points of a frame, by name."""


@dataclass
class SessionReport:
    """What a session did so far; it stays true when the session is broken off.

    Attributes:
        frames: frames written, the first one included.
        held: those that keep the last mask, since the model gave numbers that are not finite.
        ages_ms: of frames of a live source, how old each was when its mask was ready, of the last
            ``KEPT_TIMINGS``.
        seconds: wall time from the first frame on.
        timings_ms: milliseconds of each stage, decode, the tracker's and write, of the last
            ``KEPT_TIMINGS`` frames.
    """

    frames: int = 0
    held: int = 0
    seconds: float = 0.0
    timings_ms: dict[str, deque[float]] = field(default_factory=dict)
    ages_ms: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_TIMINGS))

    @property
    def frames_per_second(self) -> float:
        """Frames a second, everything included."""
        return self.frames / self.seconds if self.seconds else 0.0

    def age(self, frame: Frame) -> Frame:
        """Note how old a frame is, now that its mask is ready, and give the frame that says so."""
        if frame.arrived_s is None:
            return frame
        age_ms = 1000 * (time.monotonic() - frame.arrived_s)
        self.ages_ms.append(age_ms)
        return replace(frame, age_ms=age_ms)

    def add(self, stages: Mapping[str, float]) -> None:
        """Count a frame."""
        self.frames += 1
        for stage, elapsed in stages.items():
            self.timings_ms.setdefault(stage, deque(maxlen=KEPT_TIMINGS)).append(elapsed)


def track_frames(
    tracker: Tracker,
    frames: Iterable[Frame],
    first_mask: NDArray[np.uint8],
    sinks: Sequence[Sink],
    report: SessionReport,
    on_frame: Callable[[SessionReport], None] = lambda report: None,
) -> None:
    """Track a video and hand every frame to the sinks; the caller closes them.

    Args:
        tracker: an open tracker.
        frames: the video.
        first_mask: (H, W) uint8 object ids of the first frame.
        sinks: where results go.
        report: filled on the way.
        on_frame: called after each frame.

    Raises:
        SourceError: the video has no frame, or breaks off; what was tracked is written.
        MaskError: the first mask does not fit.
        EngineError: no frame after the first could be tracked.
    """

    def begin(frame: Frame) -> StepResult:
        tracker.start(frame.image, first_mask)
        return StepResult(first_mask, dict.fromkeys(tracker.object_ids, 1.0), {})

    def step(frame: Frame) -> StepResult:
        return begin(frame) if report.frames == 0 else tracker.step(frame.image)

    follow_frames(frames, step, tell_sinks(sinks), report, on_frame)


def track_points(
    tracker: Tracker,
    frames: Iterable[Frame],
    first_points: Mapping[str, tuple[float, float]],
    sinks: Sequence[PointSink],
    report: SessionReport,
    on_frame: Callable[[SessionReport], None] = lambda report: None,
) -> None:
    """Track named points and hand every frame to the sinks; the caller closes them.

    Args:
        tracker: an open tracker.
        frames: the video.
        first_points: x, y of each point in the first frame's pixels.
        sinks: where results go.
        report: filled on the way.
        on_frame: called after each frame.

    Raises:
        SourceError: the video has no frame, or breaks off; what was tracked is written.
        TrackerError: the points cannot be followed.
        EngineError: no frame after the first could be tracked.
    """

    def begin(frame: Frame) -> StepResult:
        tracker.start_points(frame.image, first_points)
        known = {n: PointEstimate(*place, True, 1.0) for n, place in first_points.items()}
        return StepResult(np.zeros(frame.image.shape[:2], np.uint8), {}, {}, known)

    def step(frame: Frame) -> StepResult:
        return begin(frame) if report.frames == 0 else tracker.step(frame.image)

    def write(frame: Frame, result: StepResult) -> None:
        for sink in sinks:
            sink.write(frame, result.points)

    follow_frames(frames, step, write, report, on_frame)


def tell_sinks(sinks: Sequence[Sink]) -> Callable[[Frame, StepResult], None]:
    """What hands a frame's result to every sink."""

    def write(frame: Frame, result: StepResult) -> None:
        for sink in sinks:
            if result.held:
                sink.hold(frame, result.mask)
            else:
                sink.write(frame, result.mask, result.scores, result.states)

    return write


def follow_frames(
    frames: Iterable[Frame],
    step: Callable[[Frame], StepResult],
    write: Callable[[Frame, StepResult], None],
    report: SessionReport,
    on_frame: Callable[[SessionReport], None],
) -> None:
    """Go through a video: each frame is tracked and handed to the sinks, or neither.

    Args:
        frames: the video.
        step: tracks a frame; ``report.frames`` are done before it.
        write: hands its result on.
        report: filled on the way.
        on_frame: called after each frame.

    Raises:
        SourceError: the video has no frame.
        EngineError: no frame after the first could be tracked.
    """
    began = last = time.perf_counter()
    for frame in frames:
        decoded = time.perf_counter()
        # The first frame has its mask from elsewhere, and waited for the model to be loaded.
        first = report.frames == 0
        result = step(frame)
        tracked = time.perf_counter()
        known = frame if first else report.age(frame)
        # What stops a run comes between two frames: each stands in every sink, or in none.
        with finish_first():
            write(known, result)
        stages = {"decode": 1000 * (decoded - last), **result.timings_ms}
        last = time.perf_counter()
        stages["write"] = 1000 * (last - tracked)
        report.add(stages)
        report.held += result.held
        report.seconds = last - began
        on_frame(report)
    if report.frames == 0:
        raise SourceError("the video has no frame; expected at least one")
    if 0 < report.held == report.frames - 1:
        raise EngineError(
            "received numbers of the model that are not finite in every frame after the first, and "
            "nothing was tracked; `vcedge verify` tells where; try another --backend"
        )
