"""What ``vcedge batch`` shows on its way and says at its end."""

from __future__ import annotations

from collections import Counter
from time import perf_counter

from rich.console import Console
from rich.progress import Progress

from vcedge.commands.batch_work import Tracked
from vcedge.fleet.table import DONE, FAILED, TABLE_NAME, Row

MOST_TOLD = 20
"""Videos that failed whose reason is told at once; the table tells of all."""


class BatchReport:
    """Counts videos and frames, and keeps the bar.

    Args:
        console: where.
        bar: shows the frames of all videos, as far as those that are done let them be foretold.
        videos: how many there are.
    """

    def __init__(self, console: Console, bar: Progress, videos: int) -> None:
        self._console, self._bar, self._videos = console, bar, videos
        self._task = bar.add_task("", total=None, speed=None)
        self._began = perf_counter()
        self.states = Counter[str]()
        self.before = 0
        self._frames = self._frames_before = 0
        self.tick(0)

    @property
    def through(self) -> bool:
        """Whether every video has had its turn."""
        return self.states[DONE] + self.states[FAILED] == self._videos

    def add(self, tracked: Tracked) -> None:
        """Count a video."""
        row = tracked.row
        self.states[row.state] += 1
        self.before += tracked.before
        self._frames += row.frames
        self._frames_before += row.frames if tracked.before else 0
        if row.state == FAILED and self.states[FAILED] <= MOST_TOLD:
            self._tell(row)

    def tick(self, running: int) -> None:
        """Show how far it is, ``running`` frames of the videos under way included."""
        done = sum(self.states.values())
        frames, seconds = self._frames + running, perf_counter() - self._began
        total = round(self._frames / done * self._videos) if done else None
        failed = f", {self.states[FAILED]} failed" if self.states[FAILED] else ""
        self._bar.update(
            self._task,
            description=f"videos {done}/{self._videos}{failed}; frames",
            completed=frames,
            total=None if total is None else max(total, frames),
            speed=(frames - self._frames_before) / seconds if seconds else None,
        )

    def describe(self) -> list[str]:
        """Say at the end what became of them."""
        seconds = perf_counter() - self._began
        frames = self._frames - self._frames_before
        again = f" ({self.before} of them before)" if self.before else ""
        left = self._videos - self.states[DONE] - self.states[FAILED]
        others = [
            f"{self.states[FAILED]} failed" if self.states[FAILED] else "",
            f"{left} are left: run it again with --resume" if left else "",
        ]
        told = ", ".join([f"{self.states[DONE]} of {self._videos} videos are done{again}"])
        return [
            "; ".join(filter(None, (told, *others))),
            f"{frames} frames in {seconds:.1f} s: {frames / seconds:.1f} frames/s",
        ]

    def _tell(self, row: Row) -> None:
        more = self.states[FAILED] == MOST_TOLD
        told = f"line {row.line}, {row.video}: {row.message}"
        rest = f" (of others that fail, {TABLE_NAME} tells)" if more else ""
        self._console.print(told + rest, style="yellow", markup=False, soft_wrap=True)
