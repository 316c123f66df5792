"""``vcedge doctor``: what this machine can do, and what is missing."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click
import numpy as np

from vcedge.commands.models import describe_verification
from vcedge.commands.tables import make_fact_list, make_table, open_console
from vcedge.doctor.machine import MachineReport, describe_machine
from vcedge_runtime.errors import VcedgeError
from vcedge_runtime.model.bundle import Bundle, shipped_models
from vcedge_runtime.tracker import Tracker


@click.command(name="doctor")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def command(as_json: bool) -> None:
    """Tell what this machine can do and what is missing.

    Each shipped model follows an object through two small frames. The exit code is 1 where nothing
    can be tracked.
    """
    report = describe_machine()
    trials = [(name, *try_model(name)) for name in shipped_models()]
    if as_json:
        models = [dict(zip(("name", "works", "finding"), trial, strict=True)) for trial in trials]
        click.echo(json.dumps({"machine": report.to_json(), "models": models}, indent=1))
    else:
        _print(report, trials)
    if not any(works for _, works, _ in trials):
        raise click.exceptions.Exit(1)


def try_model(model: str) -> tuple[bool, str]:
    """Follow an object through two small frames.

    Returns:
        Whether it worked, and in words what was found.
    """
    frame = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    mask = np.zeros((64, 96), np.uint8)
    mask[16:48, 24:72] = 1
    try:
        bundle = Bundle.open(model)
        with Tracker.open(bundle, size=64, threads=1, backend="cpu") as tracker:
            tracker.start(frame, mask)
            found = tracker.step(frame).mask
    except VcedgeError as exc:
        return False, str(exc)
    if not found.any():
        return False, "loads, but loses a still object; export or install it again"
    return True, f"tracks; its graphs are verified: {describe_verification(bundle.verification)}"


def _print(report: MachineReport, trials: Sequence[tuple[str, bool, str]]) -> None:
    console = open_console()
    console.print(make_fact_list(report.rows))
    parts = [
        (part.commands, _tick(part.works), ", ".join(part.missing), part.install)
        for part in report.parts
    ]
    console.print(make_table(("commands", "work", "missing", "to mend"), parts, left=4))
    models = [(name, _tick(works), finding) for name, works, finding in trials]
    if models:
        console.print(make_table(("model", "works", "finding"), models, left=3))
    else:
        console.print("no model came with this installation; `vcedge export` makes one")
    if any(works for _, works, _ in trials):
        console.print("next: vcedge demo")


def _tick(works: bool) -> str:
    return "yes" if works else "NO"
