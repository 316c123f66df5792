"""Where objects are in a frame: area, box and centroid, measured from their masks."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int, int, int]
"""Left, top, width, height: the pixel at x, y is the box x, y, 1, 1."""


@dataclass(frozen=True)
class Region:
    """What is measured of one object, in the frame's own pixels.

    Attributes:
        area: its pixels.
        box: left, top, width and height of what holds it.
        centroid: x, y of its middle, whole numbers being pixel centres.
    """

    area: int
    box: Box
    centroid: tuple[float, float]


def measure_regions(labels: NDArray[np.uint8]) -> dict[int, Region]:
    """Measure every object that is seen.

    Args:
        labels: (H, W) uint8 object ids, 0 the background.

    Returns:
        By id, in the order of the ids; an object without a pixel is not among them.
    """
    counts = cv2.calcHist([labels], [0], None, [256], [0, 256]).ravel()
    present = np.flatnonzero(counts[1:]) + 1
    return {object_id: _measure(labels == object_id) for object_id in present.tolist()}


def _measure(mask: NDArray[np.bool_]) -> Region:
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    part = mask[top : top + height, left : left + width].astype(np.uint8)
    moments = cv2.moments(part, binaryImage=True)
    area = moments["m00"]
    centroid = left + moments["m10"] / area, top + moments["m01"] / area
    return Region(int(area), (left, top, width, height), centroid)
