"""Points as Gaussians on the key grid, and their positions back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcedge_runtime.propagation.points import (
    SIGMA,
    WEAK,
    labels_from_points,
    points_from_labels,
)

FRAME_HW, GRID_HW = (480, 854), (60, 107)
CELL = 8.0
positions = st.tuples(st.floats(24, 829), st.floats(24, 455))


@given(st.lists(positions, min_size=1, max_size=6), st.floats(0.3, 3))
def test_rows_of_labels_sum_to_1_wherever_points_lie(
    places: list[tuple[float, float]], sigma: float
) -> None:
    points = {str(index): place for index, place in enumerate(places)}
    labels = labels_from_points(points, FRAME_HW, GRID_HW, sigma)
    assert labels.shape == (*GRID_HW, 1 + len(points))
    assert labels.dtype == np.float32
    assert labels.min() >= 0
    # Seven float32 terms.
    np.testing.assert_allclose(labels.sum(axis=-1), 1, atol=1e-6)


@given(st.integers(3, 103), st.integers(3, 56))
def test_a_single_gaussian_on_a_cells_centre_decodes_to_its_centre(column: int, row: int) -> None:
    x, y = (column + 0.5) * 854 / 107 - 0.5, (row + 0.5) * 480 / 60 - 0.5
    labels = labels_from_points({"nose": (x, y)}, FRAME_HW, GRID_HW)
    assert labels[row, column, 1] == pytest.approx(1, abs=1e-6)
    (found,) = points_from_labels(labels, FRAME_HW)
    # The Gaussian's flanks are equal but for float32.
    assert (found.x, found.y) == pytest.approx((x, y), abs=1e-3)
    assert found.visible
    assert found.score == pytest.approx(1, abs=1e-6)


@given(positions)
def test_a_single_gaussian_anywhere_decodes_to_well_below_a_cell(
    place: tuple[float, float],
) -> None:
    (found,) = points_from_labels(labels_from_points({"nose": place}, FRAME_HW, GRID_HW), FRAME_HW)
    # Five cells of a Gaussian that spreads over more: up to 0.2 of a cell is cut off unevenly.
    assert math.hypot(found.x - place[0], found.y - place[1]) < 0.25 * CELL


@given(positions)
def test_all_cells_around_decode_a_gaussian_to_a_hundredth_of_a_cell(
    place: tuple[float, float],
) -> None:
    labels = labels_from_points({"nose": place}, FRAME_HW, GRID_HW)
    (found,) = points_from_labels(labels, FRAME_HW, top=25)
    # Sampling a Gaussian of 0.75 cells and cutting it at 2 cells moves its mean by less than this.
    assert math.hypot(found.x - place[0], found.y - place[1]) < 0.03 * CELL


def test_gaussians_are_not_normalised_and_end_at_three_sigma() -> None:
    labels = labels_from_points({"nose": (51.5, 43.5)}, (96, 96), (12, 12), sigma=1.0)
    # The point is 0.0 cells right of column 6 and in row 5.
    np.testing.assert_allclose(labels[5, 6:10, 1], np.exp([0, -0.5, -2, -4.5]), rtol=1e-5)
    assert not labels[5, 10:, 1].any()
    assert labels[5, 6, 0] == pytest.approx(0, abs=1e-6)


def test_points_in_one_place_share_it() -> None:
    labels = labels_from_points({"a": (50, 50), "b": (50, 50)}, (96, 96), (12, 12))
    np.testing.assert_array_equal(labels[..., 1], labels[..., 2])
    assert labels[6, 6, 1] <= 0.5
    first, second = points_from_labels(labels, (96, 96))
    assert first == second


def test_a_point_far_outside_leaves_nothing_and_is_not_visible() -> None:
    labels = labels_from_points({"out": (-100, 40), "in": (40, 40)}, (96, 96), (12, 12))
    assert not labels[..., 1].any()
    lost, found = points_from_labels(labels, (96, 96))
    assert (lost.visible, lost.score) == (False, 0)
    assert math.isnan(lost.x)
    assert math.isnan(lost.y)
    assert found.visible


def test_a_faint_point_keeps_its_position_but_is_not_visible() -> None:
    labels = labels_from_points({"nose": (40, 40)}, (96, 96), (12, 12))
    labels[..., 1] *= 0.9 * WEAK
    (found,) = points_from_labels(labels, (96, 96))
    assert not found.visible
    assert (found.x, found.y) == pytest.approx((40, 40), abs=2)


def test_a_rival_far_away_does_not_pull_a_point() -> None:
    labels = labels_from_points({"nose": (43.5, 43.5)}, (480, 480), (60, 60))
    alone = points_from_labels(labels, (480, 480))
    labels[50, 50, 1] = 0.9
    assert points_from_labels(labels, (480, 480)) == alone


def test_points_on_the_border_stay_there() -> None:
    corners = {"first": (0.0, 0.0), "last": (95.0, 95.0)}
    first, last = points_from_labels(labels_from_points(corners, (96, 96), (12, 12)), (96, 96))
    # Half of the Gaussian lies outside, so that its mean moves inwards by up to sigma.
    assert 0 <= first.x == pytest.approx(first.y)
    assert max(first.x, 95 - last.x) < (0.5 + SIGMA) * CELL
