"""What part of a frame is looked at for an object, and how large: cut before it is resized."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.model.prompt_composition import LONGEST
from vcedge_runtime.prompts.planes import Click, Corners
from vcedge_runtime.propagation.upsample import Region

LEAST_SIDE = 32
"""Of a view, in the frame's pixels (our choice): nothing is seen better in fewer."""
ZOOM = 0.25
"""Side of the view about a click where nothing was found in a larger one, as a share of its own."""


@dataclass(frozen=True)
class View:
    """A part of a frame, and the size at which the network sees it.

    Attributes:
        region: of the frame.
        work_hw: height and width there, whole cells.
    """

    region: Region
    work_hw: tuple[int, int]

    @property
    def region_hw(self) -> tuple[int, int]:
        """Height and width of the region, in the frame's pixels."""
        region = self.region
        return region.bottom - region.top, region.right - region.left

    @property
    def scale_xy(self) -> tuple[float, float]:
        """Network's pixels for each of the frame's."""
        (height, width), (rows, columns) = self.region_hw, self.work_hw
        return columns / width, rows / height

    def move_box(self, box: Corners) -> Corners:
        """A box of the frame as the network sees it."""
        x, y = self.scale_xy
        left, top = self.region.left, self.region.top
        return (box[0] - left) * x, (box[1] - top) * y, (box[2] - left) * x, (box[3] - top) * y

    def move_clicks(self, clicks: Sequence[Click]) -> list[Click]:
        """Clicks of the frame as the network sees them."""
        x, y = self.scale_xy
        return [
            Click(
                (click.x + 0.5 - self.region.left) * x - 0.5,
                (click.y + 0.5 - self.region.top) * y - 0.5,
                click.positive,
            )
            for click in clicks
        ]


class ViewSize(NamedTuple):
    """How large views are.

    Attributes:
        size: short side as the network sees it, in pixels.
        stride: pixels of a cell.
        margin: room on each side of a box, as a share of its longer side.
    """

    size: int
    stride: int
    margin: float


def view_whole(frame_hw: tuple[int, int], sizes: ViewSize) -> View:
    """Look at all of a frame, its short side as long as the network's size."""
    short, long = sorted(frame_hw)
    scale = sizes.size / short * min(1.0, LONGEST * short / long)
    return View(Region(0, frame_hw[0], 0, frame_hw[1]), _fit_cells(frame_hw, scale, sizes))


def view_box(box: Corners, frame_hw: tuple[int, int], sizes: ViewSize) -> View:
    """Look at a box and what surrounds it: a square, of which what leaves the frame is left out."""
    left, top, right, bottom = box
    side = max(right - left, bottom - top) * (1 + 2 * sizes.margin)
    return _view_square(((left + right) / 2, (top + bottom) / 2), side, frame_hw, sizes)


def view_click(click: Click, former: View, frame_hw: tuple[int, int], sizes: ViewSize) -> View:
    """Look closer at a click than another view did."""
    return _view_square(
        (click.x + 0.5, click.y + 0.5), ZOOM * max(former.region_hw), frame_hw, sizes
    )


def box_of_mask(mask: NDArray[np.bool_]) -> Corners:
    """The box of what a frame's mask shows."""
    return box_of_part(mask, Region(0, mask.shape[0], 0, mask.shape[1]))


def box_of_part(plane: NDArray[np.bool_], region: Region) -> Corners:
    """The box of what a region shows, in the frame's pixels."""
    x, y, width, height = cv2.boundingRect(plane.view(np.uint8))
    left, top = region.left + x, region.top + y
    return float(left), float(top), float(left + width), float(top + height)


def _view_square(
    middle: tuple[float, float], side: float, frame_hw: tuple[int, int], sizes: ViewSize
) -> View:
    side = max(side, float(LEAST_SIDE))
    edges = []
    for at, pixels in zip(middle, frame_hw[::-1], strict=True):
        first = min(max(at - side / 2, 0.0), max(pixels - side, 0.0))
        edges.append((int(first), min(pixels, int(first) + math.ceil(side))))
    (left, right), (top, bottom) = edges
    scale = sizes.size / side
    return View(
        Region(top, bottom, left, right), _fit_cells((bottom - top, right - left), scale, sizes)
    )


def _fit_cells(region_hw: tuple[int, int], scale: float, sizes: ViewSize) -> tuple[int, int]:
    stride = sizes.stride
    rows, columns = (max(2, round(pixels * scale / stride)) * stride for pixels in region_hw)
    return rows, columns
