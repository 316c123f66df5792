"""The picture of a result, whoever shows it: the objects, and of a live source the time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.video.frame import Frame
from vcedge_runtime.video.overlay import draw_overlay, write_text

_WHITE = 255
"""The palette's colour that the time has."""


def draw_result(
    frame: Frame, labels: NDArray[np.uint8], scores: Mapping[int, float]
) -> NDArray[np.uint8]:
    """Draw what was found in a frame, and in one of a live source the source's time.

    Args:
        frame: its image is left as it is.
        labels: (H, W) uint8 object ids, 0 the background.
        scores: as in ``draw_overlay``.

    Returns:
        (H, W, 3) uint8, BGR, 0-255; owned by the caller.
    """
    picture = draw_overlay(frame.image, labels, scores)
    if frame.arrived_s is not None and frame.time_s is not None:
        write_text(picture, tell_time(frame.time_s), (0, picture.shape[0]), _WHITE)
    return picture


def tell_time(seconds: float) -> str:
    """Hours, minutes, seconds and milliseconds: 1:02:03.456."""
    whole, rest = divmod(max(0, round(1000 * seconds)), 1000)
    minutes, hours = whole // 60 % 60, whole // 3600
    return f"{hours}:{minutes:02d}:{whole % 60:02d}.{rest:03d}"
