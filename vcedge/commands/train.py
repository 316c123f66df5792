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
from vcedge.commands.train_self_labels import self_labels
from vcedge.commands.train_srnet import srnet
from vcedge.models.encoder import PROFILES
from vcedge.training.base import BaseObjective
from vcedge.training.corpus import (
    CachedVideo,
    VideoCorpus,
    find_videos,
    load_video,
)
from vcedge.training.dmp import DmpObjective, DmpSettings
from vcedge.training.mer import MerObjective, MerSettings
from vcedge.training.objective import ColourObjective
from vcedge_runtime.errors import TrainingError
from vcedge_runtime.video.sources import VIDEO_SUFFIXES


@click.group(name="train")
def command() -> None:
    """Train on unlabelled video (base, mer, dmp) or on masks (srnet, prompts).

    Several processes train together when started by torchrun.
    """


@command.command()
@takes_request(sorted(PROFILES))
@VIDEOS
@MAX_FRAMES
def base(request: Request, folders: tuple[Path, ...], max_frames: int) -> None:
    """Train the base encoder by colourisation and write its weights to OUT/weights.safetensors.

    Stop it with Ctrl-C and go on with --resume: the curve is the same.
    """
    _run_on_videos(request, BaseObjective, folders, max_frames)


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
def mer(
    request: Request,
    folders: tuple[Path, ...],
    max_frames: int,
    motion: bool,
    values: bool,
    weight_map: bool,
    contrast: float,
) -> None:
    """Train MER: motion enhancement, value extraction, fused loss; to OUT/weights.safetensors.

    Stop it with Ctrl-C and go on with --resume: the curve is the same.
    """
    settings = MerSettings(
        motion=motion,
        value_extraction=values,
        weight_map=weight_map and values,
        contrast=contrast,
    )
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
def dmp(
    request: Request,
    folders: tuple[Path, ...],
    max_frames: int,
    plain: float | None,
    beta: float,
    gamma: float,
) -> None:
    """Train DMP: gated memory, three fused predictions; to OUT/weights.safetensors.

    Stop it with Ctrl-C and go on with --resume: the curve is the same.
    """
    if plain is None:
        plain = 0.0 if request.start else DmpSettings.plain
    settings = DmpSettings(plain=plain, beta=beta, gamma=gamma)
    _run_on_videos(request, lambda profile: DmpObjective(profile, settings), folders, max_frames)


command.add_command(srnet)
command.add_command(prompts)
command.add_command(self_labels)


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
