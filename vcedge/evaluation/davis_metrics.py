"""J and F of DAVIS: how well a predicted region, and its outline, agree with the ground truth.

Every formula follows the official evaluation, and gives its numbers to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import EvaluationError

Mask: TypeAlias = NDArray[np.bool_] | NDArray[np.uint8]

TOLERANCE = 0.008
"""How far apart two outlines may be and still match, as a share of the frame's diagonal."""


def region_similarity(truth: Mask, predicted: Mask) -> NDArray[np.float64]:
    """Measure J, the intersection over the union of two masks.

    Args:
        truth: (H, W) or (T, H, W) bool or uint8, the object where not 0.
        predicted: the same shape as truth.

    Returns:
        () or (T,) float64, 0-1; 1 where both masks are empty.

    Raises:
        EvaluationError: the shapes differ, or are neither of the two.
    """
    return _measure_frames(lambda t, p: score_masks(t, p)[0], truth, predicted)


def boundary_accuracy(truth: Mask, predicted: Mask) -> NDArray[np.float64]:
    """Measure F, the harmonic mean of precision and recall of the predicted outline.

    An outline pixel is right when the other outline passes within ceil(0.008 * diagonal) of it.

    Args:
        truth: (H, W) or (T, H, W) bool or uint8, the object where not 0.
        predicted: the same shape as truth.

    Returns:
        () or (T,) float64, 0-1; 1 where neither mask has an outline, 0 where one has none.

    Raises:
        EvaluationError: the shapes differ, or are neither of the two.
    """
    return _measure_frames(lambda t, p: score_masks(t, p)[1], truth, predicted)


def score_masks(truth: Mask, predicted: Mask) -> tuple[float, float]:
    """Measure J and F of one frame; cheaper than one after the other.

    Args:
        truth: (H, W) bool or uint8, the object where not 0.
        predicted: the same shape as truth.
    """
    radius = match_radius(*truth.shape)
    truth, predicted = _crop_to_union(_as_binary(truth), _as_binary(predicted))
    return _overlap(truth, predicted), _outline_agreement(truth, predicted, radius)


def boundary_map(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mark the pixels that differ from their right, lower or lower right neighbour.

    Neighbours beyond the last row or column do not count.

    Args:
        mask: (H, W) uint8, 0 or 1.

    Returns:
        (H, W) uint8, 0 or 1; owned by the caller.
    """
    block = np.ones((2, 2), np.uint8)
    edges = cv2.morphologyEx(
        mask, cv2.MORPH_GRADIENT, block, anchor=(0, 0), borderType=cv2.BORDER_REPLICATE
    )
    return np.asarray(edges, np.uint8)


def match_radius(height: int, width: int) -> int:
    """Tell how many pixels apart two outlines may be in a frame of this size."""
    return math.ceil(TOLERANCE * math.sqrt(height**2 + width**2))


def _measure_frames(
    measure: Callable[[Mask, Mask], float], truth: Mask, predicted: Mask
) -> NDArray[np.float64]:
    if truth.shape != predicted.shape or truth.ndim not in (2, 3):
        raise EvaluationError(
            f"received masks of shape {truth.shape} and {predicted.shape}; expected the same"
            " (H, W) or (T, H, W) twice; resize the prediction to the ground truth"
        )
    if truth.ndim == 2:
        return np.array(measure(truth, predicted))
    return np.array([measure(t, p) for t, p in zip(truth, predicted, strict=True)], np.float64)


def _as_binary(mask: Mask) -> NDArray[np.uint8]:
    return np.ascontiguousarray(mask != 0).view(np.uint8)


def _crop_to_union(
    truth: NDArray[np.uint8], predicted: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Cut both masks to what they cover plus one pixel, which leaves every count as it is."""
    left, top, width, height = cv2.boundingRect(truth | predicted)
    rows = slice(max(top - 1, 0), top + height + 1)
    columns = slice(max(left - 1, 0), left + width + 1)
    return truth[rows, columns], predicted[rows, columns]


def _overlap(truth: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> float:
    union = cv2.countNonZero(truth | predicted)
    return cv2.countNonZero(truth & predicted) / union if union else 1.0


def _outline_agreement(
    truth: NDArray[np.uint8], predicted: NDArray[np.uint8], radius: int
) -> float:
    truth, predicted = boundary_map(truth), boundary_map(predicted)
    in_truth, in_predicted = cv2.countNonZero(truth), cv2.countNonZero(predicted)
    if in_truth == 0 or in_predicted == 0:
        return float(in_truth == in_predicted)
    precision = cv2.countNonZero(predicted & _widen(truth, radius)) / in_predicted
    recall = cv2.countNonZero(truth & _widen(predicted, radius)) / in_truth
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


def _widen(outline: NDArray[np.uint8], radius: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.dilate(outline, _disk(radius)), np.uint8)


@lru_cache(maxsize=8)
def _disk(radius: int) -> NDArray[np.uint8]:
    steps = np.arange(-radius, radius + 1)
    return (steps[:, None] ** 2 + steps**2 <= radius**2).astype(np.uint8)
