"""Objects with holes, parts and borders, and the truth about outlines that is nobody's library."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.video.sinks import Sink
from vcedge_runtime.video.sources import Frame

HW = (48, 64)
NAMES = {3: "wheel", 200: "ball"}
SCORES = {3: 0.91237, 200: 0.5}


def make_frame(index: int, file: str = "") -> Frame:
    """Make a frame whose gray tells its number."""
    image = np.full((*HW, 3), 40 + 10 * (index % 20), np.uint8)
    return Frame(index, f"{index:05d}", image, file=file)


def make_objects(index: int = 0) -> NDArray[np.uint8]:
    """Draw a ring with a ball in it, another part of the ring in a corner, and nothing from 4 on.

    Returns:
        (48, 64) uint8, ids 3 (two parts, a hole) and 200 (in the hole); 200 is gone in frame 2.
    """
    labels = np.zeros(HW, np.uint8)
    if index >= 4:
        return labels
    rows, columns = np.mgrid[: HW[0], : HW[1]]
    away = np.hypot(rows - 24, columns - 24 - index)
    labels[(away < 18) & (away > 9)] = 3
    labels[40:, 60:] = 3
    if index != 2:
        labels[away < 5] = 200
    return labels


def write_objects(sink: Sink, count: int, file: str = "") -> None:
    """Write frames of ``make_objects``; ``file`` is what a picture's name ends in."""
    for index in range(count):
        frame = make_frame(index, f"shot{index}{file}" if file else "")
        sink.write(frame, make_objects(index), SCORES)


def fill_rings(rings: Iterable[NDArray[np.generic]], hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Fill rings by the even-odd rule: what of the pixels has its centre inside.

    Args:
        rings: (N, 2) x and y of the corners, in pixels from the picture's upper left corner.
        hw: height and width.
    """
    filled = np.zeros(hw, bool)
    rows, columns = np.mgrid[: hw[0], : hw[1]] + 0.5
    for ring in rings:
        corners = np.asarray(ring, float)
        for (x, y), (next_x, next_y) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            if y != next_y:
                passed = (y <= rows) != (next_y <= rows)
                filled ^= passed & (columns < x + (rows - y) * (next_x - x) / (next_y - y))
    return filled
