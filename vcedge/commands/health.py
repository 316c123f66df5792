"""How a run is that nobody watches: in a line now and then, or as JSON for who asks."""

from __future__ import annotations

import resource
from collections import deque
from pathlib import Path
from time import monotonic

import numpy as np

from vcedge_runtime.session import SessionReport
from vcedge_runtime.video.frame import Source

RECENT = 60
"""Frames whose speed and age are told (our choice)."""
STATUS = Path("/proc/self/status")
Facts = dict[str, str | int | float | None]


class Health:
    """Tells how the tracking of a source goes on, from any thread.

    Args:
        video: the source.
        report: of the session, filled meanwhile.
    """

    def __init__(self, video: Source, report: SessionReport) -> None:
        self._video, self._report = video, report
        self._began_s = monotonic()
        self._done_s: deque[float] = deque([self._began_s], maxlen=RECENT)

    def note(self) -> None:
        """Note that a frame is done."""
        self._done_s.append(monotonic())

    def facts(self) -> Facts:
        """What is told, by name.

        Returns:
            ``state``: ``starting`` before the first frame, ``tracking``, or ``waiting`` while the
            source is opened again; ``fps`` and ``age_ms``, its median, of the last ``RECENT``
            frames; ``idle_s`` since the last one; ``frames``, ``dropped`` and ``reopened`` so far;
            ``memory_mb`` of the process. None where nothing is known yet.
        """
        video, report, done_s = self._video, self._report, self._done_s.copy()
        span_s = done_s[-1] - done_s[0]
        ages_ms = list(report.ages_ms.copy())[-RECENT:]
        state = "waiting" if not video.connected else "tracking" if report.frames else "starting"
        return {
            "state": state,
            "frames": report.frames,
            "fps": round((len(done_s) - 1) / span_s, 2) if span_s else None,
            "age_ms": round(float(np.median(ages_ms)), 1) if ages_ms else None,
            "dropped": video.dropped,
            "reopened": video.reopened,
            "idle_s": round(monotonic() - done_s[-1], 1),
            "memory_mb": round(read_process_bytes() / 1e6, 1),
        }

    def describe(self) -> list[str]:
        """The facts in a line."""
        told = [f"{name}={'-' if fact is None else fact}" for name, fact in self.facts().items()]
        return [f"health: {' '.join(told)}"]


def read_process_bytes() -> int:
    """Resident memory of this process; the most that it was where the system tells no more."""
    if STATUS.exists():
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmRSS:"))
        return 1024 * int(line.split()[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
