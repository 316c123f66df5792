"""Tiles: every cell is a query once, and sees exactly the cells of its window."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vcedge_runtime.sampling.windows import MASKED_LOGIT, TileWindows, tile_windows

GRIDS = st.tuples(st.integers(1, 40), st.integers(1, 40))
RADII = st.integers(1, 12)
TILES = st.integers(1, 16)


def count_looks(windows: TileWindows, cells: int) -> NDArray[np.int64]:
    """Count how often each cell is seen, without a penalty, by the query that stands for a cell."""
    tiles, queries = windows.query_index.shape
    looks = np.zeros((tiles * queries, cells), np.int64)
    seen = (windows.key_bias[:, None, :] + windows.window_bias[None]) == 0
    tile, query, patch = np.nonzero(seen)
    np.add.at(looks, (tile * queries + query, windows.key_index[tile, patch]), 1)
    return looks[windows.position]


def dense_windows(grid_hw: tuple[int, int], radius: int) -> NDArray[np.bool_]:
    """State plainly which cell sees which."""
    ys, xs = (axis.reshape(-1) for axis in np.indices(grid_hw))
    near_y = np.abs(ys[:, None] - ys[None]) <= radius
    return near_y & (np.abs(xs[:, None] - xs[None]) <= radius)


@settings(max_examples=60, deadline=None)
@given(GRIDS, RADII, TILES)
@example((40, 40), 12, 1)
@example((1, 1), 12, 16)
@example((13, 40), 12, 12)
def test_every_cell_sees_the_cells_of_its_window_once(
    grid_hw: tuple[int, int], radius: int, tile: int
) -> None:
    windows = tile_windows(grid_hw, radius, tile)
    looks = count_looks(windows, grid_hw[0] * grid_hw[1])
    np.testing.assert_array_equal(looks, dense_windows(grid_hw, radius))


@settings(deadline=None)
@given(GRIDS, RADII, TILES)
def test_position_finds_every_cell_among_the_queries(
    grid_hw: tuple[int, int], radius: int, tile: int
) -> None:
    windows = tile_windows(grid_hw, radius, tile)
    found = windows.query_index.reshape(-1)[windows.position]
    np.testing.assert_array_equal(found, np.arange(grid_hw[0] * grid_hw[1]))


@settings(deadline=None)
@given(GRIDS, RADII, TILES)
def test_tables_are_what_the_graph_takes(grid_hw: tuple[int, int], radius: int, tile: int) -> None:
    windows = tile_windows(grid_hw, radius, tile)
    for table in vars(windows).values():
        assert table.flags.c_contiguous
        assert table.dtype == (np.float32 if table.dtype.kind == "f" else np.int64)
    for index in (windows.query_index, windows.key_index):
        assert index.min() >= 0
        assert index.max() < grid_hw[0] * grid_hw[1]
    for bias in (windows.key_bias, windows.window_bias):
        assert set(np.unique(bias)) <= {0, MASKED_LOGIT}
    assert windows.nbytes == sum(table.nbytes for table in vars(windows).values())


@settings(deadline=None)
@given(GRIDS, TILES)
def test_tiles_are_no_larger_than_wanted_and_leave_little_over(
    grid_hw: tuple[int, int], tile: int
) -> None:
    tiles, queries = tile_windows(grid_hw, 1, tile).query_index.shape
    assert queries <= tile**2
    # Splitting a length into n equal parts leaves fewer than n cells over.
    counts = [-(-length // tile) for length in grid_hw]
    assert tiles <= counts[0] * counts[1]
    assert tiles * queries < (grid_hw[0] + counts[0]) * (grid_hw[1] + counts[1])


@pytest.mark.parametrize("radius", [1, 12])
def test_the_smallest_window_that_holds_a_grid_masks_nothing_but_the_outside(radius: int) -> None:
    grid_hw = (radius + 1, radius + 1)
    windows = tile_windows(grid_hw, radius, tile=16)
    assert (count_looks(windows, (radius + 1) ** 2) == 1).all()
