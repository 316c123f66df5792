"""Options that several commands share."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner

from vcedge.cli import app
from vcedge.commands.options import composed, opened


@pytest.mark.parametrize("path", [["track"], ["demo"], ["bench"], ["eval", "davis"]])
def test_what_runs_the_graphs_is_chosen_where_no_back_end_is_named(path: list[str]) -> None:
    found: Any = app
    for name in path:
        found = found.get_command(click.Context(found), name)
    (backend,) = (param.default for param in found.params if param.name == "backend")
    assert backend == "auto"


def test_a_proof_is_of_a_back_end_that_is_named() -> None:
    said = CliRunner().invoke(app, ["verify", "none", "--backend", "auto"])
    assert said.exit_code == 2
    assert "'auto' is not one of 'cpu', 'cuda', 'tensorrt'" in said.output


@pytest.mark.parametrize("count", [1025, 10**12])
def test_more_threads_than_an_engine_takes_are_refused(count: int) -> None:
    said = CliRunner().invoke(app, ["track", "none.mp4", "--mask", "m.png", "--threads", count])
    assert said.exit_code == 2
    assert "0<=x<=1024" in said.output


@click.command()
@composed
@opened
def show(overrides: dict[str, object], tell: Any, **engines: object) -> None:
    """Print what a tracker is opened with."""
    for text in ("the CPU runs the graphs", "building", "the CPU runs the graphs"):
        tell(text)
    click.echo(overrides)


def test_only_switches_that_were_given_override_the_composition() -> None:
    said = CliRunner().invoke(show, ["--no-edges", "--local", "off"]).stdout
    assert said.splitlines()[-1] == "{'edges': False, 'local': 'off'}"
    assert CliRunner().invoke(show, []).stdout.splitlines()[-1] == "{}"


def test_what_was_chosen_is_told_once_however_many_trackers_are_opened() -> None:
    said = CliRunner().invoke(show, []).stderr
    assert said.splitlines() == ["the CPU runs the graphs", "building"]
