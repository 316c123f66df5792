"""The mask that boxes and clicks mean: the studio asks here, whoever answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]
"""Left, top, width, height, in the frame's pixels."""
Click = tuple[float, float, bool]
"""x, y in the frame's pixels, and whether it is on the object."""
_SIDE = 320
"""Longest side in which GrabCut works, in pixels (our choice)."""
_ROUNDS = 4


def mask_from_prompts(
    frame: NDArray[np.uint8],
    boxes: Mapping[int, Box],
    clicks: Mapping[int, Sequence[Click]],
) -> NDArray[np.uint8]:
    """Find the objects that boxes and clicks mean, by GrabCut.

    Args:
        frame: (H, W, 3) uint8, BGR.
        boxes: by object id.
        clicks: by object id.

    Returns:
        (H, W) uint8 object ids, 0 the background.
    """
    labels = np.zeros(frame.shape[:2], np.uint8)
    for object_id in sorted({*boxes, *clicks}):
        found = _cut_out(frame, boxes.get(object_id), clicks.get(object_id, ()))
        labels[found] = object_id
    return labels


def _cut_out(
    frame: NDArray[np.uint8], box: Box | None, clicks: Sequence[Click]
) -> NDArray[np.bool_]:
    """One object, (H, W) bool."""
    height, width = frame.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    trimap = np.full((size[1], size[0]), cv2.GC_BGD, np.uint8)
    radius = max(2, round(0.02 * _SIDE))
    if box is not None:
        left, top = (max(0, int(v * scale)) for v in box[:2])
        right, bottom = (int(np.ceil((a + b) * scale)) for a, b in zip(box, box[2:], strict=False))
        trimap[top : max(top + 1, bottom), left : max(left + 1, right)] = cv2.GC_PR_FGD
    else:
        trimap[:] = cv2.GC_PR_BGD
        for x, y, positive in clicks:
            if positive:
                middle = (round(x * scale), round(y * scale))
                cv2.circle(trimap, middle, 6 * radius, cv2.GC_PR_FGD, -1)
    for x, y, positive in clicks:
        sure = cv2.GC_FGD if positive else cv2.GC_BGD
        cv2.circle(trimap, (round(x * scale), round(y * scale)), radius, sure, -1)
    kinds = set(np.unique(trimap).tolist())
    if kinds & {cv2.GC_FGD, cv2.GC_PR_FGD} and kinds & {cv2.GC_BGD, cv2.GC_PR_BGD}:
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(small, trimap, (0, 0, 1, 1), *models, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    inside = np.isin(trimap, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    return np.asarray(cv2.resize(inside, (width, height), interpolation=cv2.INTER_LINEAR) > 0.5)
