"""Where a cell of the current frame may look in a reference: square windows, read tile by tile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MASKED_LOGIT = np.float32(-1e4)
"""Added to a logit that must not be read; finite, so that FP16 and empty rows stay finite."""


@dataclass(frozen=True)
class TileWindows:
    """The windows of one key grid, cut into N tiles of A cells that look at patches of P cells.

    Attributes:
        query_index: (N, A) int64, cell of each query; beyond the grid, that of the nearest edge.
        key_index: (N, P) int64, cell of each patch position; beyond the grid likewise.
        key_bias: (N, P) float32, 0 inside the grid, ``MASKED_LOGIT`` beyond.
        window_bias: (A, P) float32, 0 inside a query's window, ``MASKED_LOGIT`` outside.
        position: (h * w,) int64, where each cell stands in the flattened (N * A) queries.
    """

    query_index: NDArray[np.int64]
    key_index: NDArray[np.int64]
    key_bias: NDArray[np.float32]
    window_bias: NDArray[np.float32]
    position: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        """Bytes of all tables."""
        return sum(table.nbytes for table in vars(self).values())


def tile_windows(grid_hw: tuple[int, int], radius: int, tile: int = 12) -> TileWindows:
    """Cut a key grid into tiles for the windowed readout (halo tiling).

    Args:
        grid_hw: height and width of the key grid.
        radius: window radius in cells; a window has (2 radius + 1)^2 cells.
        tile: wanted tile side in cells; the true one divides the grid as evenly as it can.
    """
    sides = [_split_evenly(length, tile) for length in grid_hw]
    counts = [-(-length // side) for length, side in zip(grid_hw, sides, strict=True)]
    queries = [_positions(c, s, 0) for c, s in zip(counts, sides, strict=True)]
    patches = [_positions(c, s, radius) for c, s in zip(counts, sides, strict=True)]
    query_index, _ = _cells(queries, grid_hw)
    key_index, beyond = _cells(patches, grid_hw)
    offsets = [
        np.abs(np.arange(side)[:, None] - (np.arange(side + 2 * radius)[None] - radius)) > radius
        for side in sides
    ]
    outside = offsets[0][:, None, :, None] | offsets[1][None, :, None, :]
    return TileWindows(
        query_index=query_index,
        key_index=key_index,
        key_bias=np.where(beyond, MASKED_LOGIT, np.float32(0)),
        window_bias=np.where(outside, MASKED_LOGIT, np.float32(0)).reshape(
            query_index.shape[1], -1
        ),
        position=_inverse(grid_hw, sides, counts),
    )


def _split_evenly(length: int, wanted: int) -> int:
    return -(-length // -(-length // wanted))


def _positions(count: int, side: int, margin: int) -> NDArray[np.int64]:
    starts = np.arange(count, dtype=np.int64) * side - margin
    return starts[:, None] + np.arange(side + 2 * margin)


def _cells(
    axes: list[NDArray[np.int64]], grid_hw: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    (ys, xs), (height, width) = axes, grid_hw
    inside_y, inside_x = np.clip(ys, 0, height - 1), np.clip(xs, 0, width - 1)
    cells = inside_y[:, None, :, None] * width + inside_x[None, :, None, :]
    beyond = (inside_y != ys)[:, None, :, None] | (inside_x != xs)[None, :, None, :]
    tiles = ys.shape[0] * xs.shape[0]
    return cells.reshape(tiles, -1), np.broadcast_to(beyond, cells.shape).reshape(tiles, -1)


def _inverse(grid_hw: tuple[int, int], sides: list[int], counts: list[int]) -> NDArray[np.int64]:
    ys, xs = np.arange(grid_hw[0])[:, None], np.arange(grid_hw[1])[None]
    tile = (ys // sides[0]) * counts[1] + xs // sides[1]
    within = (ys % sides[0]) * sides[1] + xs % sides[1]
    return (tile * sides[0] * sides[1] + within).reshape(-1).astype(np.int64)
