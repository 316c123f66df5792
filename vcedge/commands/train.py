"""``vcedge train``: encoders from unlabelled video, SRNet from masks."""

from __future__ import annotations

from typing import Any

import click

from vcedge.commands.train_options import SHARE, Request, setting, takes_request
from vcedge.commands.train_prompts import prompts
from vcedge.commands.train_self_labels import self_labels
from vcedge.commands.train_srnet import srnet
from vcedge.commands.train_videos import VideoChoice, takes_videos, train_on_videos
from vcedge.models.encoder import PROFILES
from vcedge.models.value_extraction import READINGS
from vcedge.training.base import BaseObjective, BaseSettings
from vcedge.training.corpus import FLOW_GAPS
from vcedge.training.dmp import DmpObjective, DmpSettings
from vcedge.training.mer import MerObjective, MerSettings
from vcedge_runtime.frames.motion import FLOW_SCALES
from vcedge_runtime.model.composition import VALUE_FRAMES

COMPACT = setting(
    BaseSettings,
    "compact",
    click.FloatRange(min=0),
    "Weight of LIIR's compactness prior; 0 leaves it out.",
)


@click.group(name="train")
def command() -> None:
    """Train on unlabelled video (base, mer, dmp) or on masks (srnet, prompts).

    Several processes train together when started by torchrun.
    """


@command.command()
@takes_request(sorted(PROFILES))
@takes_videos
@COMPACT
def base(request: Request, videos: VideoChoice, **method: Any) -> None:
    """Train the base encoder by colourisation and write its weights to OUT/weights.safetensors.

    Stop it with Ctrl-C and go on with --resume: the curve is the same.
    """
    settings = BaseSettings(**method)
    train_on_videos(request, lambda profile: BaseObjective(profile, settings), videos)


@command.command()
@takes_request(sorted(PROFILES))
@takes_videos
@click.option("--motion/--no-motion", default=True, help="Optical flow added to the frames.")
@click.option("--values/--no-values", default=True, help="Keys refined by value extraction.")
@click.option("--weight-map/--no-weight-map", default=True, help="Loss weighted by the value map.")
@setting(
    MerSettings,
    "contrast",
    click.FloatRange(min=0),
    "Weight of the positive-negative loss; 0 leaves it out.",
)
@click.option(
    "--alpha",
    type=float,
    help="What the weight of flow begins with; 0.1 by default, and 0 beside weights without flow.",
)
@setting(
    MerSettings,
    "flow-scale",
    click.Choice(FLOW_SCALES),
    "What flow is measured in: key cells, the crop's side, or its largest motion.",
)
@setting(
    MerSettings,
    "flow-gap",
    click.Choice(FLOW_GAPS),
    "To which frame flow is: the video's one before, or as far back as the clip's neighbour.",
)
@setting(
    MerSettings,
    "value-map",
    click.Choice(READINGS),
    "What Omega takes off in eq. 7: likeness to the same place in the references, to the own "
    "frame, or 1, as printed.",
)
@setting(MerSettings, "omega", click.FloatRange(min=0))
@setting(
    MerSettings,
    "dropkey",
    click.FloatRange(0, 1, max_open=True),
    "Share of key positions that a step hides from the value extraction.",
)
@setting(
    MerSettings,
    "value-frames",
    click.Choice(VALUE_FRAMES),
    "Whose value map refines a reference: the target's (eq. 11), or its own.",
)
@setting(
    MerSettings,
    "clusters",
    click.IntRange(0, 64),
    "K of the multi-cluster sampler in training; 0 for plain windows.",
)
@setting(
    MerSettings,
    "reach",
    click.IntRange(0, 64),
    "Cells within which that sampler also reads what is of the same cluster.",
)
@COMPACT
def mer(
    request: Request, videos: VideoChoice, values: bool, weight_map: bool, **method: Any
) -> None:
    """Train MER: motion enhancement, value extraction, fused loss; to OUT/weights.safetensors.

    Stop it with Ctrl-C and go on with --resume: the curve is the same.
    """
    settings = MerSettings(value_extraction=values, weight_map=weight_map and values, **method)
    train_on_videos(request, lambda profile: MerObjective(profile, settings), videos)


@command.command()
@takes_request(sorted(PROFILES))
@takes_videos
@click.option(
    "--plain",
    type=click.FloatRange(0, 1),
    help="Share of the run that is colourisation alone; 0.4, or 0 with --from, by default.",
)
@setting(DmpSettings, "beta", SHARE)
@setting(DmpSettings, "gamma", SHARE)
@setting(
    DmpSettings,
    "enhanced",
    click.Choice(["memory", "query"]),
    "Whose labels the forward prediction mixes with their regions' mean.",
)
@setting(
    DmpSettings,
    "backward",
    click.Choice(["column", "plain"]),
    "What the backward prediction's softmax is over: the target's cells, or the memory's.",
)
def dmp(request: Request, videos: VideoChoice, plain: float | None, **method: Any) -> None:
    """Train DMP: gated memory, three fused predictions; to OUT/weights.safetensors.

    Stop it with Ctrl-C and go on with --resume: the curve is the same.
    """
    if plain is None:
        plain = 0.0 if request.start else DmpSettings.plain
    settings = DmpSettings(plain=plain, **method)
    train_on_videos(request, lambda profile: DmpObjective(profile, settings), videos)


command.add_command(srnet)
command.add_command(prompts)
command.add_command(self_labels)
