"""Help in groups, and what was typed."""

from __future__ import annotations

import re

import click
import pytest
from click.testing import CliRunner

from vcedge.cli import app
from vcedge.commands.grouped import RESEARCH, GroupedCommand, typed_options


@pytest.mark.parametrize("name", ["track", "batch", "demo", "bench"])
def test_every_option_stands_in_one_group_and_what_most_people_need_stands_first(
    name: str,
) -> None:
    command = app.get_command(click.Context(app), name)
    assert isinstance(command, GroupedCommand)
    text = CliRunner().invoke(command, ["--help"], env={"COLUMNS": "200"}).output
    found = re.findall(r"^  (?:-h, )?(--[a-z0-9-]+)", text, re.MULTILINE)
    options = [param for param in command.params if isinstance(param, click.Option)]
    assert sorted(found) == sorted([*(param.opts[0] for param in options), "--help"])
    headings = re.findall(r"^(\S.*):$", text, re.MULTILINE)
    assert headings[:1] == ["What most people need"]
    assert len(headings) == len(command.groups)
    # What no group names would stand behind --help, unnoticed.
    first = text.split("\n\n")[-len(headings)]
    assert first.rstrip().splitlines()[-1].lstrip().startswith(("-h, --help", "--help"))
    assert RESEARCH not in headings[:-1]


@click.command(cls=GroupedCommand, groups={"All": ["size", "part", "edges", "quick", "name"]})
@click.argument("source")
@click.option("--size", type=int, default=3)
@click.option("-p", "--part", type=float)
@click.option("--edges/--no-edges", default=None)
@click.option("--quick", is_flag=True)
@click.option("--name", multiple=True)
def echo(**given: object) -> None:
    """Print the options again."""
    click.echo(" ".join(typed_options(("size", "part", "edges", "name"))))


@pytest.mark.parametrize(
    ("typed", "again"),
    [
        ("clip", ""),
        ("clip --quick", ""),
        ("--size 4 clip --no-edges", "--size 4 --no-edges"),
        ("-p 1e-1 clip --edges --size=5", "-p 1e-1 --edges --size 5"),
        ("--size 4 --size 6 clip", "--size 6"),
        ("--name 3=car clip --name=4=van", "--name 3=car --name 4=van"),
    ],
)
def test_what_was_typed_is_repeated_as_it_was(typed: str, again: str) -> None:
    assert CliRunner().invoke(echo, typed.split()).output.strip() == again
