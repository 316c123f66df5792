"""Options that several commands share."""

from __future__ import annotations

import click

from vcedge_runtime.composition import KINDS

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
MEMORY = click.option(
    "--memory",
    type=click.Choice(list(KINDS["memory"])),
    help="Which frames are read; by default the model's own.",
)
SAMPLER = click.option(
    "--sampler",
    type=click.Choice(list(KINDS["sampler"])),
    help="Where in them a cell looks; the model's own by default.",
)
FUSION = click.option(
    "--fusion",
    type=click.Choice(list(KINDS["fusion"])),
    help="How what was read becomes one label; the model's own by default.",
)
ALIGNMENT = click.option(
    "--alignment",
    type=click.Choice(list(KINDS["alignment"])),
    help="Whether windows follow the objects; the model's own by default.",
)
