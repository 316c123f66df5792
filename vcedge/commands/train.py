"""``vcedge train``: encoders from unlabelled video, SRNet from masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from vcedge.commands.progress import progress_bar
from vcedge.commands.train_options import MAX_FRAMES, VIDEOS, Request, takes_request
from vcedge.commands.train_prompts import prompts
from vcedge.commands.train_running import train_network
from vcedge.commands.train_srnet import srnet
from vcedge.models.encoder import PROFILES
from vcedge.models.value_extraction import READINGS
from vcedge.training.base import BaseObjective, BaseSettings
from vcedge.training.corpus import (
    FLOW_GAPS,
    VIDEO_SUFFIXES,
    CachedVideo,
    VideoCorpus,
    find_videos,
    load_video,
)
from vcedge.training.dmp import DmpObjective, DmpSettings
from vcedge.training.mer import MerObjective, MerSettings
from vcedge.training.objective import ColourObjective
from vcedge_runtime.errors import TrainingError
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
@VIDEOS
@MAX_FRAMES
@COMPACT
def base(request: Request, folders: tuple[Path, ...], max_frames: int, compact: float) -> None:
    """Train the base encoder by colourisation and write its weights to OUT/weights.safetensors.

    Stop it with Ctrl-C and go on with --resume: the curve is the same.
    """
    settings = BaseSettings(compact=compact)
    _run_on_videos(request, lambda profile: BaseObjective(profile, settings), folders, max_frames)


@command.command()
@takes_request(sorted(PROFILES))
@VIDEOS
@MAX_FRAMES
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
    request: Request,
    folders: tuple[Path, ...],
    max_frames: int,
    values: bool,
    weight_map: bool,
    **method: Any,
) -> None:
    """Train MER: motion enhancement, value extraction, fused loss; to OUT/weights.safetensors.

    Stop it with Ctrl-C and go on with --resume: the curve is the same.
    """
    settings = MerSettings(value_extraction=values, weight_map=weight_map and values, **method)
    _run_on_videos(request, lambda profile: MerObjective(profile, settings), folders, max_frames)


@command.command()
@takes_request(sorted(PROFILES))
@VIDEOS
@MAX_FRAMES
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
def dmp(
    request: Request,
    folders: tuple[Path, ...],
    max_frames: int,
    plain: float | None,
    beta: float,
    gamma: float,
    enhanced: str,
) -> None:
    """Train DMP: gated memory, three fused predictions; to OUT/weights.safetensors.

    Stop it with Ctrl-C and go on with --resume: the curve is the same.
    """
    if plain is None:
        plain = 0.0 if request.start else DmpSettings.plain
    settings = DmpSettings(plain=plain, beta=beta, gamma=gamma, enhanced=enhanced)
    _run_on_videos(request, lambda profile: DmpObjective(profile, settings), folders, max_frames)


command.add_command(srnet)
command.add_command(prompts)


def _run_on_videos(
    request: Request,
    make_objective: Callable[[str], ColourObjective],
    folders: tuple[Path, ...],
    max_frames: int,
) -> None:
    def open_corpus(
        console: Console, objective: ColourObjective
    ) -> tuple[VideoCorpus, dict[str, Any]]:
        videos = _load_videos(console, folders, request.cache, max_frames)
        facts = {
            "clip_frames": objective.clip_settings.frames,
            "videos": len(videos),
            "frames": sum(len(video.frames) for video in videos),
        }
        return VideoCorpus(videos, objective.clip_settings), facts

    train_network(request, make_objective, open_corpus)


def _load_videos(
    console: Console, folders: tuple[Path, ...], cache: Path, max_frames: int
) -> list[CachedVideo]:
    found = find_videos(folders)
    if not found:
        raise TrainingError(
            f"received {', '.join(map(str, folders))} without a video; expected files of "
            f"{' '.join(sorted(VIDEO_SUFFIXES))}; pass another --videos"
        )
    loaded = []
    with progress_bar(console, "videos/s") as progress:
        task = progress.add_task("decode", total=len(found), speed=0.0)
        for path in found:
            loaded.append(load_video(path, cache, 256, max_frames))
            progress.update(task, advance=1, speed=progress.tasks[0].speed or 0.0)
    videos = [video for video in loaded if video is not None]
    console.print(
        f"{len(videos)} of {len(found)} videos hold at least two frames, "
        f"{sum(len(v.frames) for v in videos)} frames in all"
    )
    return videos
