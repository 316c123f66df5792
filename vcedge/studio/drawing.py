"""What the user's hand does to a mask: strokes, boxes and clicks, in the frame's own pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge.studio.prompting import Box, Click, Segmenter

Labels = NDArray[np.uint8]
Point = tuple[float, float]
MOST_POINTS = 20_000
"""Of one stroke, and of the clicks on one object: more is no hand (our choice)."""
_SHIFT = 4
"""Bits of a pixel's fraction in which OpenCV draws."""


@dataclass(frozen=True)
class Prompts:
    """Boxes and clicks on one object in one frame, one after the other.

    Attributes:
        frame: the frame.
        object_id: the object.
        base: (H, W) uint8 object ids before the first of them; only read.
        box: the box; None where there is none.
        clicks: the clicks.
    """

    frame: int
    object_id: int
    base: Labels
    box: Box | None = None
    clicks: tuple[Click, ...] = ()

    def draw(self, image: NDArray[np.uint8], segmenter: Segmenter) -> Labels:
        """The mask of the frame that they mean.

        Where no box says where the object is, its mask as it was does: its box, grown so far that
        it holds what was clicked (our choice).

        Args:
            image: (H, W, 3) uint8, BGR.
            segmenter: what makes masks.

        Raises:
            MaskError: nothing is found there.
        """
        box, before = self.box, self.base == self.object_id
        if box is None and before.any():
            box = _grow(_box_of(before), [(x, y) for x, y, positive in self.clicks if positive])
        boxes = {} if box is None else {self.object_id: box}
        clicks = {self.object_id: self.clicks} if self.clicks else {}
        known = self.base if self.base.any() else None
        return segmenter.segment(image, boxes, clicks, mask=known)


def put_object(labels: Labels, object_id: int, found: NDArray[np.bool_]) -> Labels:
    """Give an object another mask; it covers what others had there.

    Args:
        labels: (H, W) uint8 object ids; left as it is.
        object_id: the object.
        found: (H, W) bool, its mask.
    """
    changed = np.where(labels == object_id, np.uint8(0), labels)
    changed[found] = object_id
    return np.asarray(changed, np.uint8)


def paint(
    labels: Labels, object_id: int, points: Sequence[Point], radius: float, *, erase: bool
) -> Labels:
    """Draw a stroke of a round brush.

    Args:
        labels: (H, W) uint8 object ids; left as it is.
        object_id: the object.
        points: x, y in the frame's pixels, whole numbers being pixel centres; one is a dot.
        radius: in the frame's pixels.
        erase: takes the object away there, and no other.
    """
    stroke = np.zeros(labels.shape, np.uint8)
    places = np.rint(np.array(points, np.float64) * 2**_SHIFT).astype(np.int32)
    for start, end in zip(places, [*places[1:], places[-1]], strict=True):
        a, b = start.tolist(), end.tolist()
        cv2.line(stroke, a, b, 1, max(1, round(2 * radius)), cv2.LINE_8, _SHIFT)
        cv2.circle(stroke, b, round(radius * 2**_SHIFT), 1, -1, cv2.LINE_8, _SHIFT)
    touched = stroke > 0
    before = labels == object_id
    return put_object(labels, object_id, before & ~touched if erase else before | touched)


def _box_of(mask: NDArray[np.bool_]) -> Box:
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    return float(left), float(top), float(width), float(height)


def _grow(box: Box, points: Sequence[Point]) -> Box:
    """The smallest box that holds a box and the pixels of some points."""
    left, top, width, height = box
    xs = [left, left + width, *(edge for x, _ in points for edge in (x, x + 1))]
    ys = [top, top + height, *(edge for _, y in points for edge in (y, y + 1))]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
