"""First masks without a model: GrabCut (Rother et al. 2004), as OpenCV has it."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.prompts.asking import Asked
from vcedge_runtime.prompts.network import Chances
from vcedge_runtime.prompts.planes import Click, Corners
from vcedge_runtime.prompts.views import box_of_mask
from vcedge_runtime.propagation.upsample import Region

MOST_SIDE = 320
"""Long side of the picture that it works on, in pixels: it takes seconds for more."""
ROUNDS = 5
GUESSED = 0.35
"""Side of the square about a click in which the object is sought, as a share of the short side."""
DISC = 3
"""Radius of what is certain about a click."""


class GrabCutSegmenter:
    """Finds an object by its colours against those around it; it knows no objects."""

    def find(
        self, frame: NDArray[np.uint8], asked: Asked, prior: NDArray[np.float32] | None = None
    ) -> Chances:
        """Find one object; see ``NetworkSegmenter.find``; of a prior its box alone is used."""
        if asked.box is None and not asked.positive and prior is not None:
            asked = replace(asked, box=box_of_mask(prior > 0.5))
        height, width = frame.shape[:2]
        scale = min(1.0, MOST_SIDE / max(height, width))
        small_hw = (max(2, round(height * scale)), max(2, round(width * scale)))
        small = cv2.resize(frame, small_hw[::-1], interpolation=cv2.INTER_AREA)
        seeds = _draw_seeds(small_hw, asked, (small_hw[1] / width, small_hw[0] / height))
        mask = _cut(np.asarray(small, np.uint8), seeds)
        fine = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)
        return Chances(Region(0, height, 0, width), np.asarray(fine, np.float32))


def _draw_seeds(
    hw: tuple[int, int], asked: Asked, scale_xy: tuple[float, float]
) -> NDArray[np.uint8]:
    """Where the object is for certain, likely, and for certain not, in GrabCut's words."""
    seeds = np.full(hw, cv2.GC_BGD, np.uint8)
    x, y = scale_xy
    boxes = [asked.box] if asked.box else [_guess_box(c, hw, scale_xy) for c in asked.positive]
    for left, top, right, bottom in boxes:
        rows = slice(int(top * y), max(int(top * y) + 1, round(bottom * y)))
        columns = slice(int(left * x), max(int(left * x) + 1, round(right * x)))
        seeds[rows, columns] = cv2.GC_PR_FGD
    for click in asked.clicks:
        at = (round((click.x + 0.5) * x - 0.5), round((click.y + 0.5) * y - 0.5))
        cv2.circle(seeds, at, DISC, cv2.GC_FGD if click.positive else cv2.GC_BGD, cv2.FILLED)
    return seeds


def _guess_box(click: Click, hw: tuple[int, int], scale_xy: tuple[float, float]) -> Corners:
    reach = 0.5 * GUESSED * min(hw[0] / scale_xy[1], hw[1] / scale_xy[0])
    return (
        max(0.0, click.x - reach),
        max(0.0, click.y - reach),
        click.x + reach,
        click.y + reach,
    )


def _cut(picture: NDArray[np.uint8], seeds: NDArray[np.uint8]) -> NDArray[np.float32]:
    mask = seeds.copy()
    sides = [(seeds == kind).any() for kind in (cv2.GC_BGD, cv2.GC_PR_FGD)]
    if all(sides):
        behind, before = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.setRNGSeed(0)
        whole = (0, 0, 1, 1)
        cv2.grabCut(picture, mask, whole, behind, before, ROUNDS, cv2.GC_INIT_WITH_MASK)
    return np.asarray((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD), np.float32)
