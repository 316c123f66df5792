"""The Frechet distance of frames: against plain formulas, and where covariances are singular."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vcedge_runtime.memory.frechet import FeatureFit, fit_features, frechet_distance

SEEDS = st.integers(0, 2**31)
CLOSE = 1e-6
"""The plain formula takes roots of eigenvalues, which turns its 1e-13 into about 3e-7."""


def random_key(seed: int, height: int = 9, width: int = 11, rank: int = 6) -> NDArray[np.float32]:
    """Draw a (height, width, 6) key whose cells span ``rank`` dimensions."""
    rng = np.random.default_rng(seed)
    cells = rng.normal(size=(height, width, rank)) @ rng.normal(size=(rank, 6))
    return cells.astype(np.float32)


def fit_of(mean: NDArray[np.float64], root: NDArray[np.float64]) -> FeatureFit:
    """Name mean and root."""
    return FeatureFit(mean, root)


def plain_distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Re-state FID: the root of the covariances' product by its eigenvalues."""
    rows = [key.reshape(-1, key.shape[-1]).astype(np.float64) for key in (one, other)]
    rows = [row / np.linalg.norm(row, axis=1, keepdims=True) for row in rows]
    first, second = (np.cov(row, rowvar=False) for row in rows)
    eigenvalues = np.linalg.eigvals(first @ second)
    cross = np.sqrt(np.maximum(eigenvalues.real, 0)).sum()
    shift = rows[0].mean(axis=0) - rows[1].mean(axis=0)
    return float(shift @ shift + np.trace(first) + np.trace(second) - 2 * cross)


@given(SEEDS, SEEDS)
def test_it_is_the_distance_that_the_covariances_give(one: int, other: int) -> None:
    first, second = random_key(one), random_key(other)
    distance = frechet_distance(fit_features(first), fit_features(second))
    assert distance == pytest.approx(plain_distance(first, second), abs=CLOSE)


@given(SEEDS, st.integers(1, 6))
def test_a_frame_is_at_no_distance_from_itself(seed: int, rank: int) -> None:
    fit = fit_features(random_key(seed, rank=rank))
    assert frechet_distance(fit, fit) < 1e-13


@given(SEEDS, SEEDS, st.integers(1, 6))
def test_it_is_symmetric_and_between_0_and_4(one: int, other: int, rank: int) -> None:
    first, second = fit_features(random_key(one)), fit_features(random_key(other, rank=rank))
    there, back = frechet_distance(first, second), frechet_distance(second, first)
    assert there == pytest.approx(back, abs=1e-12)
    assert 0 <= there <= 4


@given(SEEDS)
def test_of_equal_covariances_it_is_the_squared_shift_of_the_mean(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.normal(size=(2, 6))
    root = rng.normal(size=(6, 6))
    distance = frechet_distance(fit_of(one, root), fit_of(other, root))
    assert distance == pytest.approx(np.square(one - other).sum(), abs=1e-9)


@given(SEEDS)
def test_of_diagonal_covariances_it_is_the_squared_distance_of_their_roots(seed: int) -> None:
    one, other = np.random.default_rng(seed).random((2, 6))
    zero = np.zeros(6)
    distance = frechet_distance(fit_of(zero, np.diag(one)), fit_of(zero, np.diag(other)))
    assert distance == pytest.approx(np.square(one - other).sum(), abs=1e-12)


@given(SEEDS, SEEDS, st.integers(1, 3))
def test_keys_of_low_rank_give_what_the_covariances_give(one: int, other: int, rank: int) -> None:
    first, second = random_key(one, rank=rank), random_key(other, rank=rank)
    distance = frechet_distance(fit_features(first), fit_features(second))
    assert np.isfinite(distance)
    assert distance == pytest.approx(plain_distance(first, second), abs=CLOSE)


@pytest.mark.parametrize("key", [np.zeros((4, 5, 6)), np.ones((4, 5, 6)), np.ones((1, 1, 6))])
def test_a_frame_of_one_colour_or_of_one_cell_has_a_fit(key: NDArray[np.float64]) -> None:
    fit = fit_features(key.astype(np.float32))
    assert fit.mean.shape == (6,)
    assert fit.root.shape == (6, 6)
    np.testing.assert_allclose(fit.root, 0, atol=1e-15)
    assert np.isfinite(frechet_distance(fit, fit_features(random_key(0))))


def test_the_length_of_a_key_does_not_count() -> None:
    key = random_key(3)
    scale = np.random.default_rng(4).uniform(0.5, 9, (9, 11, 1)).astype(np.float32)
    # The keys are float32, so that scaling them moves their directions by 1e-7.
    assert frechet_distance(fit_features(key), fit_features(key * scale)) < 1e-9


def test_the_root_is_that_of_the_covariance_of_a_regular_grid_of_cells() -> None:
    key = random_key(5, height=60, width=70)
    fit = fit_features(key)
    cells = key[::2, ::2].reshape(-1, 6).astype(np.float64)
    cells /= np.linalg.norm(cells, axis=1, keepdims=True)
    np.testing.assert_allclose(fit.root.T @ fit.root, np.cov(cells, rowvar=False), atol=1e-12)
    np.testing.assert_allclose(fit.mean, cells.mean(axis=0), atol=1e-12)


def test_a_region_is_fitted_alone_unless_it_is_small() -> None:
    key = random_key(6)
    region = np.zeros((9, 11), bool)
    region[2:5, 3:7] = True
    alone = fit_features(np.ascontiguousarray(key[2:5, 3:7]))
    np.testing.assert_allclose(fit_features(key, region).root, alone.root, atol=1e-12)
    region[2, 3] = False
    whole = fit_features(key)
    np.testing.assert_array_equal(fit_features(key, region).root, whole.root)


def test_a_large_region_is_sampled() -> None:
    key = random_key(7, height=20, width=20)
    everywhere = np.ones((20, 20), bool)
    fit = fit_features(key, everywhere, samples=100)
    strided = fit_features(key.reshape(-1, 6)[::4].reshape(100, 1, 6))
    np.testing.assert_allclose(fit.mean, strided.mean, atol=1e-12)
