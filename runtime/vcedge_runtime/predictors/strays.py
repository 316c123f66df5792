"""What looks like an object where nobody looked before, while the object is where it was."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.buffers import Block
from vcedge_runtime.frames.windows import Box, Window, find_box, overlap
from vcedge_runtime.predictors.doubt import SEEN

SURE = 0.9
"""Mean share of an object's pixels from which it is surely there: of such masks 2 % overlap the
true one by less than 0.3 (see `docs/results.md`)."""
TRACE = 0.1
"""Share of a pixel from which it is part of what looks like an object (our choice)."""
REACH = 0.4
"""How far from its last box a part of an object may be, as a share of the box's longer side: twice
the room that a new window has on each side (our choice)."""


def clear_strays(
    places: Iterable[int], shares: Block, last: NDArray[np.float32], former: Window, window: Window
) -> None:
    """Take for background what comes into a window apart from an object that is where it was.

    Memory has nothing of what lies beyond a window, so that another thing like the object may be
    taken for it when it comes in, over the window's edge or as the window moves: remembered, it
    would be followed on (our choice). What is near the object's last box stays, as does all of one
    that was not seen, or is no longer surely there.

    Args:
        places: of the objects.
        shares: (1 + K, H, W) float32, the background's and each object's by its place; changed on
            the host, and pushed where anything is.
        last: those of the last frame.
        former: window of the last frame.
        window: of this one.
    """
    hw = (last.shape[1], last.shape[2])
    fresh = find_fresh(former, window, hw)
    if not fresh.any():
        return
    for place in places:
        share = shares.host[1 + place]
        found = share > TRACE
        if not (found & fresh).any():
            continue
        box = find_box(last[1 + place] > SEEN)
        if box is None:
            continue
        rows, columns = _find_near(box, former, window, hw)
        there = share[rows, columns]
        seen = there > SEEN
        if not seen.any() or there[seen].mean() < SURE:
            continue
        parts = np.asarray(cv2.connectedComponents(found.view(np.uint8), connectivity=8)[1])
        strays = np.zeros(parts.max() + 1, bool)
        strays[parts[fresh]] = True
        strays[parts[rows, columns]] = False
        strays[0] = False
        if strays.any():
            stray = strays[parts]
            shares.host[0][stray] += share[stray]
            share[stray] = 0
            shares.push()


def find_fresh(former: Window, window: Window, hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels that the former window did not show, and a key cell's inside the window's edges.

    Not those inside the frame's edges: an object may come in there in parts.

    Args:
        former: window of the last frame.
        window: of this one.
        hw: height and width that windows have.

    Returns:
        (H, W) bool.
    """
    fresh = np.zeros(hw, bool)
    if former != window:
        np.logical_not(overlap(former.in_cells(hw), window.in_cells(hw)), out=fresh)
    for axis, lines in enumerate((fresh, fresh.T)):
        cell = hw[axis] // window.grid_hw[axis]
        first, last = window.at[axis], window.at[axis] + window.grid_hw[axis]
        if first > 0:
            lines[:cell] = True
        if last < window.span_hw[axis]:
            lines[-cell:] = True
    return fresh


def _find_near(
    box: Box, former: Window, window: Window, hw: tuple[int, int]
) -> tuple[slice, slice]:
    """What is near a box in the pixels of one window, in those of another."""
    edges = []
    reach = REACH * max(box[2] - box[0], box[3] - box[1])
    for axis in (0, 1):
        (start, stop), (begin, end) = (w.box[axis::2] for w in (former, window))
        scale, own = (stop - start) / hw[axis], hw[axis] / (end - begin)
        places = ((box[axis] - reach) * scale, (box[2 + axis] + reach) * scale)
        first, last = ((start + place - begin) * own for place in places)
        edges.append(slice(max(0, int(first)), max(0, int(np.ceil(last)))))
    return edges[0], edges[1]
