"""Soft aggregation as the oracle has it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.oracle import aggregate_softly


def draw_logits(objects: int, spread: float, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (spread * rng.standard_normal((objects, 4, 5))).astype(np.float32)


@given(st.integers(0, 6), st.floats(0.1, 300), st.integers(0, 10**6))
def test_shares_sum_to_one_whatever_the_logits(objects: int, spread: float, seed: int) -> None:
    logits = draw_logits(objects, spread, seed)
    given_logits = logits.copy()
    shares = aggregate_softly(logits)
    assert shares.shape == (objects + 1, 4, 5)
    assert shares.dtype == np.float32
    assert shares.min() >= 0
    # A sum of at most 7 quotients in float32.
    np.testing.assert_allclose(shares.sum(axis=0), 1, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(logits, given_logits)


def test_the_background_is_the_product_of_what_no_object_takes() -> None:
    own = 0.05 + 0.9 * np.random.default_rng(0).random((3, 6, 6))
    found = aggregate_softly(np.log(own / (1 - own)).astype(np.float32))
    odds = np.stack([np.prod(1 - own, axis=0), *own])
    odds /= 1 - odds
    # A sigmoid in float32, and odds of up to 20 from it.
    np.testing.assert_allclose(found, odds / odds.sum(axis=0), rtol=1e-4, atol=0)


def test_without_objects_all_is_background() -> None:
    np.testing.assert_array_equal(aggregate_softly(np.zeros((0, 3, 4), np.float32)), 1)


@pytest.mark.parametrize(("own", "expected"), [(0.5, 0.5), (0.8, 0.64 / 0.68), (0.1, 0.01 / 0.82)])
def test_one_object_competes_with_its_own_complement(own: float, expected: float) -> None:
    logits = np.full((1, 2, 2), np.log(own / (1 - own)), np.float32)
    np.testing.assert_allclose(aggregate_softly(logits)[1], expected, rtol=1e-5)


@pytest.mark.parametrize("sure", [20, 90, 1e4, np.inf])
def test_an_object_that_is_sure_wins_and_no_exponential_overflows(sure: float) -> None:
    logits = np.array([sure, -3, -sure], np.float32).reshape(3, 1, 1)
    shares = aggregate_softly(logits).ravel()
    assert shares.argmax() == 1
    assert shares[1] > 0.999
    assert aggregate_softly(-logits[:1]).ravel()[0] > 0.999


def test_objects_that_are_as_sure_share_a_pixel() -> None:
    shares = aggregate_softly(np.full((2, 1, 1), 50, np.float32)).ravel()
    np.testing.assert_allclose(shares, [0, 0.5, 0.5], rtol=0, atol=1e-6)


def test_objects_may_come_in_any_order() -> None:
    logits, order = draw_logits(4, 3.0, 1), [2, 0, 3, 1]
    shares, permuted = aggregate_softly(logits), aggregate_softly(logits[order])
    # The product of the background is formed in another order, in float32.
    np.testing.assert_allclose(permuted[1:], shares[1:][order], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(permuted[0], shares[0], rtol=1e-5, atol=1e-7)
