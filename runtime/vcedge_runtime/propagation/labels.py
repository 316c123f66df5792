"""Soft labels from masks, and back to masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.propagation.points import PointEstimate
from vcedge_runtime.propagation.upsample import Region, Upsampler, enclose, find_region

TRACE = np.float32(1e-3)
"""A soft label below this is none (our choice: ten times as much changes J&F by less than 1e-4)."""


def labels_from_mask(
    mask: NDArray[np.uint8], channel_of: Mapping[int, int], grid_hw: tuple[int, int], channels: int
) -> NDArray[np.float32]:
    """Share of each key cell that each object covers.

    Args:
        mask: (H, W) uint8 object ids; ids that ``channel_of`` lacks count as background.
        channel_of: label channel of each object id, from 1 up.
        grid_hw: height and width of the key grid.
        channels: L.

    Returns:
        (h, w, L) float32, rows sum to 1, channel 0 the background.
    """
    labels = np.zeros((*grid_hw, channels), np.float32)
    for object_id, channel in channel_of.items():
        covered = (mask == object_id).astype(np.float32)
        labels[..., channel] = cv2.resize(covered, grid_hw[::-1], interpolation=cv2.INTER_AREA)
    labels[..., 0] = 1 - labels[..., 1:].sum(axis=-1)
    return labels


def assign_share(labels: NDArray[np.float32], channel: int, share: NDArray[np.float32]) -> None:
    """Give a channel its share of every cell, in place; the others keep the rest in proportion.

    Args:
        labels: (h, w, L) float32 soft labels, rows sum to 1.
        channel: from 1 up; what it had before falls to the background.
        share: (h, w) float32, 0 to 1.
    """
    labels[..., 0] += labels[..., channel]
    labels[..., channel] = 0
    labels *= 1 - share[..., None]
    labels[..., channel] = share


def clear_traces(labels: NDArray[np.float32]) -> None:
    """Give what an object has below ``TRACE`` of a cell to the background, in place.

    Traces would creep from frame to frame, and every tile would have to be read.

    Args:
        labels: (h, w, L) float32 soft labels, rows sum to 1, channel 0 the background.
    """
    objects = labels[..., 1:]
    traces = np.where(objects < TRACE, objects, 0)
    labels[..., 0] += traces.sum(axis=-1)
    objects -= traces


@dataclass(frozen=True)
class Decision:
    """The winning object of every pixel, or where each point is.

    Attributes:
        mask: (H, W) uint8 object ids.
        scores: mean soft label of each object over its own pixels; 0 for an object without any.
        points: by name, of a video that began with points.
    """

    mask: NDArray[np.uint8]
    scores: dict[int, float]
    points: dict[str, PointEstimate] = field(default_factory=dict)


def mask_from_labels(
    labels: NDArray[np.float32], channel_of: Mapping[int, int], upsampler: Upsampler
) -> Decision:
    """Upsample soft labels and take the largest; the background has what objects leave.

    Args:
        labels: (h, w, L) float32 soft labels.
        channel_of: label channel of each object id.
        upsampler: of this frame.
    """
    mask = np.zeros(upsampler.frame_hw, np.uint8)
    scores = dict.fromkeys(channel_of, 0.0)
    seen: dict[int, tuple[NDArray[np.float32], Region]] = {}
    for object_id, channel in channel_of.items():
        plane = np.ascontiguousarray(labels[..., channel])
        region = find_region(plane, upsampler.frame_hw)
        if region is not None:
            seen[object_id] = plane, region
    if not seen:
        return Decision(mask, scores)
    # Beyond what is seen of any object, nothing is to be decided; an only one is against the rest.
    if len(seen) == 1:
        ((object_id, (plane, region)),) = seen.items()
        share = upsampler.upsample(plane, region)
        own = share > 0.5
        np.copyto(mask[region.slices], object_id, where=own)
        scores[object_id] = _mean_share(share, own)
        return Decision(mask, scores)
    around = enclose([region for _, region in seen.values()])
    found = mask[around.slices]
    best, total = np.zeros((2, *found.shape), np.float32)
    for object_id, (plane, region) in seen.items():
        inner = region.within(around).slices
        share = upsampler.upsample(plane, region)
        np.copyto(found[inner], object_id, where=share > best[inner])
        np.maximum(best[inner], share, out=best[inner])
        total[inner] += share
    np.copyto(found, 0, where=best <= 1 - total)
    for object_id, (_, region) in seen.items():
        inner = region.within(around).slices
        scores[object_id] = _mean_share(best[inner], found[inner] == object_id)
    return Decision(mask, scores)


def _mean_share(share: NDArray[np.float32], own: NDArray[np.bool_]) -> float:
    return min(1.0, cv2.mean(share, own.view(np.uint8))[0])
