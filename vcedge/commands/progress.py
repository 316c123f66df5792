"""Progress on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from vcedge_runtime.session import SessionReport


@contextmanager
def progress_bar(console: Console, speed_unit: str) -> Iterator[Progress]:
    """Show a bar with a speed; tasks carry it in their field ``speed``."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]:.1f} " + speed_unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield progress


@contextmanager
def session_bar(
    console: Console, *lengths: int | None
) -> Iterator[Callable[[SessionReport], None]]:
    """Show the progress of a session up to the smallest known length."""
    known = [length for length in lengths if length is not None]
    with progress_bar(console, "frames/s") as progress:
        task = progress.add_task("track", total=min(known, default=None), speed=0.0)
        yield lambda report: progress.update(
            task, completed=report.frames, speed=report.frames_per_second
        )
