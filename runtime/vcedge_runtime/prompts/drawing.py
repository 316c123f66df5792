"""What a user would draw of an object whose mask is known: boxes and clicks."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.prompts.planes import Click, Corners
from vcedge_runtime.video.masks import VOID

Picture = NDArray[np.uint8]


def box_of(mask: Picture) -> Corners:
    """The box that just holds a mask, (H, W) uint8 with a pixel at least that is not 0."""
    x, y, width, height = cv2.boundingRect(mask)
    return float(x), float(y), float(x + width), float(y + height)


def jitter_box(
    rng: np.random.Generator, corners: Corners, reach: float, frame_hw: tuple[int, int]
) -> Corners:
    """Move each edge of a box by up to a share of its side, within the frame.

    Args:
        rng: all draws come from it.
        corners: the box.
        reach: of the moves, below 0.5.
        frame_hw: height and width of the frame.
    """
    left, top, right, bottom = corners
    sides = np.array([right - left, bottom - top] * 2)
    moved = np.array(corners) + rng.uniform(-reach, reach, 4) * sides
    height, width = frame_hw
    low = np.clip(moved[:2], 0, [width - 1, height - 1])
    high = np.minimum(np.maximum(moved[2:], low + 1), [width, height])
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def find_middle(region: NDArray[np.bool_], rng: np.random.Generator | None = None) -> Click | None:
    """Find a place in the middle of a region: the one farthest from its edge.

    Args:
        region: (H, W) bool.
        rng: draws one of those at least half as far in; the farthest itself where None.

    Returns:
        A click on the object; None where the region is empty.
    """
    if not region.any():
        return None
    depth = cv2.distanceTransform(_framed(region), cv2.DIST_L2, 3)[1:-1, 1:-1]
    if rng is None:
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    else:
        places = np.flatnonzero(depth >= 0.5 * depth.max())
        y, x = np.unravel_index(int(rng.choice(places)), depth.shape)
    return Click(float(x), float(y), True)


def find_correction(
    mask: NDArray[np.bool_], truth: Picture, rng: np.random.Generator | None = None
) -> Click | None:
    """Find where a user would click next: in the middle of the largest error.

    Args:
        mask: (H, W) bool, what was found.
        truth: (H, W) uint8, 1 the object, 255 where nothing is known.
        rng: see ``find_middle``.

    Returns:
        A click, on the object where it was missed; None where there is no error.
    """
    known = truth != VOID
    missed, wrong = known & (truth == 1) & ~mask, known & (truth == 0) & mask
    regions = [_largest_part(missed), _largest_part(wrong)]
    sizes = [int(region.sum()) for region in regions]
    largest = int(np.argmax(sizes))
    click = find_middle(regions[largest], rng)
    return None if click is None else click._replace(positive=largest == 0)


def _framed(region: NDArray[np.bool_]) -> Picture:
    """A region within a frame of nothing, so that the picture's edge is an edge of it too."""
    return np.pad(region.astype(np.uint8), 1)


def _largest_part(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    count, labels, facts, _ = cv2.connectedComponentsWithStats(region.astype(np.uint8))
    if count < 2:
        return region
    found: NDArray[np.bool_] = labels == 1 + int(facts[1:, cv2.CC_STAT_AREA].argmax())
    return found
