"""The mask that boxes and clicks mean: the studio asks here, whoever answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import MaskError

Labels = NDArray[np.uint8]
Box = tuple[float, float, float, float]
"""Left, top, width, height, in the frame's pixels."""
Click = tuple[float, float, bool]
"""x, y in the frame's pixels, and whether it is on the object."""
_ROOM = "vcedge_runtime.prompts"
_SIDE = 320
"""Longest side in which GrabCut works, in pixels (our choice)."""
_ROUNDS = 4
_DISC, _REACH = 6, 36
"""Radius of what is certain about a click, and of what is likely (our choice)."""


class Segmenter(Protocol):
    """Makes masks of boxes and clicks."""

    def segment(
        self,
        frame: NDArray[np.uint8],
        boxes: Mapping[int, Box] | None = None,
        clicks: Mapping[int, Sequence[Click]] | None = None,
        *,
        mask: Labels | None = None,
    ) -> Labels:
        """Make the mask of a frame.

        Args:
            frame: (H, W, 3) uint8, BGR.
            boxes: by object id.
            clicks: by object id.
            mask: (H, W) uint8 ids that are known; those of which nothing is said stay.

        Returns:
            (H, W) uint8 object ids, 0 the background; the caller's own.

        Raises:
            MaskError: an object of which nothing was found.
        """

    def close(self) -> None:
        """Give everything back; twice does no harm."""


def open_segmenter(threads: int = 0) -> Segmenter:
    """Open the network of first masks, or GrabCut where it is not there.

    Args:
        threads: of its engine; 0 lets it choose.
    """
    if find_spec(_ROOM) is None:
        return GrabCut()
    kind = import_module(f"{_ROOM}.segmenter").PromptSegmenter
    opened: Segmenter = kind.open(threads=threads)
    return opened


class GrabCut:
    """Finds objects by their colours (OpenCV's GrabCut); see ``Segmenter``."""

    def segment(
        self,
        frame: NDArray[np.uint8],
        boxes: Mapping[int, Box] | None = None,
        clicks: Mapping[int, Sequence[Click]] | None = None,
        *,
        mask: Labels | None = None,
    ) -> Labels:
        """Make the mask of a frame."""
        labels = np.zeros(frame.shape[:2], np.uint8) if mask is None else mask.copy()
        for object_id in sorted({*(boxes or {}), *(clicks or {})}):
            before = labels == object_id
            own = (boxes or {}).get(object_id), (clicks or {}).get(object_id, ())
            found = _cut_out(frame, *own, before)
            if not found.any():
                raise MaskError(
                    f"found nothing of object {object_id} there; draw a wider box, or use the brush"
                )
            labels[before] = 0
            labels[found] = object_id
        return labels

    def close(self) -> None:
        """Do nothing."""


def _cut_out(
    frame: NDArray[np.uint8], box: Box | None, clicks: Sequence[Click], before: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """One object, (H, W) bool."""
    height, width = frame.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    known = cv2.resize(before.view(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    trimap = _draw_seeds(known, box, clicks, scale)
    kinds = set(np.unique(trimap).tolist())
    if kinds & {cv2.GC_FGD, cv2.GC_PR_FGD} and kinds & {cv2.GC_BGD, cv2.GC_PR_BGD}:
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(small, trimap, (0, 0, 1, 1), *models, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    inside = np.isin(trimap, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    return np.asarray(cv2.resize(inside, (width, height), interpolation=cv2.INTER_LINEAR) > 0.5)


def _draw_seeds(
    known: NDArray[np.bool_], box: Box | None, clicks: Sequence[Click], scale: float
) -> Labels:
    """Where the object is for certain, likely, and for certain not, in GrabCut's words."""
    seeds = np.full(known.shape, cv2.GC_BGD if box is not None else cv2.GC_PR_BGD, np.uint8)
    places = [((round(x * scale), round(y * scale)), positive) for x, y, positive in clicks]
    if box is not None:
        left, top, right, bottom = (
            *(max(0, int(v * scale)) for v in box[:2]),
            *(int(np.ceil((a + b) * scale)) for a, b in zip(box[:2], box[2:], strict=True)),
        )
        seeds[top : max(top + 1, bottom), left : max(left + 1, right)] = cv2.GC_PR_FGD
    else:
        seeds[known] = cv2.GC_PR_FGD
        for at, positive in places:
            cv2.circle(seeds, at, _REACH, cv2.GC_PR_FGD if positive else cv2.GC_PR_BGD, -1)
    for at, positive in places:
        cv2.circle(seeds, at, _DISC, cv2.GC_FGD if positive else cv2.GC_BGD, -1)
    return seeds
