"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from vcedge_runtime.composition import KINDS

Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULT_MODEL = "base-edge"

MODEL = click.option(
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    help="A shipped model's name or the folder of a bundle.",
)
SIZE = click.option(
    "--size",
    type=click.IntRange(min=16),
    help="Working size, the short side in pixels; the model's own by default.",
)
THREADS = click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Threads of an engine; 0 lets it choose.",
)
EDGES = click.option(
    "--edges/--no-edges",
    default=None,
    help="Bring masks to the frame's own edges; the model's own choice by default.",
)


def _part_option(part: str, about: str) -> Callable[[Command], Command]:
    """Option that exchanges a part of the model for one of another kind."""
    return click.option(
        f"--{part}",
        type=click.Choice(list(KINDS[part])),
        help=f"{about}; the model's own by default.",
    )


MEMORY = _part_option("memory", "Which frames are read")
SAMPLER = _part_option("sampler", "Where in them a cell looks")
FUSION = _part_option("fusion", "How what was read becomes one label")
ALIGNMENT = _part_option("alignment", "Whether windows follow the objects")
