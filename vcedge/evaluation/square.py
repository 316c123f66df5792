"""Frames stretched to a square, as JHMDB and VIP are tracked, with ids and positions in them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def stretch_frame(frame: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Bring (H, W, 3) uint8 to (side, side, 3); the aspect ratio is not kept."""
    smaller = frame.shape[0] * frame.shape[1] > side * side
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(frame, (side, side), interpolation=method), np.uint8)


def stretch_ids(ids: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Bring (H, W) uint8 ids to another size, the nearest pixel's."""
    resized = cv2.resize(ids, size_hw[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(resized, np.uint8)


def stretch_points(
    points: NDArray[np.float64], from_hw: tuple[int, int], to_hw: tuple[int, int]
) -> NDArray[np.float64]:
    """Move positions with a picture that is brought to another size.

    Args:
        points: (..., 2) float64 x, y, whole numbers being pixel centres.
        from_hw: height and width that they are in.
        to_hw: those wanted.

    Returns:
        (..., 2) float64; owned by the caller.
    """
    scale = np.array([to_hw[1] / from_hw[1], to_hw[0] / from_hw[0]])
    return np.asarray((points + 0.5) * scale - 0.5, np.float64)
