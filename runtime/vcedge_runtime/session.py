"""One video from source to sinks: the loop that every command shares."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import SourceError
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.sinks import Sink
from vcedge_runtime.video.sources import Frame

KEPT_TIMINGS = 10_000
"""Frames whose timings are kept: a camera may run for weeks."""


@dataclass
class SessionReport:
    """What a session did so far; it stays true when the session is broken off.

    Attributes:
        frames: frames written, the first one included.
        seconds: wall time from the first frame on.
        timings_ms: milliseconds of each stage, decode, the tracker's and write, of the last
            ``KEPT_TIMINGS`` frames.
    """

    frames: int = 0
    seconds: float = 0.0
    timings_ms: dict[str, deque[float]] = field(default_factory=dict)

    @property
    def frames_per_second(self) -> float:
        """Frames a second, everything included."""
        return self.frames / self.seconds if self.seconds else 0.0

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
    """
    began = last = time.perf_counter()
    for frame in frames:
        decoded = time.perf_counter()
        stages = {"decode": 1000 * (decoded - last)}
        if report.frames == 0:
            mask = first_mask
            tracker.start(frame.image, mask)
            scores = dict.fromkeys(tracker.object_ids, 1.0)
        else:
            result = tracker.step(frame.image)
            mask, scores = result.mask, result.scores
            stages.update(result.timings_ms)
        tracked = time.perf_counter()
        for sink in sinks:
            sink.write(frame, mask, scores)
        last = time.perf_counter()
        stages["write"] = 1000 * (last - tracked)
        report.add(stages)
        report.seconds = last - began
        on_frame(report)
    if report.frames == 0:
        raise SourceError("the video has no frame; expected at least one")
