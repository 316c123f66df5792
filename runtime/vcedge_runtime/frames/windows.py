"""Where a frame is looked at: a rectangle of whole key cells, brought to the working size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

LARGE = 1024
"""Pixels of a frame's side from which a window's bounds need not be exact to one (our choice)."""
Box = tuple[float, float, float, float]
"""Top, left, bottom and right, in pixels."""


@dataclass(frozen=True)
class Window:
    """A rectangle of a frame that is worked on at its own scale.

    The frame is divided into ``span_hw`` cells, of which the window shows ``grid_hw``, from cell
    ``at`` on. So it lies in the frame whatever its scale, and two windows of one scale differ by
    whole cells. Cells are as good as square: their sides differ by less than one in ``grid_hw``.

    Attributes:
        frame_hw: height and width of the frame, in pixels.
        grid_hw: height and width of the key grid.
        span_hw: cells that the whole frame has at this scale, at least ``grid_hw``.
        at: first row and column.
    """

    frame_hw: tuple[int, int]
    grid_hw: tuple[int, int]
    span_hw: tuple[int, int]
    at: tuple[int, int] = (0, 0)

    @property
    def is_whole(self) -> bool:
        """Whether it shows the whole frame."""
        return self.span_hw == self.grid_hw

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index into the frame, and into whatever has a value for each of its pixels."""
        bounds = zip(self.frame_hw, self.grid_hw, self.span_hw, self.at, strict=True)
        top, left = (
            slice(_bound(at, pixels, span), _bound(at + cells, pixels, span))
            for pixels, cells, span, at in bounds
        )
        return top, left

    @property
    def box(self) -> Box:
        """What it shows of the frame."""
        rows, columns = self.slices
        return rows.start, columns.start, rows.stop, columns.stop

    def in_cells(self, grid_hw: tuple[int, int]) -> Window:
        """The same window with a grid of so many cells, each a part of one of its own."""
        ratios = [fine // coarse for fine, coarse in zip(grid_hw, self.grid_hw, strict=True)]
        (height, width), (top, left) = self.span_hw, self.at
        span = (height * ratios[0], width * ratios[1])
        return Window(self.frame_hw, grid_hw, span, (top * ratios[0], left * ratios[1]))


def _bound(cell: int, pixels: int, span: int) -> int:
    """First pixel of a cell.

    Of a large camera's it is a multiple of 4, so that what a window shows can be halved twice.
    """
    grain = 4 if pixels >= LARGE else 1
    return pixels if cell == span else grain * round(cell * pixels / span / grain)


def bring_over(
    array: NDArray[np.float32], former: Window, window: Window, moved: NDArray[np.float32]
) -> None:
    """Move what was seen through one window to where another one shows it.

    By whole cells where both have one scale, interpolated otherwise; beyond the former window its
    border stands (our choice).

    Args:
        array: (h, w, ...) float32, of the former window's cells.
        former: through which it was seen.
        window: the other one.
        moved: takes the result, of the array's shape.
    """
    found = array
    for axis in (0, 1):
        places = np.arange(array.shape[axis], dtype=np.float64)
        # The middle of a cell, in cells of the whole frame, is the same through both.
        middle = (places + window.at[axis] + 0.5) / window.span_hw[axis]
        wanted = middle * former.span_hw[axis] - former.at[axis] - 0.5
        wanted = wanted.clip(0, array.shape[axis] - 1)
        first = np.floor(wanted + 1e-6).astype(np.int64)
        share = (wanted - first).clip(0, 1).astype(np.float32)
        at_first = found.take(first, axis=axis)
        if share.max() > 1e-3:
            after = found.take(np.minimum(first + 1, array.shape[axis] - 1), axis=axis)
            share = share.reshape([-1 if each == axis else 1 for each in range(array.ndim)])
            at_first += share * (after - at_first)
        found = at_first
    moved[...] = found


def overlap(former: Window, window: Window) -> NDArray[np.bool_]:
    """(h, w) bool: cells of a window whose middles the other one shows too."""
    axes = []
    for axis, cells in enumerate(window.grid_hw):
        middle = (np.arange(cells) + window.at[axis] + 0.5) / window.span_hw[axis]
        place = middle * former.span_hw[axis] - former.at[axis]
        axes.append((place >= 0) & (place < former.grid_hw[axis]))
    return np.asarray(axes[0][:, None] & axes[1])


def find_box(mask: NDArray[np.bool_], trim: float = 0.01) -> Box | None:
    """Find the rectangle of a mask, but for specks.

    Args:
        mask: (H, W) bool.
        trim: share of its pixels that may lie beyond each side.

    Returns:
        None where it is empty.
    """
    rows = np.asarray(cv2.reduce(mask.view(np.uint8), 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S))
    columns = np.asarray(cv2.reduce(mask.view(np.uint8), 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S))
    first, last = [], []
    for sums in (rows.ravel(), columns.ravel()):
        filled: NDArray[Any] = np.cumsum(sums)
        if not filled[-1]:
            return None
        least = trim * filled[-1]
        first.append(float(np.searchsorted(filled, least, side="right")))
        last.append(float(np.searchsorted(filled, filled[-1] - least) + 1))
    return first[0], first[1], last[0], last[1]
