"""Soft aggregation of masks that were found object by object."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests import oracle
from vcedge.models.aggregation import aggregate_logits, aggregate_odds, aggregate_softly


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


@given(st.integers(0, 5), st.floats(0.1, 8), st.integers(0, 10**6))
def test_the_oracles_shares_are_the_same(objects: int, bound: float, seed: int) -> None:
    logits = torch.rand(objects, 6, 7, generator=torch.Generator().manual_seed(seed))
    logits = bound * (2 * logits - 1)
    found = torch.from_numpy(oracle.aggregate_softly(logits.numpy()))
    # At a logit of 8 a sigmoid may be rounded by 6e-8, of the 3e-4 that it lacks to 1.
    torch.testing.assert_close(found, aggregate_softly(logits[None])[0], rtol=0, atol=2e-4)


@given(st.integers(1, 5), st.floats(0.1, 8), st.integers(0, 10**6))
def test_odds_give_the_same_shares(objects: int, bound: float, seed: int) -> None:
    logits = torch.rand(objects, 6, 7, generator=torch.Generator().manual_seed(seed))
    logits = bound * (2 * logits - 1)
    # As above.
    torch.testing.assert_close(
        aggregate_odds(logits), aggregate_softly(logits[None])[0], rtol=0, atol=2e-4
    )


@given(st.integers(1, 5), st.floats(9, 200), st.integers(0, 10**6))
def test_the_oracles_winner_is_the_same_where_one_is_sure(
    objects: int, sure: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = -sure * torch.rand(objects, 6, 7, generator=generator)
    winner = torch.randint(0, objects, (1, 6, 7), generator=generator)
    logits.scatter_(0, winner, sure)
    found = torch.from_numpy(oracle.aggregate_softly(logits.numpy()))
    expected = aggregate_softly(logits[None])[0]
    assert torch.equal(found.argmax(0), 1 + winner[0])
    assert torch.equal(expected.argmax(0), found.argmax(0))
    assert torch.equal(aggregate_odds(logits).argmax(0), found.argmax(0))


def test_log_odds_are_those_of_each_mask_and_of_their_product() -> None:
    logits = 3 * torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    found = aggregate_logits(logits)
    # A sigmoid in float32 and back, of logits of up to 10.
    torch.testing.assert_close(found[:, 1:], logits, rtol=0, atol=5e-3)
    background = torch.sigmoid(-logits.double()).prod(1)
    torch.testing.assert_close(found[:, 0].double().sigmoid(), background, rtol=1e-3, atol=1e-6)
    assert torch.equal(torch.softmax(found, 1), aggregate_softly(logits))


def test_log_odds_are_bounded() -> None:
    found = aggregate_logits(torch.tensor([-300.0, 300.0]).reshape(1, 2, 1, 1)).flatten()
    # ln(1e7) is 16.1; next to 1 float32 has steps of 6e-8, so that the upper bound is near it.
    assert found.isfinite().all()
    assert found.abs().tolist() == pytest.approx([16.1] * 3, abs=0.3)
