"""``--recipe``: what a paper trains with, as defaults of options; what is passed comes before."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import click

from vcedge_runtime.errors import TrainingError
from vcedge_runtime.model.presets import PRINTED_REACH

RECIPES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # MER, section 4; what DMP does not say is MER's. Radius, gaps and halving are MAST's.
        "paper": {
            "profile": "paper",
            "sizes": "1.0:256",
            "batch": 32,
            "learning_rate": 1e-3,
            "halve_at": "0.33,0.5,0.67,0.83",
            "epochs": 20,
            "radius": 6,
            "clusters": 5,
            # As the presets read that come of it.
            "reach": PRINTED_REACH,
            "backward": "plain",
            "whole_frames": True,
        }
    }
)
"""Options by recipe; a method takes those that it has."""


def _take(context: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.default_map = {**(context.default_map or {}), **RECIPES[value]}


RECIPE = click.option(
    "--recipe",
    type=click.Choice(list(RECIPES)),
    is_eager=True,
    expose_value=False,
    callback=_take,
    help="paper: whole frames resized to 256, stride 4, 32 clips a step, 20 epochs, rate 1e-3 "
    "halved four times, radius 6; other options come before.",
)
EPOCHS = click.option(
    "--epochs",
    type=click.FloatRange(min=0, min_open=True),
    help="Instead of --steps: how often each frame of the videos is drawn, on average.",
)
HALVE_AT = click.option(
    "--halve-at",
    help="Shares of the run at which the learning rate is halved, such as 0.5,0.75, instead of "
    "falling all the way.",
)
WHOLE_FRAMES = click.option(
    "--whole-frames/--crops",
    default=False,
    help="Frames resized to the crop size, 2, 5 or 8 steps apart, as MAST has it; or crops that "
    "move.",
)


def parse_shares(text: str | None) -> tuple[float, ...]:
    """Read shares of a run.

    Raises:
        TrainingError: they are something else.
    """
    try:
        return tuple(float(share) for share in text.split(",")) if text else ()
    except ValueError as exc:
        raise TrainingError(f"received shares {text!r}; expected such as 0.5,0.75") from exc
