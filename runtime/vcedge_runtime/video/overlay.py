"""The picture that shows a result: objects tinted in their palette colours, outlined and named."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.video.palette import davis_palette

_OUTLINE_PER_PIXELS = 480
"""A line is one pixel wide, and one more for each this many of the frame's short side."""
_TEXT_PER_PIXELS = 1000
"""Short side at which a text has its font's own size, 22 pixels; it is never below half of it."""
_DARK = (0, 0, 0)


def draw_overlay(
    image: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    scores: Mapping[int, float] | None = None,
    *,
    alpha: float = 0.5,
) -> NDArray[np.uint8]:
    """Tint, outline and name every object in a frame.

    The outline shows on any ground: a light line on the object, a dark one around it.

    Args:
        image: (H, W, 3) uint8, BGR, 0-255; left as it is.
        labels: (H, W) uint8 object ids, 0 the background.
        scores: how sure the tracker is of each object, 0 to 1; they stand beside the ids. Without
            them, or empty, nothing is written.
        alpha: how much of an object's inside is its colour, 0 to 1.

    Returns:
        (H, W, 3) uint8, BGR, 0-255; owned by the caller.
    """
    picture = image.copy()
    thickness = 1 + min(labels.shape) // _OUTLINE_PER_PIXELS
    inside = _find_objects(labels, thickness)
    if inside is None:
        return picture
    ids, part = np.ascontiguousarray(labels[inside]), picture[inside]
    tint = cv2.applyColorMap(ids, _fill_colours())
    cv2.copyTo(cv2.addWeighted(part, 1 - alpha, tint, alpha, 0), ids, part)
    border = _find_borders(ids, thickness)
    part[(border > 0) & (ids == 0)] = _DARK
    cv2.copyTo(cv2.applyColorMap(ids, line_colours()), cv2.min(border, ids), part)
    for object_id, score in (scores or {}).items():
        left, top, width, _ = cv2.boundingRect((ids == object_id).view(np.uint8))
        if width:
            at = inside[1].start + left + width / 2, inside[0].start + top - thickness
            write_text(picture, f"{object_id}  {score:.2f}", at, object_id)
    return picture


def write_text(
    picture: NDArray[np.uint8], text: str, at_xy: tuple[float, float], object_id: int
) -> None:
    """Write a text on a dark plate, in place, wholly within the picture where it fits.

    Args:
        picture: (H, W, 3) uint8, BGR, 0-255.
        text: what to write; letters that the font lacks become question marks.
        at_xy: middle of the plate's lower edge, in pixels.
        object_id: whose light tone it has.
    """
    height, width = picture.shape[:2]
    scale = max(0.5, min(height, width) / _TEXT_PER_PIXELS)
    font, stroke = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(1.5 * scale))
    (across, up), down = cv2.getTextSize(text, font, scale, stroke)
    edge = 2 * stroke
    x = max(edge, min(round(at_xy[0] - across / 2), width - across - edge))
    y = max(up + edge, min(round(at_xy[1]) - down, height - down))
    cv2.rectangle(picture, (x - edge, y - up - edge), (x + across + edge, y + down - 1), _DARK, -1)
    colour = line_colours()[object_id, 0].tolist()
    cv2.putText(picture, text, (x, y), font, scale, colour, stroke, cv2.LINE_AA)


def _find_objects(labels: NDArray[np.uint8], margin: int) -> tuple[slice, slice] | None:
    """Rows and columns that hold every object and a margin around it; None without an object."""
    left, top, width, height = cv2.boundingRect(labels)
    if width == 0:
        return None
    rows = slice(max(0, top - margin), top + height + margin)
    return rows, slice(max(0, left - margin), left + width + margin)


def _find_borders(ids: NDArray[np.uint8], thickness: int) -> NDArray[np.uint8]:
    """Mark what is near another id, on both sides; the frame's own edge is no border."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * thickness + 1,) * 2)
    return np.asarray(cv2.morphologyEx(ids, cv2.MORPH_GRADIENT, kernel), np.uint8)


@lru_cache(maxsize=1)
def _fill_colours() -> NDArray[np.uint8]:
    """Give each id its palette colour, in OpenCV's order: (256, 1, 3) uint8, BGR."""
    return np.ascontiguousarray(davis_palette()[:, None, ::-1])


@lru_cache(maxsize=1)
def line_colours() -> NDArray[np.uint8]:
    """Give each id a light tone of its palette colour, for lines and texts.

    Returns:
        (256, 1, 3) uint8, BGR, 127-255; shared by all callers.
    """
    fill = _fill_colours().astype(np.float32)
    brightest = np.maximum(fill.max(axis=2, keepdims=True), 1)
    return np.asarray(127 + 128 * fill / brightest, np.uint8)
