"""Options that several commands share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click
import pytest
from click.testing import CliRunner

from vcedge.cli import app
from vcedge.commands import options
from vcedge.commands.options import composed, opened
from vcedge_runtime.engines.choosing import Choice
from vcedge_runtime.model.bundle import Bundle


@pytest.mark.parametrize("path", [["track"], ["demo"], ["bench"], ["eval", "davis"]])
def test_what_runs_the_graphs_is_chosen_where_no_back_end_is_named(path: list[str]) -> None:
    found: Any = app
    for name in path:
        found = found.get_command(click.Context(found), name)
    (backend,) = (param.default for param in found.params if param.name == "backend")
    assert backend == "auto"


@pytest.mark.parametrize("backend", ["cpu", "cuda"])
@pytest.mark.parametrize("there", [False, True])
def test_a_model_in_fp16_is_taken_where_it_is_there_and_a_gpu_runs_it(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, backend: str, there: bool
) -> None:
    half = replace(tiny_bundle, folder=tiny_bundle.folder.with_name("tiny-fp16"))
    monkeypatch.setattr(options, "choose_backend", lambda bundle: Choice(backend, "so"))
    monkeypatch.setattr(options, "find_half", lambda bundle: half if there else None)
    told: list[str] = []
    taken = options.lower_precision(tiny_bundle, told.append)
    assert (taken is half) is (there and backend == "cuda")
    assert (told == [f"the model is taken in FP16, from {half.folder}"]) is (taken is half)


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
