"""What SRNet trains on, stage by stage: stills that move, then videos with masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset

from vcedge.training.object_clip_settings import ObjectClipSettings, VideoClipSettings
from vcedge.training.object_clips import MixedClips, ObjectClip, StillClips, VideoClips
from vcedge.training.object_sources import MaskedVideo, Still
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
        pairs: share of the steps whose clips have two objects.
        mixed: share of stills among the clips of the stage ``video``.
        frozen: whether the statistics of batch normalisation stay as they are.
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

    def __post_init__(self) -> None:
        start, end = self.bootstrap
        if self.stage not in STAGES or self.local not in LOCALS:
            raise TrainingError(
                f"received stage {self.stage!r} and local memory {self.local!r}; expected one of "
                f"{STAGES} and one of {LOCALS}"
            )
        # Written so that a NaN is refused.
        fits = self.dice >= 0 and all(0 <= share <= 1 for share in (self.pairs, self.mixed))
        if not fits or self.near < 1:
            raise TrainingError(
                "expected shares from 0 to 1, no negative Dice weight and a distance of at least "
                f"1; received {self}"
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
        self, settings: SRNetSettings, stills: Sequence[Still], videos: Sequence[MaskedVideo]
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
        length, seed = settings.steps * settings.batch, settings.seed

        def size_at(index: int) -> int:
            return settings.size_at(index // settings.batch)

        def objects_at(index: int) -> int:
            drawn = np.random.default_rng((seed, index // settings.batch, 2)).random()
            return 2 if drawn < self._settings.pairs else 1

        stills = StillClips(self._stills, length, size_at, objects_at, ObjectClipSettings(), seed)
        if self._settings.stage == "stills":
            return stills
        videos = VideoClips(
            self._videos,
            length,
            size_at,
            objects_at,
            _gaps(length),
            VideoClipSettings(near=self._settings.near),
            seed,
        )
        return MixedClips(videos, stills, self._settings.mixed, seed)


def _gaps(length: int) -> Callable[[int], int]:
    def gap_at(index: int) -> int:
        return next(gap for share, gap in GAPS if index < share * length)

    return gap_at
