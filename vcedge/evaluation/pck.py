"""PCK, the percentage of correct keypoints: how many points lie near enough to where they belong.

Distances are counted in units of a normaliser that the data set defines, pooled per joint over all
frames and videos, and the rates are then averaged over the joints (the standard PCK).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import EvaluationError


@dataclass(frozen=True, eq=False)
class PckScore:
    """The rates of a set of points.

    Attributes:
        joints: name of each joint.
        thresholds: distances up to which a point is correct, in units of the normaliser.
        correct: (J, thresholds) int64, correct points of each joint.
        counted: (J,) int64, points of each joint that were counted.
    """

    joints: tuple[str, ...]
    thresholds: tuple[float, ...]
    correct: NDArray[np.int64]
    counted: NDArray[np.int64]

    @property
    def points(self) -> int:
        """How many points were counted."""
        return int(self.counted.sum())

    @property
    def rates(self) -> NDArray[np.float64]:
        """Share of correct points: (J, thresholds) float64, 0 to 1; NaN for a joint without any."""
        counted = np.where(self.counted > 0, self.counted, np.nan)
        return np.asarray(self.correct / counted[:, None], np.float64)

    @property
    def mean(self) -> NDArray[np.float64]:
        """PCK: the mean of the rates over the joints that were counted; (thresholds,) float64."""
        seen = self.rates[self.counted > 0]
        return np.asarray(seen.mean(axis=0) if len(seen) else np.full(len(self.thresholds), np.nan))

    @property
    def pooled(self) -> NDArray[np.float64]:
        """Share of correct points over all joints at once; (thresholds,) float64."""
        total = self.points or np.nan
        return np.asarray(self.correct.sum(axis=0) / total, np.float64)


class PckPool:
    """Collects points of several videos.

    Args:
        joints: name of each joint, J in number.
        thresholds: distances up to which a point is correct, in units of the normaliser.
    """

    def __init__(self, joints: Sequence[str], thresholds: Sequence[float]) -> None:
        self._joints, self._thresholds = tuple(joints), tuple(thresholds)
        self._correct = np.zeros((len(self._joints), len(self._thresholds)), np.int64)
        self._counted = np.zeros(len(self._joints), np.int64)

    def add(self, distances: NDArray[np.float64], counts: NDArray[np.bool_]) -> None:
        """Add frames of a video.

        Args:
            distances: (T, J) float64 in units of the normaliser, at least 0; infinite for a point
                that was not found.
            counts: (T, J) bool, which of them count.

        Raises:
            EvaluationError: the shapes do not fit.
        """
        expected = (len(distances), len(self._joints))
        if distances.shape != expected or counts.shape != expected:
            raise EvaluationError(
                f"received distances of shape {distances.shape} and counts of {counts.shape};"
                f" expected (T, {len(self._joints)}) twice, a column per joint"
            )
        near = distances[..., None] <= np.array(self._thresholds)
        self._correct += (near & counts[..., None]).sum(axis=0)
        self._counted += counts.sum(axis=0)

    def score(self) -> PckScore:
        """Sum up what was added."""
        return PckScore(self._joints, self._thresholds, self._correct.copy(), self._counted.copy())


def normalised_distances(
    predicted: NDArray[np.float64], truth: NDArray[np.float64], normaliser: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Measure how far points lie from where they belong.

    Args:
        predicted: (T, J, 2) float64 x, y; NaN for a point that was not found.
        truth: (T, J, 2) float64 x, y.
        normaliser: (T,) float64 in the same units.

    Returns:
        (T, J) float64; infinite where a point was not found or the normaliser is 0.
    """
    distances = np.linalg.norm(predicted - truth, axis=-1)
    scale = np.where(normaliser > 0, normaliser, np.nan)[:, None]
    return np.asarray(np.nan_to_num(distances / scale, nan=np.inf), np.float64)
