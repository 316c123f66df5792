"""Tiles: every cell is a query once, and sees exactly the cells of its window."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vcedge_runtime.sampling.windows import TileWindows, tile_windows

GRIDS = st.tuples(st.integers(1, 40), st.integers(1, 40))
RADII = st.integers(1, 12)
TILES = st.integers(1, 16)


def patches_of(windows: TileWindows) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Cells that every tile looks at where nothing moved, and which of them are beyond the grid."""
    count = len(windows.query_index)
    cells, beyond = windows.patches(np.arange(count), np.zeros((count, 1, 2), np.int64))
    return cells[:, 0], beyond[:, 0]


def count_looks(windows: TileWindows, radius: int, cells: int) -> NDArray[np.int64]:
    """Count how often each cell is seen, without a penalty, by the query that stands for a cell."""
    tiles, queries = windows.query_index.shape
    looks = np.zeros((tiles * queries, cells), np.int64)
    cells_seen, beyond = patches_of(windows)
    seen = ~beyond[:, None, :] & (windows.distance[None] <= radius)
    tile, query, patch = np.nonzero(seen)
    np.add.at(looks, (tile * queries + query, cells_seen[tile, patch]), 1)
    order = np.argsort(windows.query_index[windows.own])
    return looks[np.flatnonzero(windows.own)[order]]


def dense_windows(grid_hw: tuple[int, int], radius: int) -> NDArray[np.bool_]:
    """State plainly which cell sees which."""
    ys, xs = (axis.reshape(-1) for axis in np.indices(grid_hw))
    near_y = np.abs(ys[:, None] - ys[None]) <= radius
    return near_y & (np.abs(xs[:, None] - xs[None]) <= radius)


@settings(max_examples=60)
@given(GRIDS, RADII, TILES)
@example((40, 40), 12, 1)
@example((1, 1), 12, 16)
@example((13, 40), 12, 12)
def test_every_cell_sees_the_cells_of_its_window_once(
    grid_hw: tuple[int, int], radius: int, tile: int
) -> None:
    windows = tile_windows(grid_hw, radius, tile)
    looks = count_looks(windows, radius, grid_hw[0] * grid_hw[1])
    np.testing.assert_array_equal(looks, dense_windows(grid_hw, radius))


@given(GRIDS, RADII, TILES)
def test_every_cell_is_the_own_of_one_query(
    grid_hw: tuple[int, int], radius: int, tile: int
) -> None:
    windows = tile_windows(grid_hw, radius, tile)
    found = np.sort(windows.query_index[windows.own])
    np.testing.assert_array_equal(found, np.arange(grid_hw[0] * grid_hw[1]))


@settings(max_examples=40)
@given(GRIDS, RADII, TILES, st.integers(0, 99))
def test_tiles_are_found_by_the_cells_that_they_look_at_and_own(
    grid_hw: tuple[int, int], radius: int, tile: int, seed: int
) -> None:
    rng, windows = np.random.default_rng(seed), tile_windows(grid_hw, radius, tile)
    wanted = rng.random(grid_hw) < 2 / (grid_hw[0] * grid_hw[1])
    shifts = rng.integers(-radius, radius + 1, (len(windows.query_index), 2))
    cells, beyond = windows.patches(np.arange(len(shifts)), shifts[:, None])
    looked = wanted.reshape(-1)[cells[:, 0]] & ~beyond[:, 0]
    np.testing.assert_array_equal(windows.see_any(wanted, shifts), looked.any(axis=1))
    owners = wanted.reshape(-1)[windows.query_index].any(axis=1)
    found = windows.find_owners(wanted.reshape(-1))
    np.testing.assert_array_equal(found, np.flatnonzero(owners))


@settings(max_examples=40)
@given(GRIDS, RADII, TILES, st.integers(-50, 50), st.integers(-50, 50))
def test_a_shift_moves_every_cell_that_is_seen(
    grid_hw: tuple[int, int], radius: int, tile: int, down: int, right: int
) -> None:
    windows = tile_windows(grid_hw, radius, tile)
    tiles, (height, width) = np.arange(len(windows.query_index)), grid_hw
    cells, beyond = windows.patches(tiles, np.tile(np.array([[down, right]]), (len(tiles), 1, 1)))
    rows = np.repeat(windows.rows + down, windows.columns.shape[1], axis=1)
    columns = np.tile(windows.columns + right, (1, windows.rows.shape[1]))
    outside = (rows < 0) | (rows >= height) | (columns < 0) | (columns >= width)
    np.testing.assert_array_equal(beyond[:, 0], outside)
    np.testing.assert_array_equal(cells[:, 0][~outside], (rows * width + columns)[~outside])
    assert cells.min() >= 0
    assert cells.max() < height * width


@given(GRIDS, RADII, TILES)
def test_tables_are_what_the_graph_takes(grid_hw: tuple[int, int], radius: int, tile: int) -> None:
    windows = tile_windows(grid_hw, radius, tile)
    tables = [table for table in vars(windows).values() if isinstance(table, np.ndarray)]
    for table in tables:
        assert table.flags.c_contiguous
        assert table.dtype in (np.float32, np.float64, np.int64, np.bool_)
    assert windows.query_index.min() >= 0
    assert windows.query_index.max() < grid_hw[0] * grid_hw[1]
    assert windows.nbytes == sum(table.nbytes for table in tables)


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
    assert (count_looks(windows, radius, (radius + 1) ** 2) == 1).all()
