"""Soft aggregation of masks that were found object by object."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vcedge.models.aggregation import aggregate_softly


@settings(deadline=None)
@given(st.integers(0, 6), st.floats(0.1, 40), st.integers(0, 10**6))
def test_shares_sum_to_one_whatever_the_logits(objects: int, spread: float, seed: int) -> None:
    logits = spread * torch.randn(2, objects, 4, 5, generator=torch.Generator().manual_seed(seed))
    shares = aggregate_softly(logits)
    assert shares.shape == (2, objects + 1, 4, 5)
    assert shares.isfinite().all()
    assert shares.min() >= 0
    # A softmax over at most 7 shares in float32.
    torch.testing.assert_close(shares.sum(1), torch.ones(2, 4, 5), rtol=0, atol=1e-6)


def test_the_background_is_the_product_of_what_no_object_takes() -> None:
    own = torch.rand(1, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    own = 0.05 + 0.9 * own
    found = aggregate_softly(torch.logit(own).float())
    background = (1 - own[:, 0]) * (1 - own[:, 1]) * (1 - own[:, 2])
    odds = torch.stack([background, *own.unbind(1)], 1)
    odds = odds / (1 - odds)
    # Sigmoid and logit in float32 of odds up to 20.
    torch.testing.assert_close(found.double(), odds / odds.sum(1, keepdim=True), rtol=1e-4, atol=0)


def test_without_objects_all_is_background() -> None:
    assert (aggregate_softly(torch.zeros(2, 0, 3, 4)) == 1).all()


@pytest.mark.parametrize(("own", "expected"), [(0.5, 0.5), (0.8, 0.64 / 0.68), (0.1, 0.01 / 0.82)])
def test_one_object_competes_with_its_own_complement(own: float, expected: float) -> None:
    logits = torch.logit(torch.full((1, 1, 2, 2), own))
    shares = aggregate_softly(logits)
    torch.testing.assert_close(shares[:, 1], torch.full((1, 2, 2), expected), rtol=1e-5, atol=0)


def test_an_object_that_is_sure_wins_where_another_is_not() -> None:
    logits = torch.tensor([30.0, -3.0, -90.0]).reshape(1, 3, 1, 1)
    shares = aggregate_softly(logits).flatten()
    assert shares.argmax() == 1
    assert shares[1] > 0.999


def test_gradients_are_finite_where_objects_are_sure() -> None:
    logits = torch.tensor([[-200.0, 200.0], [0.0, 5.0]]).reshape(1, 2, 1, 2).requires_grad_()
    aggregate_softly(logits)[:, 1].sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
