"""How a frame lies in what is encoded: resized to it, or within a border."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.frames.colour import LAB, InputColour
from vcedge_runtime.frames.resizing import check_size, prepare_frame, scale_for, working_size

FITS = ("resize", "pad")
"""A frame takes whole key cells: its sides are brought to them, each on its own, or they keep their
ratio and get a border (STCN)."""


@dataclass(frozen=True)
class Fit:
    """Where the frame is in what is encoded; what is beside it is border, half on each side.

    Attributes:
        work_hw: height and width in which frames are encoded, whole key cells.
        content_hw: of that, what the frame itself takes.
    """

    work_hw: tuple[int, int]
    content_hw: tuple[int, int]

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the frame in (H, W) planes of the working size."""
        top, left = (
            slice((whole - own) // 2, (whole - own) // 2 + own)
            for whole, own in zip(self.work_hw, self.content_hw, strict=True)
        )
        return top, left

    def pad(self, planes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Put (h, w, ...) planes of the frame into a border of zeros, (H, W, ...)."""
        if self.work_hw == self.content_hw:
            return planes
        padded = np.zeros((*self.work_hw, *planes.shape[2:]), np.float32)
        padded[self.slices] = planes
        return padded

    def prepare(self, frame: NDArray[np.uint8], colour: InputColour = LAB) -> NDArray[np.float32]:
        """Convert a frame to what an encoder takes; the border is of the mean colour.

        Args:
            frame: (H', W', 3) uint8 BGR; left as it is.
            colour: the encoder's.

        Returns:
            (H, W, 3) float32, owned by the caller.
        """
        return self.pad(prepare_frame(frame, self.content_hw, colour))


def fit_frame(frame_hw: tuple[int, int], size: int, stride: int, *, pads: bool) -> Fit:
    """Choose the working size of a frame, and where the frame lies in it.

    Args:
        frame_hw: the frame's height and width.
        size: wanted short side, 1 to ``LARGEST_SIZE``; with a border, that of the frame in it.
        stride: pixels per key cell.
        pads: whether there is a border.

    Raises:
        TrackerError: see ``working_size``.
    """
    if not pads:
        work_hw = working_size(frame_hw, size, stride)
        return Fit(work_hw, work_hw)
    scale = scale_for(frame_hw, size)
    height, width = (max(1, round(side * scale)) for side in frame_hw)
    work_hw = (max(2, -(-height // stride)) * stride, max(2, -(-width // stride)) * stride)
    check_size(work_hw, size, frame_hw)
    return Fit(work_hw, (height, width))
