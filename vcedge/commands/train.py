"""``vcedge train``: encoders from unlabelled video, SRNet from masks."""

from __future__ import annotations

from typing import Any

import click

from vcedge.commands.train_options import Request, takes_request
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

COMPACT = click.option(
    "--compact",
    type=click.FloatRange(min=0),
    default=BaseSettings.compact,
    show_default=True,
    help="Weight of LIIR's compactness prior; 0 leaves it out.",
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
@click.option(
    "--contrast",
    type=click.FloatRange(min=0),
    default=MerSettings.contrast,
    show_default=True,
    help="Weight of the positive-negative loss; 0 leaves it out.",
)
@click.option(
    "--alpha",
    type=float,
    help="What the weight of flow begins with; 0.1 by default, and 0 beside weights without flow.",
)
@click.option(
    "--flow-scale",
    type=click.Choice(FLOW_SCALES),
    default=MerSettings.flow_scale,
    show_default=True,
    help="What flow is measured in: key cells, the crop's side, or its largest motion.",
)
@click.option(
    "--flow-gap",
    type=click.Choice(FLOW_GAPS),
    default=MerSettings.flow_gap,
    show_default=True,
    help="To which frame flow is: the video's one before, or as far back as the clip's neighbour.",
)
@click.option(
    "--value-map",
    type=click.Choice(READINGS),
    default=MerSettings.value_map,
    show_default=True,
    help="What Omega takes off in eq. 7: likeness to the same place in the references, to the own "
    "frame, or 1, as printed.",
)
@click.option("--omega", type=click.FloatRange(min=0), default=MerSettings.omega, show_default=True)
@click.option(
    "--dropkey",
    type=click.FloatRange(0, 1, max_open=True),
    default=MerSettings.dropkey,
    show_default=True,
    help="Share of key positions that a step hides from the value extraction.",
)
@click.option(
    "--value-frames",
    type=click.Choice(VALUE_FRAMES),
    default=MerSettings.value_frames,
    show_default=True,
    help="Whose value map refines a reference: the target's (eq. 11), or its own.",
)
@click.option(
    "--clusters",
    type=click.IntRange(0, 64),
    default=MerSettings.clusters,
    show_default=True,
    help="K of the multi-cluster sampler in training; 0 for plain windows.",
)
@click.option(
    "--reach",
    type=click.IntRange(0, 64),
    default=MerSettings.reach,
    show_default=True,
    help="Cells within which that sampler also reads what is of the same cluster.",
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
@click.option("--beta", type=click.FloatRange(0, 1), default=DmpSettings.beta, show_default=True)
@click.option("--gamma", type=click.FloatRange(0, 1), default=DmpSettings.gamma, show_default=True)
@click.option(
    "--enhanced",
    type=click.Choice(["memory", "query"]),
    default=DmpSettings.enhanced,
    show_default=True,
    help="Whose labels the forward prediction mixes with their regions' mean.",
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
