"""Boxes and clicks as a user types them."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from vcedge.commands.prompt_options import prompted

GIVEN: dict[str, Any] = {}


@click.command()
@prompted
def command(**given: Any) -> None:
    """Keep what was given."""
    GIVEN.clear()
    GIVEN.update(given)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def test_boxes_and_clicks_are_gathered_by_object() -> None:
    done = invoke(
        *("--box", "1,2,30,40", "--box", "7=5,6,7.5,8", "--click", "9,10", "--click", "-3,4"),
        *("--click", "7=+1,2", "--click", "7=-3.5,4"),
    )
    assert done.exit_code == 0, done.output
    assert GIVEN["boxes"] == {1: (1, 2, 30, 40), 7: (5, 6, 7.5, 8)}
    assert GIVEN["clicks"] == {1: [(9, 10, 1), (3, 4, 0)], 7: [(1, 2, 1), (3.5, 4, 0)]}


@pytest.mark.parametrize(
    "arguments",
    [
        ("--box", "1,2,3"),
        ("--box", "1,2,3,x"),
        ("--box", "-1,2,3,4"),
        ("--box", "0=1,2,3,4"),
        ("--box", "256=1,2,3,4"),
        ("--click", "1"),
        ("--click", "1,2,3"),
        ("--click", "a=1,2"),
        ("--click", "--1,2"),
    ],
)
def test_what_is_neither_is_refused_with_an_example(arguments: tuple[str, str]) -> None:
    done = invoke(*arguments)
    assert done.exit_code == 2
    assert "received" in done.output
    assert "such as" in done.output


def test_two_boxes_of_one_object_are_refused() -> None:
    done = invoke("--box", "1,2,3,4", "--box", "1,2,3,5")
    assert done.exit_code == 2
    assert "two boxes for object 1" in done.output
