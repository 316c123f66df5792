"""Progress where there is no terminal: a line as a stage begins, and every few seconds."""

from __future__ import annotations

import io
import re
import threading
import time
from collections.abc import Callable

import pytest
from rich.console import Console

from vcedge.commands import progress
from vcedge.commands.progress import Stages, progress_bar
from vcedge_runtime.engines.plans import BuildProgress


@pytest.fixture
def console() -> Console:
    """A pipe."""
    return Console(file=io.StringIO())


@pytest.fixture
def lines(console: Console) -> Callable[[], list[str]]:
    """What was printed so far, without the seconds."""

    def read() -> list[str]:
        assert isinstance(console.file, io.StringIO)
        return re.sub(r", after \d+ s", "", console.file.getvalue()).splitlines()

    return read


def wait_for(lines: Callable[[], list[str]], wanted: str) -> None:
    end = time.monotonic() + 20
    while wanted not in lines() and time.monotonic() < end:
        time.sleep(0.01)
    assert wanted in lines()


def test_a_stage_is_told_as_it_begins_and_once(
    console: Console, lines: Callable[[], list[str]]
) -> None:
    with Stages(console, "export").shown() as tell:
        tell("encoder")
        assert lines() == ["export: encoder"]
        for done in range(3):
            tell("verify", done, 3)
        tell.advance(BuildProgress("encoder", "tactics", 1, 9))
    assert lines() == ["export: encoder", "export: verify 0/3", "export: encoder, tactics 1/9"]


def test_a_stage_that_says_nothing_is_told_of_again(
    console: Console, lines: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.01)
    with Stages(console, "export").shown() as tell:
        tell("verify")
        tell("verify", 12, 30)
        wait_for(lines, "export: verify 12/30")
    told = len(lines())
    time.sleep(0.05)
    assert len(lines()) == told


def test_a_bar_becomes_lines(
    console: Console, lines: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.01)
    with progress_bar(console, "frames/s") as bar:
        task = bar.add_task("track", total=40, speed=0.0)
        bar.update(task, completed=12, speed=3.25)
        wait_for(lines, "track: 12/40, 3.2 frames/s")
        bar.update(task, completed=40, speed=4.0)
    assert lines()[-1] == "track: 40/40, 4.0 frames/s"


def test_a_failure_ends_the_lines(console: Console) -> None:
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), Stages(console, "export").shown():
        raise ZeroDivisionError
    assert threading.active_count() == before
