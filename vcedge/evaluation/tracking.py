"""What the protocols need of a tracker, of masks or of points."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.propagation.points import PointEstimate


class MaskResult(Protocol):
    """What a step gives."""

    @property
    def mask(self) -> NDArray[np.uint8]:
        """(H, W) uint8 object ids in the frame's pixels, 0 the background; the caller's own."""


class MaskTracker(Protocol):
    """A tracker that follows masks, such as ``Tracker``."""

    def start(self, frame: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
        """Begin a video with the mask of its first frame."""

    def step(self, frame: NDArray[np.uint8]) -> MaskResult:
        """Follow the objects into the next frame."""

    def add_object(self, object_id: int, mask: NDArray[np.uint8]) -> None:
        """Follow one more object from the last frame on."""


class PointResult(Protocol):
    """What a step gives."""

    @property
    def points(self) -> Mapping[str, PointEstimate]:
        """The points in the frame's pixels."""


class PointTracker(Protocol):
    """A tracker that follows named points, such as ``Tracker``."""

    def start_points(
        self, frame: NDArray[np.uint8], points: Mapping[str, tuple[float, float]]
    ) -> None:
        """Begin a video with points of its first frame."""

    def step(self, frame: NDArray[np.uint8]) -> PointResult:
        """Follow the points into the next frame."""


def follow_points(
    tracker: PointTracker,
    frames: Iterable[NDArray[np.uint8]],
    points: Mapping[str, tuple[float, float]],
) -> NDArray[np.float64]:
    """Follow points through a video.

    Args:
        tracker: an open tracker.
        frames: (H, W, 3) uint8, BGR; at least one.
        points: x, y by name, in the first frame's pixels.

    Returns:
        (T, N, 2) float64 x, y in the order of ``points``; the given ones in the first frame, NaN
        where nothing of a point is left.
    """
    positions = [np.array(list(points.values()), np.float64)]
    stream = iter(frames)
    tracker.start_points(next(stream), points)
    for frame in stream:
        found = tracker.step(frame).points
        positions.append(np.array([(found[name].x, found[name].y) for name in points], np.float64))
    return np.stack(positions)


def follow_masks(
    tracker: MaskTracker, frames: Sequence[NDArray[np.uint8]], first: NDArray[np.uint8]
) -> Iterator[NDArray[np.uint8]]:
    """Track a clip from its first mask; yields a mask a frame, the given one first."""
    tracker.start(frames[0], first)
    yield first
    for frame in frames[1:]:
        yield tracker.step(frame).mask
