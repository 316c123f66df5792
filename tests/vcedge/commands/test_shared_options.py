"""Options that several commands share."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner

from vcedge.cli import app
from vcedge.commands.options import composed, opened
from vcedge_runtime.engines.opening import BACKENDS


@pytest.mark.parametrize("path", [["track"], ["demo"], ["bench"], ["eval", "davis"]])
def test_what_runs_the_graphs_is_the_first_back_end_where_none_is_named(path: list[str]) -> None:
    found: Any = app
    for name in path:
        found = found.get_command(click.Context(found), name)
    (backend,) = (param.default for param in found.params if param.name == "backend")
    assert backend == BACKENDS[0]


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
