"""Where the objects of a frame are: numbers that are kept in place of maps."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

FLAT = 0.01
"""A peak is taken from the middle of the cells within this share of it (our choice)."""


@dataclass(frozen=True)
class Positions:
    """Where each of K objects is in one frame.

    Attributes:
        points: (K, 2) float64, x and y as shares of the grid's width and height, 0 to 1.
        areas: (K,) float64, cells of each object; 0 for one that is not seen.
    """

    points: NDArray[np.float64]
    areas: NDArray[np.float64]


def positions_from_labels(labels: NDArray[np.float32], sigma: float) -> Positions:
    """Find the peak of each object's blurred soft labels (DMP, target position; the map is ours).

    Args:
        labels: (h, w, L) float32 soft labels, channel 0 the background.
        sigma: of the blur, as a share of the grid's longer side.

    Returns:
        Positions of K = L - 1 objects; one that wins no cell is not seen.
    """
    areas = np.bincount(labels.argmax(axis=-1).ravel(), minlength=labels.shape[-1])[1:]
    points = np.zeros((areas.size, 2))
    for index in np.flatnonzero(areas):
        points[index] = _find_peak(np.ascontiguousarray(labels[..., index + 1]), sigma)
    return Positions(points, areas.astype(np.float64))


def position_from_key(key: NDArray[np.float32], sigma: float) -> Positions:
    """Find the peak of the blurred strength of a key: one position for all objects (DMP, literal).

    Args:
        key: (h, w, C) float32.
        sigma: of the blur, as a share of the grid's longer side.
    """
    strength = np.abs(key).sum(axis=-1)
    point = _find_peak(strength - strength.min(), sigma)
    return Positions(np.array([point]), np.ones(1))


def measure_shift(now: Positions, past: Positions) -> float:
    """Mean distance of the objects seen in both, weighted by their area now; inf if there is none.

    A distance of 1 is the grid's width or height (our choice).
    """
    objects = min(now.areas.size, past.areas.size)
    areas = np.where(past.areas[:objects] > 0, now.areas[:objects], 0)
    if not areas.any():
        return float("inf")
    distances = np.linalg.norm(now.points[:objects] - past.points[:objects], axis=1)
    return float(areas @ distances / areas.sum())


def _find_peak(plane: NDArray[np.float32], sigma: float) -> tuple[float, float]:
    """Position of the highest place of (h, w) float32; of a flat one its middle."""
    height, width = plane.shape
    cells = sigma * max(height, width)
    side = 2 * int(np.ceil(3 * cells)) + 1
    blurred = cv2.GaussianBlur(plane, (side, side), cells, borderType=cv2.BORDER_REPLICATE)
    rows, columns = np.nonzero(blurred >= (1 - FLAT) * blurred.max())
    return (float(columns.mean()) + 0.5) / width, (float(rows.mean()) + 0.5) / height
