"""From a camera's colours to the encoder's."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def lab_from_bgr(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Convert a frame to normalised Lab (MAST's input).

    Args:
        frame: (H, W, 3) uint8, BGR, 0-255.

    Returns:
        (H, W, 3) float32: (L - 50) / 50, a / 127, b / 127; each about [-1, 1]. Owned by the caller.
    """
    bgr = frame.astype(np.float32) / np.float32(255)
    lab = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2Lab), np.float32)
    lab *= np.array([1 / 50, 1 / 127, 1 / 127], np.float32)
    lab[..., 0] -= 1
    return lab
