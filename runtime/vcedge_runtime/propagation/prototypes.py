"""SRNet between its graphs: objects compete for pixels, prototypes are told where they look."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SURE = np.float32(1e-7)
"""Probabilities are kept this far from 0 and 1."""
TURNS = 16
"""Periods of the fastest sine over a side of the grid (our choice)."""


def aggregate_softly(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Let objects compete for each pixel; the background is where no object is.

    The background's probability is the product of one minus each object's; the odds of all of them
    are then brought to a sum of 1 (Oh et al. 2019, as STCN has it).

    Args:
        logits: (K, H, W) float32 of each object's own mask.

    Returns:
        (K + 1, H, W) float32 that sum to 1 over objects, the background first.
    """
    # The sigmoid of the magnitude, so that exp cannot overflow.
    falling = np.exp(-np.abs(logits))
    own = np.where(logits >= 0, 1, falling) / (1 + falling)
    shares = np.concatenate([(1 - own).prod(axis=0, keepdims=True), own])
    np.clip(shares, SURE, 1 - SURE, out=shares)
    shares /= 1 - shares
    shares /= shares.sum(axis=0, keepdims=True)
    return shares.astype(np.float32, copy=False)


def sine_positions(grid_hw: tuple[int, int], channels: int) -> NDArray[np.float32]:
    """Fixed two-dimensional position embedding: sines and cosines of the row, then of the column.

    Args:
        grid_hw: height and width of the key grid.
        channels: C, a multiple of 4.

    Returns:
        (h, w, C) float32.
    """
    quarter = channels // 4
    rates = TURNS * 10000.0 ** (-np.arange(quarter) / quarter)
    found = np.empty((*grid_hw, channels), np.float32)
    for axis, length in enumerate(grid_hw):
        place = (np.arange(length) + 0.5) / length * 2 * np.pi
        angle = np.expand_dims(place, 1 - axis)[..., None] * rates
        start = 2 * axis * quarter
        found[..., start : start + quarter] = np.sin(angle)
        found[..., start + quarter : start + 2 * quarter] = np.cos(angle)
    return found
