"""Where a cell looks: regions of a frame and their matches (DMP's Frame Region Clustering)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.settings import Bounds, check_settings

WEIGHT_MAX = 1e6
"""Largest weight of places: the grid itself, still well inside float32."""


@dataclass(frozen=True)
class RegionSettings:
    """The sampler's settings; all values are our choice, the paper gives none.

    Attributes:
        step: side of a seed's cell in key cells, 1 to 64.
        weight: lambda, what one step of distance costs against one of cosine, 0 to ``WEIGHT_MAX``.
        iterations: of assignment and re-estimation, 1 to 100.
        matches: regions of a reference that a region may look into, 1 to 1,000.
    """

    step: Annotated[int, Bounds(1, 64)] = 8
    weight: Annotated[float, Bounds(0, WEIGHT_MAX)] = 0.5
    iterations: Annotated[int, Bounds(1, 100)] = 5
    matches: Annotated[int, Bounds(1, 1000)] = 5

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class Regions:
    """The regions of one frame; there are as many as seeds, and some may be empty.

    Attributes:
        ids: (h, w) int32 region of each cell.
        features: (S, C) float32 mean unit key of each region, of length 1.
        positions: (S, 2) float32 mean row and column of each region.
        sizes: (S,) int32 cells of each region.
    """

    ids: NDArray[np.int32]
    features: NDArray[np.float32]
    positions: NDArray[np.float32]
    sizes: NDArray[np.int32]


def count_regions(settings: RegionSettings, grid_hw: tuple[int, int]) -> int:
    """Regions of a frame, as many as seeds: S."""
    rows, columns = (-(-length // settings.step) for length in grid_hw)
    return rows * columns


def cluster_regions(key: NDArray[np.float32], settings: RegionSettings) -> Regions:
    """Cut a frame into regions that are alike and compact (DMP; the schedule is SLIC's).

    Each cell joins the one of the nine nearest seeds with the least 1 - cos + lambda * d / step.

    Args:
        key: (h, w, C) float32.
        settings: of the sampler.
    """
    height, width, channels = key.shape
    seeds = _seed_cells((height, width), settings.step)
    points = _gather_points(key, seeds)
    count = len(points)
    sums = np.zeros((count + 1, channels + 3), np.float32)
    sums[:count] = points.sum(1)
    features, positions = _estimate(sums, np.zeros_like(sums[:, :-1]))
    for _ in range(settings.iterations):
        choice = _assign(points, seeds, features, positions, settings)
        sums = _add_up(points, seeds, choice)
        features, positions = _estimate(sums, np.hstack([features, positions]))
    chosen = np.take_along_axis(seeds.neighbours, choice, 1)
    ids = chosen.reshape(-1)[seeds.position].reshape(height, width)
    sizes = np.rint(sums[:count, -1]).astype(np.int32)
    return Regions(ids, features[:count], positions[:count], sizes)


def match_regions(
    query: Regions, reference: Regions, radius: float, settings: RegionSettings
) -> NDArray[np.bool_]:
    """Choose the regions of a reference that each region of the current frame may look into.

    The best have the largest cos - lambda * d / (2 step), among those not farther than
    radius + 2 step; empty regions are never chosen.

    Args:
        query: of the current frame.
        reference: of the reference.
        radius: window radius in cells.
        settings: of the sampler.

    Returns:
        (Sq, Sk) bool; at most ``matches`` True in a row.
    """
    offset = query.positions[:, None] - reference.positions[None]
    distance = np.sqrt(np.einsum("qkd,qkd->qk", offset, offset))
    score = query.features @ reference.features.T
    score -= distance * np.float32(settings.weight / (2 * settings.step))
    near: NDArray[np.bool_] = (distance <= radius + 2 * settings.step) & (reference.sizes > 0)
    score[~near] = -np.inf
    if settings.matches >= score.shape[1]:
        return near
    best = np.argpartition(score, -settings.matches, axis=1)[:, -settings.matches :]
    chosen = np.zeros_like(near)
    np.put_along_axis(chosen, best, True, axis=1)
    chosen &= near
    return chosen


def enhance(key: NDArray[np.float32], regions: Regions, eta: float) -> NDArray[np.float32]:
    """Draw each cell's key towards its region's mean, and keep its length (our formula).

    The length is what the readout's temperature was trained for; unit keys stay unit keys.

    Args:
        key: (h, w, C) float32.
        regions: of the same frame.
        eta: weight of the region's mean beside the unit key.

    Returns:
        (h, w, C) float32, owned by the caller.
    """
    length = _length(key)
    drawn = key / length
    drawn += np.float32(eta) * regions.features[regions.ids]
    drawn *= length / _length(drawn)
    return drawn


def enhance_labels(
    labels: NDArray[np.float32], ids: NDArray[np.int32], eta: float
) -> NDArray[np.float32]:
    """Mix each cell's labels with the mean of its region: (1 - eta) V + eta * mean (our formula).

    Args:
        labels: (h, w, L) float32; rows that sum to 1 still do.
        ids: (h, w) int32, region of each cell.
        eta: share of the region's mean, 0 to 1.

    Returns:
        (h, w, L) float32, owned by the caller.
    """
    flat = labels.reshape(-1, labels.shape[-1])
    order = np.argsort(ids, axis=None, kind="stable")
    sizes = np.bincount(ids.reshape(-1))
    present = np.flatnonzero(sizes)
    starts = (np.cumsum(sizes) - sizes)[present]
    means = np.zeros((len(sizes), flat.shape[1]), np.float32)
    means[present] = np.add.reduceat(flat[order], starts) / sizes[present, None].astype(np.int32)
    mixed = np.float32(1 - eta) * labels
    mixed += np.float32(eta) * means[ids]
    return mixed


@dataclass(frozen=True)
class _SeedCells:
    """A grid cut into S seeds' cells of up to A key cells, as evenly as it can be.

    Even cells are what makes the nearest seed of every cell its own, as lambda grows.
    """

    index: NDArray[np.int64]  # (S, A) key cell; beyond a smaller cell, any
    inside: NDArray[np.float32]  # (S, A, 1) 1, and 0 beyond
    neighbours: NDArray[np.int32]  # (S, 9) seed of each of the nine; S beyond the grid
    beyond: NDArray[np.float32]  # (S, 9, 1) 0, and infinity beyond the grid
    position: NDArray[np.int64]  # (h * w,) where each key cell stands in the flattened (S * A)


@lru_cache(maxsize=4)
def _seed_cells(grid_hw: tuple[int, int], step: int) -> _SeedCells:
    (ys, own_y), (xs, own_x) = (_split_axis(length, step) for length in grid_hw)
    total = len(ys) * len(xs)
    cells = ys[:, None, :, None] * grid_hw[1] + xs[None, :, None, :]
    own = own_y[:, None, :, None] & own_x[None, :, None, :]
    index, inside = cells.reshape(total, -1), own.reshape(total, -1)
    position = np.empty(grid_hw[0] * grid_hw[1], np.int64)
    position[index[inside]] = np.flatnonzero(inside)
    neighbours = _nine_neighbours(len(ys), len(xs))
    beyond = np.where(neighbours == total, np.float32(np.inf), np.float32(0))[..., None]
    return _SeedCells(index, inside[..., None].astype(np.float32), neighbours, beyond, position)


def _split_axis(length: int, step: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Split an axis into parts that differ by at most one cell.

    Returns:
        cells: (parts, side) int64 along the axis; own: (parts, side) bool, False where a part
        has no more cells of its own.
    """
    parts = np.arange(-(-length // step))
    owner = np.arange(length) * len(parts) // length
    side = int(np.bincount(owner).max())
    cells = np.searchsorted(owner, parts)[:, None] + np.arange(side)
    within = np.minimum(cells, length - 1)
    return within, (cells == within) & (owner[within] == parts[:, None])


def _nine_neighbours(rows: int, columns: int) -> NDArray[np.int32]:
    numbers = np.full((rows + 2, columns + 2), rows * columns, np.int32)
    numbers[1:-1, 1:-1] = np.arange(rows * columns).reshape(rows, columns)
    around = np.lib.stride_tricks.sliding_window_view(numbers, (3, 3))
    return np.ascontiguousarray(around).reshape(-1, 9)


def _gather_points(key: NDArray[np.float32], seeds: _SeedCells) -> NDArray[np.float32]:
    """Lay out unit keys, rows, columns and ones by seed: (S, A, C + 3) float32, 0 beyond."""
    height, width, channels = key.shape
    points = np.empty((height, width, channels + 3), np.float32)
    np.divide(key, _length(key), out=points[..., :channels])
    points[..., channels] = np.arange(height)[:, None]
    points[..., channels + 1] = np.arange(width)
    points[..., channels + 2] = 1
    gathered = points.reshape(-1, channels + 3)[seeds.index]
    gathered *= seeds.inside
    return gathered


def _estimate(
    sums: NDArray[np.float32], former: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Take features and positions from sums of points; an empty region keeps its former ones."""
    size = sums[:, -1:]
    means: NDArray[np.float32] = np.where(size > 0, sums[:, :-1] / np.maximum(size, 1), former)
    features = means[:, :-2]
    return features / _length(features), means[:, -2:]


def _assign(
    points: NDArray[np.float32],
    seeds: _SeedCells,
    features: NDArray[np.float32],
    positions: NDArray[np.float32],
    settings: RegionSettings,
) -> NDArray[np.int64]:
    """Choose one of nine for every point: (S, A) int64."""
    cosine = features[seeds.neighbours] @ points[..., :-3].transpose(0, 2, 1)
    around = positions[seeds.neighbours]
    distance = np.square(around[..., :1] - points[:, None, :, -3])
    distance += np.square(around[..., 1:] - points[:, None, :, -2])
    np.sqrt(distance, out=distance)
    distance *= np.float32(settings.weight / settings.step)
    distance -= cosine
    distance += seeds.beyond
    return np.asarray(np.argmin(distance, 1), np.int64)


def _add_up(
    points: NDArray[np.float32], seeds: _SeedCells, choice: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Sum the points of every region: (S + 1, C + 3) float32, the last row empty."""
    nine = np.arange(9, dtype=np.uint8)[:, None]
    joins = (choice.astype(np.uint8)[:, None] == nine).astype(np.float32)
    parts = joins @ points
    sums = np.zeros((len(points) + 1, points.shape[-1]), np.float32)
    for neighbour in range(9):
        # One seed stands at most once in a column, so that += adds every part.
        sums[seeds.neighbours[:, neighbour]] += parts[:, neighbour]
    return sums


def _length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    squares = np.einsum("...c,...c->...", vectors, vectors)
    return np.asarray(np.sqrt(squares + np.float32(1e-12))[..., None], np.float32)
