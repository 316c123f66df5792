"""What every training run is told, whatever the method."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from vcedge.models.encoder import PROFILES
from vcedge.models.prompts import PROMPT_PROFILES, STRIDE
from vcedge.models.srnet import SRNET_PROFILES
from vcedge_runtime.errors import TrainingError

STRIDES = {
    **{name: profile.stride for name, profile in PROFILES.items()},
    **{name: profile.stride for name, profile in SRNET_PROFILES.items()},
    **dict.fromkeys(PROMPT_PROFILES, STRIDE),
}
"""Pixels per key cell of each profile."""


@dataclass(frozen=True)
class RunSettings:
    """One training run, whatever the method.

    Attributes:
        profile: ``edge`` or ``paper``, one of ``SRNET_PROFILES`` or of ``PROMPT_PROFILES``.
        steps: optimiser steps.
        batch: clips a step, of all processes together.
        sizes: crop sizes in pixels, one after the other, as (share of the run at its end, size).
        learning_rate: Adam's, after a warm-up of 2 % of the steps.
        falls_from: share of the run from which on the rate falls linearly, to 2 % at its end.
        halved: shares of the run at which the rate is halved instead; none of them by default.
        average: how much of the moving average of the weights stays at each step.
        seed: of weights and clips.
        workers: loader processes.
    """

    profile: str = "edge"
    steps: int = 8000
    batch: int = 16
    sizes: tuple[tuple[float, int], ...] = ((0.5, 128), (1.0, 192))
    learning_rate: float = 1e-3
    seed: int = 0
    workers: int = 1
    falls_from: float = 0.0
    average: float = 0.995
    halved: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.profile not in STRIDES:
            raise TrainingError(
                f"profile {self.profile!r} is unknown; choose from {sorted(STRIDES)}"
            )
        if self.steps < 1 or self.batch < 1:
            raise TrainingError(
                f"steps and batch must be at least 1, received {self.steps}, {self.batch}"
            )
        shares = [share for share, _ in self.sizes]
        if not shares or shares[-1] != 1.0 or any(a >= b for a, b in pairwise(shares)):
            raise TrainingError(
                f"sizes must have rising shares that end at 1.0, received {self.sizes}"
            )
        if self.learning_rate <= 0 or self.workers < 0:
            raise TrainingError(
                "expected a learning rate above 0 and no negative workers, received "
                f"{self.learning_rate}, {self.workers}"
            )
        if not 0 <= self.falls_from < 1 or not 0 <= self.average < 1:
            raise TrainingError(
                "expected a rate that falls from a share below 1 on, and an average that keeps a "
                f"share below 1, received {self.falls_from}, {self.average}"
            )
        if not all(0 < share < 1 for share in self.halved):
            raise TrainingError(
                "expected shares between 0 and 1 at which the rate is halved, received "
                f"{self.halved}"
            )
        stride = STRIDES[self.profile]
        if any(size < stride or size % stride for _, size in self.sizes):
            raise TrainingError(f"crop sizes must be multiples of {stride}, received {self.sizes}")

    def size_at(self, step: int) -> int:
        """Crop size of a step."""
        return next(size for share, size in self.sizes if step < share * self.steps)

    def learning_rate_share(self, step: int) -> float:
        """Factor on the learning rate at a step."""
        warm_up = max(1, self.steps // 50)
        begun = min(1.0, (step + 1) / warm_up)
        if self.halved:
            return begun * 0.5 ** sum(step >= share * self.steps for share in self.halved)
        fallen = max(0.0, step / self.steps - self.falls_from) / (1 - self.falls_from)
        return begun * (1 - 0.98 * fallen)


def default_sizes(profile: str) -> tuple[tuple[float, int], ...]:
    """Crop sizes of as many key cells as the default ones have in the profile ``edge``."""
    stride, cell = STRIDES[profile], STRIDES["edge"]
    return tuple((share, size * stride // cell) for share, size in RunSettings.sizes)
