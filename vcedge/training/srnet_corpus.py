"""What SRNet trains on, stage by stage: stills that move, then videos with masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Dataset

from vcedge.models.prototypes import STRIDE
from vcedge.models.srnet import SRNET_PROFILES
from vcedge.training.camera import CameraRange
from vcedge.training.object_clip_settings import ObjectClipSettings, VideoClipSettings
from vcedge.training.object_clips import ClipPlan, MixedClips, ObjectClip, StillClips, VideoClips
from vcedge.training.object_sources import AnyStill, MaskedVideo
from vcedge.training.settings import RunSettings
from vcedge_runtime.errors import TrainingError
from vcedge_runtime.model.object_composition import LOCALS

STAGES = ("stills", "video")
"""What a run is trained on; ``video`` mixes stills in."""
GAPS = ((0.1, 5), (0.2, 10), (0.3, 15), (0.4, 20), (0.9, 25), (1.0, 5))
"""Largest step between frames of a clip, as (share of the run at its end, frames) (STCN)."""


@dataclass(frozen=True)
class SRNetSettings:
    """Free choices of SRNet's training.

    Attributes:
        stage: one of ``STAGES``.
        local: what becomes of the local memory, one of ``LOCALS``.
        near: most steps between the last two frames in half of the video clips: the local memory's
            distance.
        prototypes: whether the prototype transformer is there.
        dice: weight of the Dice loss; 0 leaves it out.
        hardest: share of the pixels that the cross-entropy of the end looks at (STCN).
        bootstrap: shares of the run from which, and at which, ``hardest`` is reached (STCN has
            20k and 70k of 300k steps).
        pairs: share of the steps whose clips have two objects or more.
        most: objects of a clip at most.
        mixed: share of stills among the clips of the stage ``video``.
        frozen: whether the statistics of batch normalisation stay as they are.
        lengths: frames of a clip, one after the other, as (share of the run at its end, fewest,
            most), drawn for each step.
        shrink: smallest crop of a step, as a share of the run's crop size, drawn for each step.
        pixels: crops of a step are so small that a clip has at most as many; 0 bounds nothing.
        skipped: share of the frames between the first and the last that global memory lacks.
        absence: weight of the loss of objects that are away (our choice).
        trunk_rate: learning rate of the query encoder's trunk, as a share of the run's.
        zoomed: see ``ObjectClipSettings``, likewise the next ones.
        absent: share of the clips whose objects leave.
        covered: share of the clips whose first object is covered.
        twins: share of pasted objects that look like the clip's own; of those without an id too,
            where it is not 0.
        kin: share of pasted objects that are of its own's kind.
        camera: share of the clips that each fault of a camera befalls.
    """

    stage: str = "stills"
    local: str = "fam"
    near: int = 5
    prototypes: bool = True
    dice: float = 0.5
    hardest: float = 0.15
    bootstrap: tuple[float, float] = (0.07, 0.23)
    pairs: float = 0.3
    mixed: float = 0.25
    frozen: bool = False
    most: int = 2
    lengths: tuple[tuple[float, int, int], ...] = ((1.0, 3, 3),)
    shrink: float = 1.0
    pixels: int = 0
    skipped: float = 0.0
    absence: float = 0.0
    trunk_rate: float = 1.0
    zoomed: float = 0.0
    absent: float = 0.0
    covered: float = 0.0
    twins: float = 0.0
    kin: float = 0.0
    camera: float = 0.0

    def __post_init__(self) -> None:
        start, end = self.bootstrap
        if self.stage not in STAGES or self.local not in LOCALS:
            raise TrainingError(
                f"received stage {self.stage!r} and local memory {self.local!r}; expected one of "
                f"{STAGES} and one of {LOCALS}"
            )
        # Written so that a NaN is refused.
        drawn = (self.zoomed, self.absent, self.covered, self.twins, self.kin, self.camera)
        shares = (self.pairs, self.mixed, self.skipped, *drawn)
        fits = min(self.dice, self.absence) >= 0 and all(0 <= share <= 1 for share in shares)
        if not fits or min(self.near, self.most) < 1:
            raise TrainingError(
                "expected shares from 0 to 1, no negative weight of a loss, and a distance and a "
                f"number of objects of at least 1; received {self}"
            )
        ends = [end for end, _, _ in self.lengths]
        rising = ends == sorted(set(ends)) and ends[-1:] == [1.0]
        if not rising or any(not 2 <= low <= high for _, low, high in self.lengths):
            raise TrainingError(
                "expected clips of at least two frames, by rising shares of the run that end at "
                f"1.0; received {self.lengths}"
            )
        if not 0 < self.shrink <= 1 or self.pixels < 0 or not 0 <= self.trunk_rate <= 1:
            raise TrainingError(
                "expected a smallest crop and a trunk's rate that are shares of the largest, and "
                f"no negative number of pixels; received {self}"
            )
        if not 0 < self.hardest <= 1 or not 0 <= start < end:
            raise TrainingError(
                "expected a share of pixels above 0 up to 1, and bootstrapping that ends after it "
                f"begins; received {self}"
            )

    def share_of_pixels(self, share: float) -> float:
        """Share of the pixels that count at a share of the run."""
        start, end = self.bootstrap
        done = min(1.0, max(0.0, (share - start) / (end - start)))
        return 1 - (1 - self.hardest) * done

    def plan_step(self, run: RunSettings, step: int) -> StepPlan:
        """What the clips of a step are like: a function of the seed and the step alone."""
        rng = np.random.default_rng((run.seed, step, 2))
        objects = 1
        if rng.random() < self.pairs:
            objects = int(rng.integers(2, self.most + 1)) if self.most > 1 else 1
        fewest, most = next(
            (low, high) for share, low, high in self.lengths if step < share * run.steps
        )
        frames = int(rng.integers(fewest, most + 1))
        size = run.size_at(step) * self.shrink ** float(rng.random())
        if self.pixels:
            size = min(size, math.sqrt(self.pixels / frames))
        return StepPlan(max(STRIDE, round(size / STRIDE) * STRIDE), objects, frames)


class StepPlan(NamedTuple):
    """What the clips of one step are like.

    Attributes:
        size: side of the crops.
        objects: K.
        frames: T.
    """

    size: int
    objects: int
    frames: int


class SRNetCorpus:
    """Stills and videos as a run draws from them.

    Args:
        settings: of the method.
        stills: pictures with objects.
        videos: videos with masks; needed by the stage ``video`` alone.

    Raises:
        TrainingError: there is nothing to train on.
    """

    def __init__(
        self, settings: SRNetSettings, stills: Sequence[AnyStill], videos: Sequence[MaskedVideo]
    ) -> None:
        self._settings = settings
        self._stills = stills
        self._videos = videos
        needs_stills = settings.stage == "stills" or settings.mixed > 0
        if (needs_stills and not stills) or (settings.stage == "video" and not videos):
            raise TrainingError(
                f"received {len(stills)} stills and {len(videos)} videos with masks for the stage "
                f"{settings.stage!r}; expected some of what it draws from; pass --stills, and "
                "--masked for the stage video"
            )

    def draw(self, settings: RunSettings) -> Dataset[ObjectClip]:
        """All clips of a run; those of one step have as many objects."""
        length, seed, own = settings.steps * settings.batch, settings.seed, self._settings

        def plan_of(index: int) -> StepPlan:
            return own.plan_step(settings, index // settings.batch)

        plan = ClipPlan(
            lambda index: plan_of(index).size,
            lambda index: plan_of(index).objects,
            lambda index: plan_of(index).frames,
            SRNET_PROFILES[settings.profile].colour,
        )
        varied: dict[str, Any] = {
            "zoomed": own.zoomed,
            "absent": own.absent,
            "covered": own.covered,
            "twins": own.twins,
            "kin": own.kin,
            "camera": CameraRange(share=own.camera),
        }
        if own.twins:
            varied["copied"] = own.twins
        stills = StillClips(self._stills, length, plan, ObjectClipSettings(**varied), seed)
        if own.stage == "stills":
            return stills
        ranges = VideoClipSettings(near=own.near, **varied)
        videos = VideoClips(self._videos, length, plan, _gaps(length), ranges, seed)
        return MixedClips(videos, stills, own.mixed, seed)


def _gaps(length: int) -> Callable[[int], int]:
    def gap_at(index: int) -> int:
        return next(gap for share, gap in GAPS if index < share * length)

    return gap_at
