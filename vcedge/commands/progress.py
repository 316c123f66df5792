"""Progress on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from vcedge_runtime.engines.plans import BuildProgress
from vcedge_runtime.session import SessionReport


class Builds:
    """Tells of engines that are built: in lines, and in the bar that is shown meanwhile.

    Attributes:
        bar: what is shown; None where nothing is.
    """

    def __init__(self) -> None:
        self.bar: Progress | None = None
        self._tasks: dict[tuple[str, str], TaskID] = {}

    def tell(self, text: str) -> None:
        """Print a line; what was built before it is done."""
        for task in self._tasks.values():
            if self.bar is not None:
                self.bar.remove_task(task)
        self._tasks = {}
        # What a command prints may be read by another.
        console = Console(stderr=True) if self.bar is None else self.bar.console
        console.out(text, highlight=False)

    def advance(self, done: BuildProgress) -> None:
        """Show how far a build is."""
        if self.bar is None:
            return
        key = (done.graph, done.phase)
        if key not in self._tasks:
            self._tasks[key] = self.bar.add_task(f"{done.graph}: {done.phase}", total=done.steps)
        self.bar.update(self._tasks[key], completed=done.done)


def current_builds() -> Builds:
    """Those of the command that runs."""
    return click.get_current_context().ensure_object(Builds)


class _SpeedColumn(ProgressColumn):
    """The speed of a task that has one in its field ``speed``."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.fields.get("speed")
        return Text("" if speed is None else f"{speed:.1f} {self._unit}")


@contextmanager
def progress_bar(console: Console, speed_unit: str) -> Iterator[Progress]:
    """Show a bar with a speed; tasks carry it in their field ``speed``."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _SpeedColumn(speed_unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield progress


@contextmanager
def session_bar(
    console: Console, *lengths: int | None
) -> Iterator[Callable[[SessionReport], None]]:
    """Show the progress of a session up to the smallest known length, and of engines built in it.

    Args:
        console: where.
        lengths: frames of the session, where they are known.
    """
    known = [length for length in lengths if length is not None]
    builds = current_builds()
    with progress_bar(console, "frames/s") as progress:
        task = progress.add_task("track", total=min(known, default=None), speed=0.0)
        builds.bar = progress
        try:
            yield lambda report: progress.update(
                task, completed=report.frames, speed=report.frames_per_second
            )
        finally:
            builds.bar = None
