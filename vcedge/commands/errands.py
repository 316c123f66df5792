"""``vcedge track`` on behalf of another command, which lends it a tracker and hears of the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import click

from vcedge.commands.options import open_tracker
from vcedge.commands.progress import Builds, repeated
from vcedge.commands.sightings import Sightings
from vcedge_runtime.closing import Closing
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.session import SessionReport
from vcedge_runtime.tracker import Tracker

TOLD_S = 0.25
"""Between two times that an errand tells how far it is."""


class Shelf(Closing):
    """Keeps the tracker of the last run open for the next one that wants the same."""

    def __init__(self) -> None:
        self._tracker: Tracker | None = None
        self._key = ""

    def lend(self, bundle: Bundle, chosen: dict[str, Any]) -> AbstractContextManager[Tracker]:
        """Lend a tracker, which stays open afterwards."""
        settings = {name: value for name, value in chosen.items() if not callable(value)}
        graphs = sorted(graph.sha256 for graph in bundle.graphs.values())
        key = repr((graphs, bundle.composition, sorted(settings.items(), key=str)))
        if self._tracker is None or key != self._key:
            self.close()
            self._tracker, self._key = open_tracker(bundle, **chosen), key
        return nullcontext(self._tracker)

    def close(self) -> None:
        """Close the tracker."""
        tracker, self._tracker = self._tracker, None
        if tracker is not None:
            tracker.close()


class _Heard(Builds):
    """Keeps what is told of engines, and shows nothing."""

    def __init__(self, told: list[str]) -> None:
        super().__init__()
        self._told = told

    def tell(self, text: str) -> None:
        """Keep a line."""
        self._told.append(text)


@cache
def own_shelf() -> Shelf:
    """Of this process: its tracker stays open from one video to the next."""
    return Shelf()


@dataclass
class Errand:
    """A run of ``track`` that another command asked for: it prints nothing.

    Attributes:
        shelf: where its tracker comes from.
        report: of its frames.
        sightings: of its objects or points; None before it has begun.
        warnings: what it would have printed in yellow.
        told: what its tracker said of its engines when it was opened.
    """

    shelf: Shelf
    report: SessionReport = field(default_factory=SessionReport)
    sightings: Sightings | None = None
    warnings: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def parse(self, command: click.Command, words: Sequence[str]) -> click.Context:
        """Read a command line.

        Raises:
            ClickException: it is none.
        """
        asked = click.Context(
            command, parent=click.Context(command, obj=self), obj=_Heard(self.told)
        )
        return command.make_context(str(command.name), list(words), parent=asked)

    def run(self, context: click.Context, tell: Callable[[int], None]) -> None:
        """Run what was read; ``tell`` hears now and then how many frames are done.

        Raises:
            VcedgeError: as the command has it.
        """
        with context, repeated(TOLD_S, lambda: tell(self.report.frames)):
            context.command.invoke(context)


def current_errand() -> Errand | None:
    """The errand that the running command is; None where a user asked for it."""
    context = click.get_current_context(silent=True)
    return None if context is None else context.find_object(Errand)


def tell_errand(report: SessionReport, sightings: Sightings) -> None:
    """Let the errand that the running command is, if it is one, see what is filled on the way."""
    errand = current_errand()
    if errand is not None:
        errand.report, errand.sightings = report, sightings


def borrow_tracker(bundle: Bundle, **chosen: Any) -> AbstractContextManager[Tracker]:
    """The tracker of a run: one of its own, or of an errand that of the errand's shelf."""
    errand = current_errand()
    return open_tracker(bundle, **chosen) if errand is None else errand.shelf.lend(bundle, chosen)
