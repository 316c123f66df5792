"""The positions that SRNet's prototypes are told of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SURE = np.float32(1e-7)
"""Where objects compete, their probabilities are kept this far from 0 and 1."""
TURNS = 16
"""Periods of the fastest sine over a side of the grid (our choice)."""


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
