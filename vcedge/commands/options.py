"""Options that several commands share."""

from __future__ import annotations

import click

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
