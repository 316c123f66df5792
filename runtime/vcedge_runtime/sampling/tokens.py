"""The tables by which a key grid is averaged to tokens, and window maps are spread over it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WINDOWS = 8
"""Windows a side of MER's value map (the paper's N; its value is our choice)."""
TOKENS = 32
"""Tokens a side that the value extraction attends to, whatever the grid (our choice)."""


@dataclass(frozen=True)
class TokenGrid:
    """Matrices of one key grid of h x w cells.

    Attributes:
        pool_y: (T, h) float32, rows sum to 1: tokens = pool_y @ plane @ pool_x.
        pool_x: (w, T) float32, columns sum to 1.
        up_y: (h, N) float32, rows sum to 1: plane = up_y @ map @ up_x, bilinear.
        up_x: (N, w) float32, columns sum to 1.
    """

    pool_y: NDArray[np.float32]
    pool_x: NDArray[np.float32]
    up_y: NDArray[np.float32]
    up_x: NDArray[np.float32]


def token_grid(grid_hw: tuple[int, int], tokens: int = TOKENS) -> TokenGrid:
    """Make the tables of a key grid; a grid smaller than its tokens is stretched.

    Args:
        grid_hw: height and width of the key grid.
        tokens: tokens a side, a multiple of ``WINDOWS``.
    """
    height, width = grid_hw
    return TokenGrid(
        pool_y=_average(height, tokens),
        pool_x=np.ascontiguousarray(_average(width, tokens).T),
        up_y=_bilinear(WINDOWS, height),
        up_x=np.ascontiguousarray(_bilinear(WINDOWS, width).T),
    )


def _average(cells: int, tokens: int) -> NDArray[np.float32]:
    """(tokens, cells): each token the mean of what it overlaps, by the share of overlap."""
    edges = np.arange(tokens + 1) * cells / tokens
    starts, ends = edges[:-1, None], edges[1:, None]
    place = np.arange(cells)[None]
    overlap = np.clip(np.minimum(ends, place + 1) - np.maximum(starts, place), 0, None)
    return np.asarray(overlap / overlap.sum(axis=1, keepdims=True), np.float32)


def _bilinear(count: int, cells: int) -> NDArray[np.float32]:
    """(cells, count): linear interpolation between the centres of ``count`` equal parts."""
    centre = np.clip((np.arange(cells) + 0.5) * count / cells - 0.5, 0, count - 1)
    distance = np.abs(centre[:, None] - np.arange(count)[None])
    return np.asarray(np.clip(1 - distance, 0, None), np.float32)
