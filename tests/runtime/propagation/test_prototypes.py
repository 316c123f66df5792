"""Positions of cells."""

from __future__ import annotations

import numpy as np
import pytest

from vcedge_runtime.propagation.prototypes import sine_positions

GRIDS = pytest.mark.parametrize("grid_hw", [(1, 1), (2, 7), (15, 27), (30, 54), (64, 9)])


@GRIDS
def test_every_cell_has_a_position_of_its_own(grid_hw: tuple[int, int]) -> None:
    positions = sine_positions(grid_hw, 128)
    assert positions.shape == (*grid_hw, 128)
    assert positions.dtype == np.float32
    assert np.abs(positions).max() <= 1
    cells = positions.reshape(-1, 128).astype(np.float64)
    squares = (cells**2).sum(axis=1)
    apart = squares[:, None] + squares - 2 * cells @ cells.T
    np.fill_diagonal(apart, np.inf)
    # Two cells at random are 128 apart.
    assert apart.min() > 1


@GRIDS
def test_the_first_half_tells_the_row_and_the_second_the_column(grid_hw: tuple[int, int]) -> None:
    positions = sine_positions(grid_hw, 32)
    np.testing.assert_array_equal(positions[..., :16], positions[:, :1, :16].repeat(grid_hw[1], 1))
    np.testing.assert_array_equal(positions[..., 16:], positions[:1, :, 16:].repeat(grid_hw[0], 0))
    transposed = sine_positions(grid_hw[::-1], 32).transpose(1, 0, 2)
    np.testing.assert_array_equal(positions[..., :16], transposed[..., 16:])


def test_a_place_is_a_share_of_the_side_and_not_a_number_of_cells() -> None:
    coarse, fine = sine_positions((3, 5), 32), sine_positions((9, 15), 32)
    # The middles of every third cell coincide; angles of up to 100 in float64, stored in float32.
    np.testing.assert_allclose(fine[1::3, 1::3], coarse, rtol=0, atol=1e-6)


def test_channels_are_sines_and_cosines_of_falling_rates() -> None:
    positions = sine_positions((200, 1), 64).astype(np.float64)
    sines, cosines = positions[:, 0, :16], positions[:, 0, 16:32]
    # Rounded to float32.
    np.testing.assert_allclose(sines**2 + cosines**2, 1, rtol=0, atol=1e-6)
    turns = np.unwrap(np.arctan2(sines, cosines), axis=0)
    # From the middle of the first cell to that of the last is 199 of 200 of the side.
    rates = (turns[-1] - turns[0]) / (2 * np.pi) * 200 / 199
    assert rates[0] == pytest.approx(16, rel=1e-4)
    np.testing.assert_allclose(rates[1:] / rates[:-1], 10000 ** (-1 / 16), rtol=1e-3)
