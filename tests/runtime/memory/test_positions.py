"""Where objects are: the peak of a blurred map, and how far it moved."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vcedge_runtime.memory.positions import (
    Positions,
    measure_shift,
    position_from_key,
    positions_from_labels,
)

SIGMA = 0.02


def boxes(*corners: tuple[int, int, int, int]) -> NDArray[np.float32]:
    """Draw (30, 50, L) labels: object k fills rows top to bottom and columns left to right."""
    labels = np.zeros((30, 50, len(corners) + 1), np.float32)
    for channel, (top, left, bottom, right) in enumerate(corners, start=1):
        labels[top:bottom, left:right, channel] = 1
    labels[..., 0] = 1 - labels[..., 1:].sum(axis=-1)
    return labels


@given(st.integers(0, 24), st.integers(0, 44), st.integers(1, 6), st.integers(1, 6))
def test_a_box_stands_at_its_middle(top: int, left: int, height: int, width: int) -> None:
    found = positions_from_labels(boxes((top, left, top + height, left + width)), SIGMA)
    x, y = found.points[0] * (50, 30)
    # At the grid's edge the blur sees the box continued, which draws its peak by half a side.
    assert abs(x - (left + width / 2)) <= 0.5 + width / 2 * (left == 0 or left + width == 50)
    assert abs(y - (top + height / 2)) <= 0.5 + height / 2 * (top == 0 or top + height == 30)
    assert found.areas[0] == height * width


def test_a_large_object_whose_peak_is_flat_stands_at_its_middle() -> None:
    found = positions_from_labels(boxes((4, 10, 24, 40)), SIGMA)
    np.testing.assert_allclose(found.points[0], [25 / 50, 14 / 30], atol=1e-9)


def test_the_larger_part_of_an_object_gives_its_position() -> None:
    labels = boxes((3, 3, 5, 5))
    labels[20:26, 30:36] = (0, 1)
    x, y = positions_from_labels(labels, SIGMA).points[0] * (50, 30)
    assert 30 < x < 36
    assert 20 < y < 26


def test_each_object_has_its_own_position_and_one_that_wins_no_cell_is_not_seen() -> None:
    labels = boxes((2, 2, 6, 6), (20, 40, 24, 44))
    labels = np.concatenate([labels, np.full((30, 50, 1), 0.2, np.float32)], axis=-1)
    found = positions_from_labels(labels, SIGMA)
    assert found.areas.tolist() == [16, 16, 0]
    np.testing.assert_allclose(found.points[0], [4 / 50, 4 / 30], atol=0.02)
    np.testing.assert_allclose(found.points[1], [42 / 50, 22 / 30], atol=0.02)


def test_the_literal_position_is_that_of_the_strongest_key() -> None:
    key = np.full((30, 50, 8), 0.5, np.float32)
    key[9:12, 33:36] *= -4
    found = position_from_key(key, SIGMA)
    np.testing.assert_allclose(found.points, [[34.5 / 50, 10.5 / 30]], atol=0.02)
    assert found.areas.tolist() == [1]


def test_a_key_of_equal_strength_has_its_position_in_the_middle() -> None:
    found = position_from_key(np.ones((4, 6, 3), np.float32), SIGMA)
    np.testing.assert_allclose(found.points, [[0.5, 0.5]])


def test_the_shift_is_weighted_by_area_over_the_objects_seen_in_both() -> None:
    now = Positions(np.array([[0.1, 0.1], [0.5, 0.5], [0.9, 0.9]]), np.array([30.0, 10.0, 0.0]))
    past = Positions(np.array([[0.1, 0.3], [0.9, 0.5]]), np.array([1.0, 5.0]))
    assert measure_shift(now, past) == pytest.approx((30 * 0.2 + 10 * 0.4) / 40)
    assert measure_shift(past, now) == pytest.approx((1 * 0.2 + 5 * 0.4) / 6)


def test_without_an_object_in_common_the_shift_is_infinite() -> None:
    one = Positions(np.zeros((2, 2)), np.array([3.0, 0.0]))
    other = Positions(np.zeros((2, 2)), np.array([0.0, 3.0]))
    none = Positions(np.zeros((0, 2)), np.zeros(0))
    assert measure_shift(one, other) == float("inf")
    assert measure_shift(one, none) == float("inf")
