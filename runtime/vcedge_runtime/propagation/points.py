"""Named points as soft labels, and back: a Gaussian per point, decoded below a cell's size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from reprlib import repr as brief

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import TrackerError

SIGMA = 0.75
"""Standard deviation of a point's Gaussian in key cells (our choice, measured: CRW's 0.5 fades)."""
SUPPORT = 3.0
"""Standard deviations beyond which the Gaussian is 0 (CRW)."""
TOP = 5
"""Cells of which a position is the weighted mean (UVC, VFS)."""
REACH = 2
"""Cells from the strongest one within which the others lie (our choice: no far rival counts)."""
WEAK = 0.02
"""A point whose strongest cell is below this is not visible (our choice, measured)."""


@dataclass(frozen=True)
class PointEstimate:
    """Where a point is in a frame.

    Attributes:
        x: in the frame's pixels, whole numbers being pixel centres; NaN where nothing is left.
        y: the same.
        visible: whether the point is seen.
        score: soft label of its strongest key cell, 0 to 1.
    """

    x: float
    y: float
    visible: bool
    score: float


def check_points(
    points: Mapping[str, tuple[float, float]], most: int, frame_hw: tuple[int, int]
) -> dict[str, tuple[float, float]]:
    """Check points that were handed over, and give them as plain floats.

    Args:
        points: x and y of each, by name.
        most: how many there may be.
        frame_hw: height and width of the frame that they lie in.

    Raises:
        TrackerError: there is none, or too many, or one that is nowhere or none.
    """
    try:
        found = {name: (float(x), float(y)) for name, (x, y) in points.items()}
    except (AttributeError, TypeError, ValueError, OverflowError):
        found = {}
    named = all(isinstance(name, str) for name in found)
    places = [value for place in found.values() for value in place]
    if not (1 <= len(found) <= most and named and all(map(isfinite, places))):
        received = f"{len(points)} points" if isinstance(points, Mapping) else brief(points)
        raise TrackerError(
            f"received {received}; expected 1 to {most} points by name, each with a finite x and y "
            "in the frame's pixels"
        )
    outside = [name for name, place in found.items() if not lies_within(place, frame_hw)]
    if outside:
        x, y = found[outside[0]]
        raise TrackerError(
            f"received point {outside[0]} at {x:g}, {y:g}; expected x from 0 to {frame_hw[1] - 1} "
            f"and y from 0 to {frame_hw[0] - 1}, inside the frame"
        )
    return found


def lies_within(place: tuple[float, float], frame_hw: tuple[int, int]) -> bool:
    """Whether x and y, whole numbers being pixel centres, lie in a frame."""
    x, y = place
    return -0.5 <= x <= frame_hw[1] - 0.5 and -0.5 <= y <= frame_hw[0] - 0.5


def bring_place(
    place: tuple[float, float], from_hw: tuple[int, int], to_hw: tuple[int, int]
) -> tuple[float, float]:
    """An x and y of a frame in pixels of the same frame in another size, or in cells of its grid.

    Whole numbers are centres on both sides.
    """
    (x, y), (height, width) = place, from_hw
    return (x + 0.5) * to_hw[1] / width - 0.5, (y + 0.5) * to_hw[0] / height - 0.5


def labels_from_points(
    points: Mapping[str, tuple[float, float]],
    frame_hw: tuple[int, int],
    grid_hw: tuple[int, int],
    sigma: float = SIGMA,
) -> NDArray[np.float32]:
    """Draw every point as a Gaussian whose value is 1 at the point itself.

    Where Gaussians overlap to more than 1, they share the cell in proportion (our choice).

    Args:
        points: x, y in the frame's pixels, whole numbers being pixel centres; one outside the frame
            leaves what of its Gaussian reaches in.
        frame_hw: height and width of the frame.
        grid_hw: height and width of the key grid.
        sigma: standard deviation in key cells.

    Returns:
        (h, w, 1 + points) float32, 0 to 1, rows sum to 1; channel 0 the background, then the points
        in their order.
    """
    labels = np.zeros((*grid_hw, 1 + len(points)), np.float32)
    for channel, place in enumerate(points.values(), start=1):
        column, row = bring_place(place, frame_hw, grid_hw)
        down, across = _gaussian(row, grid_hw[0], sigma), _gaussian(column, grid_hw[1], sigma)
        labels[..., channel] = down[:, None] * across
    total = labels.sum(axis=-1)
    labels /= np.maximum(total, 1)[..., None]
    labels[..., 0] = np.maximum(0, 1 - total)
    return labels


def points_from_labels(
    labels: NDArray[np.float32], frame_hw: tuple[int, int], top: int = TOP
) -> list[PointEstimate]:
    """Find every point: the weighted mean of the strongest cells around the strongest one.

    Args:
        labels: (h, w, 1 + points) float32 soft labels, channel 0 the background.
        frame_hw: height and width of the frame.
        top: how many cells count.

    Returns:
        An estimate for each channel but the first.
    """
    return [_find_point(labels[..., c], frame_hw, top) for c in range(1, labels.shape[-1])]


def _find_point(plane: NDArray[np.float32], frame_hw: tuple[int, int], top: int) -> PointEstimate:
    height, width = plane.shape
    row, column = divmod(int(plane.argmax()), width)
    score = min(1.0, float(plane[row, column]))
    if score <= 0:
        return PointEstimate(float("nan"), float("nan"), False, 0.0)
    first_row, first_column = max(0, row - REACH), max(0, column - REACH)
    near = plane[first_row : row + REACH + 1, first_column : column + REACH + 1]
    strongest = np.argsort(-near, axis=None, kind="stable")[:top]
    rows, columns = np.divmod(strongest, near.shape[1])
    weights = near[rows, columns].astype(np.float64)
    weights /= weights.sum()
    cell = (first_column + float(weights @ columns), first_row + float(weights @ rows))
    x, y = bring_place(cell, (height, width), frame_hw)
    return PointEstimate(x, y, score >= WEAK, score)


def _gaussian(centre: float, cells: int, sigma: float) -> NDArray[np.float64]:
    steps = (np.arange(cells) - centre) / sigma
    values: NDArray[np.float64] = np.exp(-0.5 * steps**2)
    return np.where(np.abs(steps) <= SUPPORT, values, 0)
