"""Small made videos, and runs of a few steps on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from vcedge.training.base import BaseObjective, BaseSettings
from vcedge.training.corpus import CachedVideo, VideoCorpus
from vcedge.training.dmp import DmpObjective, DmpSettings
from vcedge.training.mer import MerObjective, MerSettings
from vcedge.training.objective import ColourObjective
from vcedge.training.run import TrainingRun
from vcedge.training.settings import RunSettings

SMALL = RunSettings(steps=6, batch=2, sizes=((0.5, 32), (1.0, 48)), seed=1, workers=0)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Sum in one order, and leave the other tests all threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def small() -> RunSettings:
    return SMALL


@pytest.fixture(name="moving_videos", scope="session")
def moving_videos_fixture() -> list[CachedVideo]:
    """Two videos of blobs of four colours that move to the right."""
    colours = np.array([[200, 40, 40], [30, 160, 30], [60, 220, 240], [230, 120, 230]], np.uint8)
    videos = []
    for seed in (3, 4):
        noise = np.random.default_rng(seed).integers(0, 256, (64, 160), np.uint8)
        smooth = cv2.GaussianBlur(noise, (0, 0), 5)
        picture = colours[np.digitize(smooth, np.quantile(smooth, [0.25, 0.5, 0.75]))]
        frames = np.stack([picture[:, 64 - 3 * step : 144 - 3 * step] for step in range(16)])
        videos.append(CachedVideo(Path(f"made-{seed}"), frames, 3.0))
    return videos


@pytest.fixture(scope="session")
def make_objective() -> Callable[..., ColourObjective]:
    """Make a method with small settings and always the same weights."""

    def make(method: str, profile: str = "edge", **own: Any) -> ColourObjective:
        torch.manual_seed(SMALL.seed)
        if method == "mer":
            tiny = MerSettings(radius=3, cells=8, negatives=4, bank=5)
            return MerObjective(profile, replace(tiny, **own))
        if method == "dmp":
            return DmpObjective(profile, replace(DmpSettings(radius=3, plain=0.4), **own))
        return BaseObjective(profile, replace(BaseSettings(radius=3), **own))

    return make


@pytest.fixture(scope="session")
def make_run(
    make_objective: Callable[..., ColourObjective], moving_videos: list[CachedVideo]
) -> Callable[..., TrainingRun]:
    """Make a run of six steps, of the given method and with changed settings of the run."""

    def make(out: Path, method: str = "base", own: Any = None, **changed: Any) -> TrainingRun:
        settings = replace(SMALL, **changed)
        objective = make_objective(method, settings.profile, **(own or {}))
        corpus = VideoCorpus(moving_videos, objective.clip_settings)
        return TrainingRun(settings, objective, corpus, out, "cpu")

    return make
