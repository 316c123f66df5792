"""PCK: what counts, how it is pooled, and the box that is its unit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from vcedge.evaluation.pck import PckPool, normalised_distances
from vcedge_runtime.errors import EvaluationError

JOINTS = ("neck", "knee")


def test_rates_are_pooled_per_joint_and_then_averaged_over_joints() -> None:
    pool = PckPool(JOINTS, (0.1, 0.2))
    every = np.ones((1, 2), bool)
    for near in (0.05, 0.15, 0.15):
        pool.add(np.array([[near, 0.3]]), np.array([[True, False]]))
    pool.add(np.array([[0.25, 0.05]]), every)
    score = pool.score()
    np.testing.assert_allclose(score.rates, [[1 / 4, 3 / 4], [1, 1]])
    # The knee was counted once and weighs as much as the neck.
    np.testing.assert_allclose(score.mean, [(1 / 4 + 1) / 2, (3 / 4 + 1) / 2])
    np.testing.assert_allclose(score.pooled, [2 / 5, 4 / 5])
    assert score.points == 5


def test_averaging_pck_of_each_video_would_be_another_figure() -> None:
    pool = PckPool(("neck",), (0.2,))
    pool.add(np.full((9, 1), 0.1), np.ones((9, 1), bool))
    pool.add(np.full((1, 1), 0.9), np.ones((1, 1), bool))
    assert pool.score().mean[0] == pytest.approx(0.9)


def test_a_distance_of_exactly_the_threshold_is_correct() -> None:
    pool = PckPool(("neck",), (0.5,))
    pool.add(np.array([[0.5]]), np.ones((1, 1), bool))
    assert pool.score().mean[0] == 1


def test_a_joint_that_never_counted_is_left_out_of_the_mean() -> None:
    pool = PckPool(JOINTS, (0.2,))
    pool.add(np.array([[0.1, 0.1]]), np.array([[True, False]]))
    score = pool.score()
    assert np.isnan(score.rates[1, 0])
    assert score.mean[0] == 1


def test_nothing_counted_gives_no_figure() -> None:
    score = PckPool(JOINTS, (0.2,)).score()
    assert score.points == 0
    assert np.isnan(score.mean[0])
    assert np.isnan(score.pooled[0])


def test_distances_are_in_units_of_the_frames_normaliser() -> None:
    truth = np.zeros((2, 2, 2))
    predicted = np.array([[(3.0, 4.0), (0.0, 0.0)], [(6.0, 8.0), (np.nan, np.nan)]])
    found = normalised_distances(predicted, truth, np.array([10.0, 20.0]))
    np.testing.assert_array_equal(found, [[0.5, 0], [0.5, np.inf]])


def test_without_a_normaliser_no_point_is_correct() -> None:
    found = normalised_distances(np.zeros((1, 2, 2)), np.zeros((1, 2, 2)), np.zeros(1))
    assert np.isinf(found).all()


@given(hnp.arrays(np.float64, (5, 2), elements=st.floats(0, 2)), hnp.arrays(np.bool_, (5, 2)))
def test_rates_rise_with_the_threshold_and_do_not_depend_on_the_order(
    distances: NDArray[np.float64], counts: NDArray[np.bool_]
) -> None:
    whole, pieces = PckPool(JOINTS, (0.1, 0.2, 0.5)), PckPool(JOINTS, (0.1, 0.2, 0.5))
    whole.add(distances, counts)
    for row in reversed(range(5)):
        pieces.add(distances[row : row + 1], counts[row : row + 1])
    np.testing.assert_array_equal(whole.score().rates, pieces.score().rates)
    seen = whole.score().rates[whole.score().counted > 0]
    assert (np.diff(seen, axis=1) >= 0).all()


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(EvaluationError, match=r"expected \(T, 2\) twice"):
        PckPool(JOINTS, (0.2,)).add(np.zeros((1, 3)), np.ones((1, 3), bool))
