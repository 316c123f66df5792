"""Where a cell of the current frame may look in a reference: square windows, read tile by tile."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

MASKED_LOGIT = np.float32(-1e4)
"""Added to a logit that must not be read; finite, so that FP16 and empty rows stay finite."""


@dataclass(frozen=True)
class TileWindows:
    """The windows of one key grid, cut into N tiles of A cells that look at patches of P cells.

    Attributes:
        query_index: (N, A) int64, cell of each query; beyond the grid, that of the nearest edge.
        rows: (N, Y) int64, rows of a patch, also beyond the grid; P is Y X, row by row.
        columns: (N, X) int64, its columns, likewise.
        centres: (N, 2) float64, row and column of each tile's middle.
        distance: (A, P) float32, Chebyshev cells from a query to a patch position.
        own: (N, A) bool, whether a query stands for its cell; it does so for each cell once.
        grid_hw: height and width of the key grid.
    """

    query_index: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    centres: NDArray[np.float64]
    distance: NDArray[np.float32]
    own: NDArray[np.bool_]
    grid_hw: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """Bytes of all tables."""
        return sum(t.nbytes for t in vars(self).values() if isinstance(t, np.ndarray))

    def patches(
        self, tiles: NDArray[np.int64], shifts: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Cells that tiles look at, each patch moved by its own shift.

        Args:
            tiles: (T,) int64.
            shifts: (T, R, 2) int64 rows and columns.

        Returns:
            cells: (T, R, P) int64; beyond the grid, that of the nearest edge.
            beyond: (T, R, P) bool, whether a position is beyond the grid.
        """
        rows = self.rows[tiles][:, None] + shifts[..., :1]
        columns = self.columns[tiles][:, None] + shifts[..., 1:]
        return _cross(rows, columns, self.grid_hw)

    def see_any(self, wanted: NDArray[np.bool_], shifts: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each tile's patch, moved by its shift, holds any of the wanted cells.

        Args:
            wanted: (h, w) bool.
            shifts: (N, 2) int64 rows and columns.

        Returns:
            (N,) bool.
        """
        # Counts of rectangles from one table of sums: patches need not be laid out.
        sums = np.asarray(cv2.integral(wanted.astype(np.uint8)))
        top, bottom = (
            np.clip(self.rows[:, edge] + shifts[:, 0] + past, 0, self.grid_hw[0])
            for edge, past in ((0, 0), (-1, 1))
        )
        left, right = (
            np.clip(self.columns[:, edge] + shifts[:, 1] + past, 0, self.grid_hw[1])
            for edge, past in ((0, 0), (-1, 1))
        )
        counts = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
        return np.asarray(counts > 0)

    def find_owners(self, wanted: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Tiles with a query of any of the wanted cells, (h * w,) bool."""
        return np.flatnonzero(wanted[self.query_index].any(axis=1))


def tile_windows(grid_hw: tuple[int, int], radius: int, tile: int = 12) -> TileWindows:
    """Cut a key grid into tiles for the windowed readout (halo tiling).

    Args:
        grid_hw: height and width of the key grid.
        radius: largest window radius in cells; a window has (2 radius + 1)^2 cells.
        tile: wanted tile side in cells; the true one divides the grid as evenly as it can.
    """
    sides = [_split_evenly(length, tile) for length in grid_hw]
    counts = _counts(grid_hw, tile)
    own_rows, own_columns = _pair([_positions(c, s, 0) for c, s in zip(counts, sides, strict=True)])
    query_index, past_edge = _cross(own_rows, own_columns, grid_hw)
    rows, columns = _pair([_positions(c, s, radius) for c, s in zip(counts, sides, strict=True)])
    down, right = (
        np.abs(np.arange(side)[:, None] - (np.arange(side + 2 * radius)[None] - radius))
        for side in sides
    )
    distance = np.maximum(down[:, None, :, None], right[None, :, None, :])
    return TileWindows(
        query_index=query_index,
        rows=rows,
        columns=columns,
        centres=np.stack([own_rows.mean(axis=1), own_columns.mean(axis=1)], axis=-1),
        distance=distance.reshape(query_index.shape[1], -1).astype(np.float32),
        own=~past_edge,
        grid_hw=grid_hw,
    )


def count_tiles(grid_hw: tuple[int, int], tile: int) -> int:
    """How many tiles ``tile_windows`` cuts."""
    rows, columns = _counts(grid_hw, tile)
    return rows * columns


def _counts(grid_hw: tuple[int, int], tile: int) -> list[int]:
    return [-(-length // _split_evenly(length, tile)) for length in grid_hw]


def _split_evenly(length: int, wanted: int) -> int:
    return -(-length // -(-length // wanted))


def _positions(count: int, side: int, margin: int) -> NDArray[np.int64]:
    starts = np.arange(count, dtype=np.int64) * side - margin
    return starts[:, None] + np.arange(side + 2 * margin)


def _pair(axes: list[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns, (N, positions) each, of tiles with these positions along the axes."""
    ys, xs = axes
    return np.repeat(ys, len(xs), axis=0), np.tile(xs, (len(ys), 1))


def _cross(
    rows: NDArray[np.int64], columns: NDArray[np.int64], grid_hw: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Cells of (..., Y) rows with (..., X) columns, (..., Y X), and which are beyond the grid.

    Each axis is clipped by itself: tables of all positions are written, never computed with.
    """
    height, width = grid_hw
    down, right = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
    cells = (down * width)[..., :, None] + right[..., None, :]
    beyond = (down != rows)[..., :, None] | (right != columns)[..., None, :]
    shape = (*rows.shape[:-1], rows.shape[-1] * columns.shape[-1])
    return cells.reshape(shape), beyond.reshape(shape)
