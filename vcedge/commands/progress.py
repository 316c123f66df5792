"""Progress: a bar on a terminal, and lines where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from threading import Event, Thread
from time import monotonic

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
from vcedge_runtime.errors import OutputError
from vcedge_runtime.session import SessionReport
from vcedge_runtime.telling import make_printable

LINE_EVERY_S = 10.0
"""Seconds between lines where there is no terminal."""


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
        console.out(make_printable(text), highlight=False)

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
    """Show a bar with a speed; tasks carry it in their field ``speed``.

    Where there is no terminal, a line a task is printed now and then, and at the end.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _SpeedColumn(speed_unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        def describe() -> list[str]:
            return [_describe_task(task, speed_unit) for task in progress.tasks]

        with nullcontext() if console.is_terminal else spoken(console, describe):
            yield progress
        if not console.is_terminal:
            _print_lines(console, describe())


class Stages:
    """Tells which stage a long command is in, and how far that is.

    Args:
        console: where.
        what: the command's name.
    """

    def __init__(self, console: Console, what: str) -> None:
        self._console = console
        self._what = what
        self._stage, self._done, self._total = "", 0, 0
        self._began = monotonic()
        self._status = console.status(what) if console.is_terminal else None

    def __call__(self, stage: str, done: int = 0, total: int = 0) -> None:
        """Take note of what begins, or of how far it is."""
        begins = stage != self._stage
        self._stage, self._done, self._total = stage, done, total
        if self._status is not None:
            self._status.update(self.describe())
        elif begins:
            _print_lines(self._console, [self.describe()])

    def describe(self) -> str:
        """Say it in a line."""
        share = f" {self._done}/{self._total}" if self._total else ""
        return f"{self._what}: {self._stage}{share}, after {monotonic() - self._began:.0f} s"

    def advance(self, build: BuildProgress) -> None:
        """Take note of how far the build of an engine is."""
        self(f"{build.graph}, {build.phase}", build.done, build.steps)

    @contextmanager
    def shown(self) -> Iterator[Stages]:
        """Show it meanwhile."""
        with ExitStack() as stack:
            if self._status is not None:
                stack.enter_context(self._status)
            if not self._console.is_terminal:
                stack.enter_context(spoken(self._console, lambda: [self.describe()]))
            yield self


@contextmanager
def spoken(
    console: Console, describe: Callable[[], list[str]], every_s: float | None = None
) -> Iterator[None]:
    """Print every ``LINE_EVERY_S``, or as often as is said, what is done, whatever else runs."""
    with repeated(every_s or LINE_EVERY_S, lambda: _print_lines(console, describe())):
        yield


@contextmanager
def repeated(every_s: float, speak: Callable[[], None]) -> Iterator[None]:
    """Call ``speak`` every so many seconds in a thread of its own, as long as it lasts."""
    done = Event()

    def go_on() -> None:
        # What cannot be written is told where the command itself writes.
        with suppress(OutputError):
            while not done.wait(every_s):
                speak()

    speaker = Thread(target=go_on, daemon=True)
    speaker.start()
    try:
        yield
    finally:
        done.set()
        speaker.join()


def _print_lines(console: Console, lines: list[str]) -> None:
    for line in lines:
        console.out(line, highlight=False)
    # A pipe or a log is read while the command runs.
    console.file.flush()


def _describe_task(task: Task, speed_unit: str) -> str:
    share = f"{task.completed:.0f}" + ("" if task.total is None else f"/{task.total:.0f}")
    speed = task.fields.get("speed")
    return f"{task.description}: {share}" + (f", {speed:.1f} {speed_unit}" if speed else "")


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
