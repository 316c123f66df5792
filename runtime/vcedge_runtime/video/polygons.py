"""Outlines of a mask along the edges of its pixels, with holes and parts, exact or smoothed.

A polygon's corner x, y is the upper left corner of the pixel x, y, as COCO, YOLO and CVAT count: a
mask of one pixel has the outline of a square, and not of a point.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.int32]
"""(N, 2) int32, x and y of the corners in their order; the last one is joined to the first."""
DEFAULT_TOLERANCE = 0.75
"""Pixels (our choice): it takes the steps off slopes, and hardly more."""


@dataclass(frozen=True, eq=False)
class Polygon:
    """One connected part of an object.

    Attributes:
        outer: its outline, clockwise as it is seen.
        holes: those of the holes in it, counterclockwise.
    """

    outer: Ring
    holes: tuple[Ring, ...] = ()


def find_polygons(mask: NDArray[np.generic], tolerance: float = 0.0) -> list[Polygon]:
    """Draw the outlines of an object.

    Args:
        mask: (H, W) bool or any number; what is not 0 is the object.
        tolerance: how many pixels an outline may be off; 0 keeps each pixel's corners, so that the
            polygons are the mask.

    Returns:
        A polygon for each part, pixels that touch in a corner being one, the largest first.
    """
    solid = np.ascontiguousarray(mask != 0).view(np.uint8)
    left, top, width, height = cv2.boundingRect(solid)
    if not width:
        return []
    part = solid[top : top + height, left : left + width]
    # Contours run through pixel centres: twice as large, each pixel has one near every corner.
    doubled = part.repeat(2, axis=0).repeat(2, axis=1)
    contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    rings = [_simplify(_to_corners(c, left, top), tolerance) for c in contours]
    holes: dict[int, list[Ring]] = {}
    for ring, (*_, parent) in zip(rings, hierarchy[0].tolist(), strict=True):
        holes.setdefault(parent, []).append(ring)
    outers = np.flatnonzero(hierarchy[0][:, 3] < 0).tolist()
    found = [Polygon(rings[i], tuple(holes.get(i, ()))) for i in outers]
    return sorted(found, key=lambda polygon: -measure_ring(polygon.outer))


def measure_ring(ring: Ring) -> float:
    """Area of a ring in pixels, negative where it runs counterclockwise as it is seen."""
    x, y = ring.astype(np.float64).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def cut_holes(polygon: Polygon) -> Ring:
    """Join the holes of a polygon to its outline by slits, for formats that know no holes.

    A slit is walked there and back and has no width, so that whoever fills the ring, by the
    even-odd rule or by winding, leaves the holes open.
    """
    return _join_rings((polygon.outer, *polygon.holes))


def join_parts(polygons: Sequence[Polygon]) -> Ring:
    """Join the parts of an object to one ring by slits, for formats of one ring an object.

    Args:
        polygons: at least one.
    """
    return _join_rings(cut_holes(polygon) for polygon in polygons)


def _to_corners(contour: NDArray[np.generic], left: int, top: int) -> Ring:
    """Bring pixel centres of the doubled mask to the pixels' corners, without those on a line."""
    points = (np.asarray(contour, np.int32)[::-1, 0] + 1) // 2
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    return np.asarray(points[turns] + (left, top), np.int32)


def _simplify(ring: Ring, tolerance: float) -> Ring:
    if tolerance <= 0:
        return ring
    fewer = np.asarray(cv2.approxPolyDP(ring[:, None], tolerance, closed=True)[:, 0], np.int32)
    # What is as thin as the tolerance would be gone.
    return fewer if measure_ring(fewer) != 0 else ring


def _join_rings(rings: Iterable[Ring]) -> Ring:
    first, *others = rings
    joined = first
    for ring in others:
        # Near each other, but not by all distances: a picture's outlines have thousands of corners.
        here = _find_nearest(joined, ring[0])
        there = _find_nearest(ring, joined[here])
        here = _find_nearest(joined, ring[there])
        walk = np.concatenate([ring[there:], ring[: there + 1]])
        joined = np.concatenate([joined[: here + 1], walk, joined[here:]])
    return joined


def _find_nearest(ring: Ring, point: NDArray[np.int32]) -> int:
    return int(((ring - point).astype(np.int64) ** 2).sum(axis=1).argmin())
