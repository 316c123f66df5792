"""What a network is told of an object beside the picture: a box and clicks, drawn as planes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.model.prompt_composition import PLANES

Planes = NDArray[np.float32]
Corners = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels, the latter two beyond the box."""


class Click(NamedTuple):
    """A place of a frame that is on an object, or off it.

    Attributes:
        x: in pixels, whole numbers being pixel centres.
        y: likewise.
        positive: whether the object is there.
    """

    x: float
    y: float
    positive: bool = True


def draw_planes(
    hw: tuple[int, int], box: Corners | None, clicks: Sequence[Click], disc: int
) -> Planes:
    """Draw what is said of an object.

    Args:
        hw: height and width.
        box: in these pixels; None where there is none.
        clicks: likewise.
        disc: radius of a click's disc, in pixels.

    Returns:
        (P, H, W) float32, 0 or 1, the planes that ``PLANES`` names; nothing is known of the prior.
    """
    planes = np.zeros((len(PLANES), *hw), np.float32)
    if box is not None:
        left, top, right, bottom = (max(0, round(edge)) for edge in box)
        planes[PLANES.index("box"), top:bottom, left:right] = 1
    for click in clicks:
        draw_click(planes, click, disc)
    return planes


def draw_click(planes: Planes, click: Click, disc: int) -> None:
    """Draw a click into planes, in place; see ``draw_planes``."""
    plane = planes[PLANES.index("positive" if click.positive else "negative")]
    height, width = plane.shape
    top, left = math.ceil(click.y - disc), math.ceil(click.x - disc)
    rows = np.arange(max(0, top), min(height, math.floor(click.y + disc) + 1))
    columns = np.arange(max(0, left), min(width, math.floor(click.x + disc) + 1))
    if not (len(rows) and len(columns)):
        return
    far = (rows[:, None] - click.y) ** 2 + (columns - click.x) ** 2
    plane[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1][far <= disc**2] = 1
