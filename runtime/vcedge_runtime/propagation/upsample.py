"""Soft labels from the key grid to the frame's pixels, only where there is something to see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

RADIUS = 2
"""Half the side of the guided filter's box, in key cells (our choice, measured)."""
SMOOTHNESS = 1e-4
"""The guided filter's epsilon for colours from 0 to 1: variance below it counts as flat."""
AGREEMENT = 0.5
"""IoU with the unguided mask below which the guided one is not believed (our choice, measured)."""
WHOLE = 1 / 6
"""Share of the frame above which all of it is sampled at once: six times as fast a pixel."""
SEEN = 0.01
"""A soft label below this is not upsampled (our choice)."""


@dataclass(frozen=True)
class Region:
    """A rectangle of pixels: ``mask[region.slices]``."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index into an (H, W) array."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def within(self, outer: Region) -> Region:
        """The same pixels as a region of what ``outer`` shows, which holds them."""
        top, left = outer.top, outer.left
        return Region(self.top - top, self.bottom - top, self.left - left, self.right - left)


def enclose(regions: Sequence[Region]) -> Region:
    """The smallest region that holds one or more."""
    tops, bottoms, lefts, rights = zip(*map(astuple, regions), strict=True)
    return Region(min(tops), max(bottoms), min(lefts), max(rights))


class Upsampler(Protocol):
    """Brings planes of one frame's key grid to its pixels."""

    @property
    def frame_hw(self) -> tuple[int, int]:
        """Height and width of the frame."""

    def upsample(self, plane: NDArray[np.float32], region: Region) -> NDArray[np.float32]:
        """Return the region's part of a (h, w) float32 plane at the frame's pixels."""


class CubicUpsampler:
    """Bicubic interpolation, blind to the frame.

    Args:
        frame_hw: height and width of the frame.
    """

    def __init__(self, frame_hw: tuple[int, int]) -> None:
        self.frame_hw = frame_hw

    def upsample(self, plane: NDArray[np.float32], region: Region) -> NDArray[np.float32]:
        """Return the region's part of a (h, w) float32 plane at the frame's pixels."""
        return _sample(plane, self.frame_hw, region, cv2.INTER_CUBIC)


class EdgeGuide:
    """The colour guided filter (He, Sun and Tang 2013, in the fast form of He and Sun 2015).

    Within each box of key cells a label is taken for a linear function of colour; the functions are
    found at the key grid and applied to the frame's pixels, so that masks end at the frame's edges.
    An object of a few cells whose colours are those around it would be smoothed away: where the
    guided mask hardly meets the interpolated one, the latter stands (our choice). The filter is
    linear in the labels: guided labels that add up to 1 still do.

    Args:
        frame: (H, W, 3) uint8, BGR; must not change while the guide is used.
        grid_hw: height and width of the key grid.
    """

    def __init__(self, frame: NDArray[np.uint8], grid_hw: tuple[int, int]) -> None:
        self.frame_hw = (frame.shape[0], frame.shape[1])
        self._frame = frame
        small = cv2.resize(frame, grid_hw[::-1], interpolation=cv2.INTER_AREA)
        self._colours = small.astype(np.float32) / np.float32(255)
        self._mean = _box_mean(self._colours)
        products = self._colours[..., :, None] * self._colours[..., None, :]
        moments = _box_mean(products.reshape(*grid_hw, 9)).reshape(*grid_hw, 3, 3)
        covariance = moments - self._mean[..., :, None] * self._mean[..., None, :]
        self._inverse = np.linalg.inv(covariance + SMOOTHNESS * np.eye(3, dtype=np.float32))

    def upsample(self, plane: NDArray[np.float32], region: Region) -> NDArray[np.float32]:
        """Return the region's part of a (h, w) float32 plane at the frame's pixels."""
        plain = _sample(plane, self.frame_hw, region, cv2.INTER_CUBIC)
        guided = self._apply(self._fit(plane), region)
        either, both = (
            ((plain > 0.5) | (guided > 0.5)).sum(),
            ((plain > 0.5) & (guided > 0.5)).sum(),
        )
        return guided if both >= AGREEMENT * either else plain

    def _fit(self, plane: NDArray[np.float32]) -> NDArray[np.float32]:
        mean = _box_mean(plane)
        cross = _box_mean(self._colours * plane[..., None]) - self._mean * mean[..., None]
        slope = np.matmul(self._inverse, cross[..., None])[..., 0]
        offset = mean - (slope * self._mean).sum(axis=-1)
        return _box_mean(np.dstack([slope / np.float32(255), offset]))

    def _apply(self, model: NDArray[np.float32], region: Region) -> NDArray[np.float32]:
        weights = _sample(model, self.frame_hw, region, cv2.INTER_LINEAR)
        total = weights[..., 3].copy()
        colours = cv2.split(self._frame[region.slices])
        for colour, weight in zip(colours, cv2.split(weights), strict=False):
            total += cv2.multiply(colour, weight, dtype=cv2.CV_32F)
        return total


def open_upsampler(frame: NDArray[np.uint8], grid_hw: tuple[int, int], *, edges: bool) -> Upsampler:
    """The upsampler of a frame: one that follows its edges, or one that is blind to them."""
    return EdgeGuide(frame, grid_hw) if edges else CubicUpsampler((frame.shape[0], frame.shape[1]))


def find_region(
    plane: NDArray[np.float32], frame_hw: tuple[int, int], margin: int = 2 * RADIUS + 1
) -> Region | None:
    """Find the pixels where a plane may show something.

    Args:
        plane: (h, w) float32 soft label.
        frame_hw: height and width of the frame.
        margin: cells around what is seen: the reach of the guided filter.

    Returns:
        The region, or None where no cell reaches ``SEEN``.
    """
    ys, xs = np.nonzero(plane >= SEEN)
    if ys.size == 0:
        return None
    bounds = []
    for cells, length, pixels in zip((ys, xs), plane.shape, frame_hw, strict=True):
        first, last = max(0, cells.min() - margin), min(length, cells.max() + 1 + margin)
        bounds += [int(first * pixels // length), int(-(-last * pixels // length))]
    return Region(*bounds)


def _sample(
    planes: NDArray[np.float32], frame_hw: tuple[int, int], region: Region, method: int
) -> NDArray[np.float32]:
    """Sample (h, w) or (h, w, C) planes at the pixel centres of a region of the frame."""
    size = (region.right - region.left, region.bottom - region.top)
    if size[0] * size[1] >= WHOLE * frame_hw[0] * frame_hw[1]:
        whole = cv2.resize(planes, frame_hw[::-1], interpolation=method)
        return np.asarray(whole, np.float32)[region.slices]
    step_y, step_x = (side / pixels for side, pixels in zip(planes.shape, frame_hw, strict=False))
    to_cells = np.array(
        [
            [step_x, 0, (region.left + 0.5) * step_x - 0.5],
            [0, step_y, (region.top + 0.5) * step_y - 0.5],
        ]
    )
    flags = method | cv2.WARP_INVERSE_MAP
    sampled = cv2.warpAffine(planes, to_cells, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(sampled, np.float32)


def _box_mean(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    side = 2 * RADIUS + 1
    return np.asarray(cv2.blur(planes, (side, side), borderType=cv2.BORDER_REFLECT))
