"""The picture that shows a result: objects tinted in their palette colours, with outlines."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.video.palette import davis_palette

_OUTLINE_PER_PIXELS = 480
"""An outline is one pixel wide, and one more for each this many of the frame's short side."""


def draw_overlay(
    image: NDArray[np.uint8], labels: NDArray[np.uint8], *, alpha: float = 0.5
) -> NDArray[np.uint8]:
    """Tint and outline every object in a frame.

    Args:
        image: (H, W, 3) uint8, BGR, 0-255; left as it is.
        labels: (H, W) uint8 object ids, 0 the background.
        alpha: how much of an object's inside is its colour, 0 to 1.

    Returns:
        (H, W, 3) uint8, BGR, 0-255; owned by the caller.
    """
    picture = image.copy()
    left, top, width, height = cv2.boundingRect(labels)
    if width == 0:
        return picture
    inside = (slice(top, top + height), slice(left, left + width))
    ids, part = np.ascontiguousarray(labels[inside]), picture[inside]
    tint = cv2.applyColorMap(ids, _fill_colours())
    cv2.copyTo(cv2.addWeighted(part, 1 - alpha, tint, alpha, 0), ids, part)
    border = _outline_of(labels, inside, 1 + min(labels.shape) // _OUTLINE_PER_PIXELS)
    cv2.copyTo(cv2.applyColorMap(ids, _line_colours()), border, part)
    return picture


def _outline_of(
    labels: NDArray[np.uint8], inside: tuple[slice, slice], thickness: int
) -> NDArray[np.uint8]:
    """Mark the object pixels that are near another id; the frame's own edge is no outline."""
    rows, columns = (slice(max(0, s.start - thickness), s.stop + thickness) for s in inside)
    wide = np.ascontiguousarray(labels[rows, columns])
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * thickness + 1,) * 2)
    edges = cv2.morphologyEx(wide, cv2.MORPH_GRADIENT, kernel)
    top, left = inside[0].start - rows.start, inside[1].start - columns.start
    height, width = inside[0].stop - inside[0].start, inside[1].stop - inside[1].start
    near = edges[top : top + height, left : left + width]
    return np.asarray(cv2.min(near, wide[top : top + height, left : left + width]), np.uint8)


@lru_cache(maxsize=1)
def _fill_colours() -> NDArray[np.uint8]:
    """Give each id its palette colour, in OpenCV's order: (256, 1, 3) uint8, BGR."""
    return np.ascontiguousarray(davis_palette()[:, None, ::-1])


@lru_cache(maxsize=1)
def _line_colours() -> NDArray[np.uint8]:
    """Give each id its palette colour at twice the brightness: (256, 1, 3) uint8, BGR."""
    return np.minimum(_fill_colours().astype(np.uint16) * 2, 255).astype(np.uint8)
