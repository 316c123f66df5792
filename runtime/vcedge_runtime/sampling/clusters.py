"""How far a cell looks: radii from clusters of the frame's key (MER's Multi-Cluster Sampler)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import BundleError, EngineError
from vcedge_runtime.settings import Bounds, check_settings

PLACE_WEIGHT = 0.5
"""What crossing the grid adds to a cluster distance between unit keys (our choice)."""
SHRINK, EXPAND = 0.5, 1.5
"""Second radius over the first: of a cell like its cluster, and of one in no cluster (ours)."""
RADIUS_FLOOR = 2
UNREACHED = -2
"""Stands for the cosine of a cell that no cluster reached; below every cosine."""


@dataclass(frozen=True)
class ClusterSettings:
    """The sampler's settings.

    Attributes:
        clusters: K of K-means, 1 to 64 (MER, Table 5: 5).
        theta: cosine to a cluster's mean above which its region grows, -0.999 to 0.999 (MER: 0.45).
        delta: weight of the second window, 0 to 16 (MER, eq. 15; our value).
        radius_min: smallest first radius in cells, 2 to 64 (our choice).
        radius_max: largest radius in cells, ``radius_min`` to 64 (our choice).
        reach: cells within which the second window also holds reference cells of the same cluster,
            0 to 64; 0 for none (a reading of eq. 15's A+: benchmarks/ABLATIONS.md). A graph that
            was exported before knows nothing of it.
        centre: whether the mean of the unit keys is taken off them before anything else.
        samples: most cells that K-means sees of a frame, on a regular grid, 1 to 65,536.
        iterations: of K-means, 1 to 100.
        seed: of the first centres, 0 to 4,294,967,295.
    """

    clusters: Annotated[int, Bounds(1, 64)] = 5
    theta: Annotated[float, Bounds(-0.999, 0.999)] = 0.45
    delta: Annotated[float, Bounds(0, 16)] = 0.5
    radius_min: Annotated[int, Bounds(RADIUS_FLOOR, 64)] = 3
    radius_max: Annotated[int, Bounds(RADIUS_FLOOR, 64)] = 12
    reach: Annotated[int, Bounds(0, 64)] = 0
    centre: bool = False
    samples: Annotated[int, Bounds(1, 2**16)] = 2048
    iterations: Annotated[int, Bounds(1, 100)] = 10
    seed: Annotated[int, Bounds(0, 2**32 - 1)] = 0

    def __post_init__(self) -> None:
        check_settings(self)
        if self.radius_min > self.radius_max:
            raise BundleError(
                f"received radius_min={self.radius_min} and radius_max={self.radius_max}; "
                "expected a smallest radius that is not above the largest"
            )


@dataclass(frozen=True)
class ClusterWindows:
    """How far each cell of a frame looks.

    Attributes:
        size_origin: first radius in cells, whole, of every cell (eq. 13).
        outer: (h, w) float32 second radius in cells, whole, of each cell (size^+).
        ids: per frame, (h, w) int32 cluster of each cell.
        grown: (h, w) bool, cells that the growth of a cluster reached.
        centres: (K, C + 2) float32 centres of K-means, where those of the next frame may begin.
    """

    size_origin: float
    outer: NDArray[np.float32]
    ids: list[NDArray[np.int32]]
    grown: NDArray[np.bool_]
    centres: NDArray[np.float32]


def cluster_windows(
    frames: Sequence[NDArray[np.float32]],
    settings: ClusterSettings,
    radius: int,
    centres: NDArray[np.float32] | None = None,
) -> ClusterWindows:
    """Cluster a frame with its references, and find both radii of its cells (MER, eq. 13 and 15).

    Args:
        frames: (h, w, C) float32 keys, the current frame's first.
        settings: of the sampler.
        radius: largest radius of a window, in cells.
        centres: the former frame's, from which K-means begins; None: seeded k-means++.

    Raises:
        EngineError: a key is not finite, which OpenCV's K-means does not survive.
    """
    every = [_points_from_key(key, settings.centre) for key in frames]
    if not all(np.isfinite(points).all() for points in every):
        raise EngineError(
            "received a key that is not finite, which cannot be clustered; the encoder's graph is "
            "damaged, or overflows in its precision: `vcedge verify` tells where"
        )
    grid_hw = frames[0].shape[:2]
    centres = _fit_centres(every, settings, grid_hw, centres)
    ids, similarity, distance = _describe_clusters(every[0], centres, grid_hw)
    widest = min(settings.radius_max, radius)
    spread = np.mean([distance[ids == k].mean() for k in np.unique(ids)])
    size_origin = float(np.clip(np.rint(spread), min(settings.radius_min, widest), widest))
    likeness = _grow_clusters(ids, similarity, distance, settings.theta)
    outer = _second_radius(likeness, size_origin, settings.theta, widest)
    others = [_nearest(points, centres).reshape(grid_hw) for points in every[1:]]
    return ClusterWindows(size_origin, outer, [ids, *others], likeness > UNREACHED, centres)


def grow_region(
    similarity: NDArray[np.float32], seed: tuple[int, int], theta: float
) -> NDArray[np.bool_]:
    """Grow a region from a cell over 4-neighbours that are similar enough.

    It is the connected component of ``similarity > theta`` that holds the seed; empty where
    the seed itself is not similar enough.

    Args:
        similarity: (h, w) float32 cosine of each cell to the cluster's mean.
        seed: row and column.
        theta: the threshold.

    Returns:
        (h, w) bool.
    """
    similar = (similarity > theta).view(np.uint8)
    _, components = cv2.connectedComponents(similar, connectivity=4, ltype=cv2.CV_16U)
    grown: NDArray[np.bool_] = components == components[seed]
    return grown if similar[seed] else np.zeros_like(grown)


def _points_from_key(key: NDArray[np.float32], centre: bool) -> NDArray[np.float32]:
    """Join unit keys and weighted places: (h * w, C + 2) float32."""
    height, width, channels = key.shape
    points = np.empty((height, width, channels + 2), np.float32)
    unit = points[..., :channels]
    _normalise(key, unit)
    if centre:
        _normalise(unit - unit.mean((0, 1)), unit)
    points[..., channels] = (PLACE_WEIGHT / width) * np.arange(width)
    points[..., channels + 1] = (PLACE_WEIGHT / height) * np.arange(height)[:, None]
    return points.reshape(-1, channels + 2)


def _normalise(vectors: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    squares = np.einsum("...c,...c->...", vectors, vectors)
    np.divide(vectors, np.sqrt(squares + np.float32(1e-12))[..., None], out=out)


def _fit_centres(
    frames: Sequence[NDArray[np.float32]],
    settings: ClusterSettings,
    grid_hw: tuple[int, ...],
    centres: NDArray[np.float32] | None,
) -> NDArray[np.float32]:
    channels = frames[0].shape[1]
    step = math.ceil(math.sqrt(len(frames[0]) / settings.samples))
    grids = [points.reshape(*grid_hw, -1)[::step, ::step] for points in frames]
    samples = np.concatenate([np.reshape(grid, (-1, channels)) for grid in grids])
    count = min(settings.clusters, len(samples))
    if len(samples) == 1:
        # OpenCV would take one row for a column of numbers.
        return samples
    if centres is None or centres.shape != (count, channels):
        centres = _spread_centres(samples, count, settings.seed)
    # With labels to begin from, K-means draws nothing from OpenCV's global random numbers.
    nearest = np.ascontiguousarray(_nearest(samples, centres)[:, None])
    stop = (cv2.TERM_CRITERIA_MAX_ITER, settings.iterations, 0.0)
    _, _, fitted = cv2.kmeans(samples, count, nearest, stop, 1, cv2.KMEANS_USE_INITIAL_LABELS)
    return np.asarray(fitted, np.float32)


def _spread_centres(samples: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float32]:
    """Draw first centres far from each other (k-means++; Arthur and Vassilvitskii, 2007)."""
    random = np.random.default_rng(seed)
    chosen = [int(random.integers(len(samples)))]
    distance = np.full(len(samples), np.inf, np.float32)
    while len(chosen) < count:
        offset = samples - samples[chosen[-1]]
        np.minimum(distance, np.einsum("nc,nc->n", offset, offset), out=distance)
        reach = np.cumsum(distance, dtype=np.float64)
        drawn = int(np.searchsorted(reach, random.random() * reach[-1], side="right"))
        chosen.append(min(drawn, len(samples) - 1))
    return samples[chosen]


def _nearest(points: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.int32]:
    half_squares = np.float32(0.5) * np.einsum("kc,kc->k", centres, centres)
    scores = centres @ points.T - half_squares[:, None]
    return np.asarray(np.argmax(scores, 0), np.int32)


def _describe_clusters(
    points: NDArray[np.float32], centres: NDArray[np.float32], grid_hw: tuple[int, ...]
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """Assign every cell; measure it against each cluster.

    Returns:
        ids: (h, w) int32; similarity: (K, h, w) float32 cosine to the mean unit key of each
        cluster; distance: (h, w) float32 cells to the spatial centroid of the cell's own cluster.
    """
    ids = _nearest(points, centres)
    members = (ids == np.arange(len(centres))[:, None]).astype(np.float32)
    sums = members @ points
    means = sums[:, :-2]
    _normalise(means, means)
    similarity = means @ points[:, :-2].T
    scale = np.array(grid_hw[::-1], np.float32) / np.float32(PLACE_WEIGHT)
    counts = np.maximum(members.sum(1), 1)
    centroids = sums[:, -2:] / counts[:, None]
    offset = (points[:, -2:] - centroids[ids]) * scale
    distance = np.sqrt(np.einsum("nc,nc->n", offset, offset))
    height, width = grid_hw
    shape = (height, width)
    return ids.reshape(shape), similarity.reshape(-1, *shape), distance.reshape(shape)


def _grow_clusters(
    ids: NDArray[np.int32],
    similarity: NDArray[np.float32],
    distance: NDArray[np.float32],
    theta: float,
) -> NDArray[np.float32]:
    """Return each cell's largest cosine to a cluster that reached it, or ``UNREACHED``: (h, w)."""
    likeness = np.full(ids.shape, UNREACHED, np.float32)
    for k in np.unique(ids):
        middle = int(np.argmin(np.where(ids == k, distance, np.inf)))
        grown = grow_region(similarity[k], divmod(middle, ids.shape[1]), theta)
        np.maximum(likeness, similarity[k], out=likeness, where=grown)
    return likeness


def _second_radius(
    likeness: NDArray[np.float32], size_origin: float, theta: float, widest: int
) -> NDArray[np.float32]:
    """Contract where a cluster is, the more the surer; expand elsewhere (our formula)."""
    sureness = (likeness - theta) / (1 - theta)
    factor = np.where(likeness > UNREACHED, 1 - SHRINK * sureness, EXPAND)
    outer = np.rint(size_origin * factor).astype(np.float32)
    return np.clip(outer, min(RADIUS_FLOOR, widest), widest)
