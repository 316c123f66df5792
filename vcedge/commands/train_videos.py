"""What the methods that learn from unlabelled video share: which video, and how clips are drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from vcedge.commands.progress import progress_bar
from vcedge.commands.train_masked import read_names
from vcedge.commands.train_options import MAX_FRAMES, NAMES, VIDEOS, Request, setting
from vcedge.commands.train_recipe import EPOCHS, HALVE_AT, RECIPE, WHOLE_FRAMES
from vcedge.commands.train_running import train_network
from vcedge.training.base import BaseSettings
from vcedge.training.corpus import (
    CachedVideo,
    VideoCorpus,
    find_videos,
    load_folder,
    load_video,
)
from vcedge.training.frame_folders import IMAGES, find_frame_folders, keep_named
from vcedge.training.objective import ColourObjective
from vcedge_runtime.errors import TrainingError
from vcedge_runtime.video.sources import VIDEO_SUFFIXES

SHORT_SIDE = 256
"""Pixels to which videos are shrunk."""
RADIUS = setting(
    BaseSettings,
    "radius",
    click.IntRange(1, 64),
    "Window radius of the reconstruction, in key cells.",
)


@dataclass(frozen=True)
class VideoChoice:
    """Which video a run learns from.

    Attributes:
        folders: searched to the bottom.
        names: file with the names of those that are taken; all where None.
        max_frames: frames kept of one video.
        whole: whether clips are whole frames; see ``ClipSettings``.
    """

    folders: tuple[Path, ...]
    names: Path | None
    max_frames: int
    whole: bool


def takes_videos(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of unlabelled video, gathered in a ``VideoChoice``."""

    @wraps(function)
    def gathered(
        request: Request,
        folders: tuple[Path, ...],
        names: Path | None,
        max_frames: int,
        whole_frames: bool,
        **own: Any,
    ) -> None:
        function(request, VideoChoice(folders, names, max_frames, whole_frames), **own)

    decorated: Any = gathered
    for option in (RADIUS, WHOLE_FRAMES, HALVE_AT, EPOCHS, RECIPE, MAX_FRAMES, NAMES, VIDEOS):
        decorated = option(decorated)
    result: Callable[..., None] = decorated
    return result


def train_on_videos(
    request: Request, make_objective: Callable[[str], ColourObjective], choice: VideoChoice
) -> None:
    """Train a self-supervised method on unlabelled video."""

    def make(profile: str) -> ColourObjective:
        objective = make_objective(profile)
        objective.clip_settings = replace(objective.clip_settings, whole=choice.whole)
        return objective

    def open_corpus(
        console: Console, objective: ColourObjective
    ) -> tuple[VideoCorpus, dict[str, Any]]:
        videos = load_videos(console, choice, request.cache, request.run.workers)
        facts = {
            "clip_frames": objective.clip_settings.frames,
            "videos": len(videos),
            "frames": sum(len(video.frames) for video in videos),
        }
        return VideoCorpus(videos, objective.clip_settings), facts

    train_network(request, make, open_corpus)


def load_videos(
    console: Console, choice: VideoChoice, cache: Path, workers: int
) -> list[CachedVideo]:
    """Open the video files and the folders of frames; several threads decode what no cache holds.

    Raises:
        TrainingError: there is none, or one of the list is not there.
    """
    found: list[Path] = [*find_videos(choice.folders), *find_frame_folders(choice.folders)]
    if not found:
        raise TrainingError(
            f"received {', '.join(map(str, choice.folders))} without a video; expected files of "
            f"{' '.join(sorted(VIDEO_SUFFIXES))}, or folders of pictures below {IMAGES}; pass "
            "another --videos"
        )
    found = keep_named(found, None if choice.names is None else read_names(choice.names))

    def load(path: Path) -> CachedVideo | None:
        open_one = load_folder if path.is_dir() else load_video
        return open_one(path, cache, SHORT_SIDE, choice.max_frames)

    loaded = []
    with (
        progress_bar(console, "videos/s") as progress,
        ThreadPoolExecutor(max(1, workers)) as threads,
    ):
        task = progress.add_task("decode", total=len(found), speed=0.0)
        for video in threads.map(load, found):
            loaded.append(video)
            progress.update(task, advance=1, speed=progress.tasks[0].speed or 0.0)
    videos = [video for video in loaded if video is not None]
    console.print(
        f"{len(videos)} of {len(found)} videos hold at least two frames, "
        f"{_count(videos)} frames in all"
    )
    return videos


def _count(videos: Sequence[CachedVideo]) -> int:
    return sum(len(video.frames) for video in videos)
