"""Fusions: exact merging, votes, and weights that no loss can spoil."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from vcedge_runtime.propagation.fusion import (
    BidirectionalFusion,
    fuse_joint,
    fuse_mean,
    fuse_votes,
    share_references,
    weigh_branches,
)
from vcedge_runtime.propagation.readout import Readout

LOGITS = hnp.arrays(np.float32, (2, 3, 4, 5), elements=st.floats(-60, 60, width=32).map(np.float32))
"""Two tiles of four queries that read five keys of each of three references."""


def read_logits(logits: NDArray[np.float32], labels: NDArray[np.float32]) -> Readout:
    """Make the readout of (T, R, A, P) logits with (R, P, L) labels."""
    peak = logits.max(axis=-1)
    weights = np.exp(logits - peak[..., None])
    values = np.einsum("trap,rpl->tral", weights / weights.sum(-1, keepdims=True), labels)
    return Readout(np.arange(2), peak, weights.sum(axis=-1), values.astype(np.float32))


def draw_labels(seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).dirichlet(np.ones(3), (3, 5)).astype(np.float32)


def say(*references: tuple[float, ...], empty: tuple[int, ...] = ()) -> Readout:
    """Make the readout of one query; references in ``empty`` have no key."""
    values = np.array(references, np.float32)[None, :, None]
    peak = np.zeros((1, len(references), 1), np.float32)
    peak[:, list(empty)] = -1e4
    return Readout(np.arange(1), peak, np.ones_like(peak), values)


@given(LOGITS)
def test_merged_softmaxes_are_the_softmax_of_all(logits: NDArray[np.float32]) -> None:
    labels = draw_labels()
    joined = logits.transpose(0, 2, 1, 3).reshape(2, 4, 15).astype(np.float64)
    weights = np.exp(joined - joined.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    expected = weights @ labels.reshape(15, 3)
    # FP32 exponentials of logits up to 60, whose last bit is 4e-6.
    np.testing.assert_allclose(fuse_joint(read_logits(logits, labels)), expected, atol=2e-5)


def test_a_reference_without_a_key_counts_in_no_fusion() -> None:
    found = say((0.9, 0.1), (0, 1), (0.7, 0.3), empty=(1,))
    for fuse in (fuse_joint, fuse_mean, fuse_votes):
        np.testing.assert_allclose(fuse(found), [[[0.8, 0.2]]], rtol=1e-6)


def test_without_any_key_everything_is_0_and_nothing_nan() -> None:
    found = say((0.9, 0.1), (0, 1), empty=(0, 1))
    for fuse in (fuse_joint, fuse_mean, fuse_votes):
        np.testing.assert_array_equal(fuse(found), [[[0, 0]]])
    assert found.lonely.all()


def test_the_most_frequent_vote_wins_and_its_voters_are_averaged() -> None:
    found = say((0.55, 0.45, 0), (0.6, 0.4, 0), (0, 1, 0))
    # The mean says 1, two of three say 0.
    assert fuse_mean(found).argmax() == 1
    np.testing.assert_allclose(fuse_votes(found), [[[0.575, 0.425, 0]]], rtol=1e-6)


def test_equal_votes_are_decided_by_the_sum_of_soft_labels() -> None:
    found = say((0.6, 0.4, 0), (0.1, 0.9, 0))
    np.testing.assert_allclose(fuse_votes(found), [[[0.1, 0.9, 0]]], rtol=1e-6)
    # Voteless labels never win, however large their sum.
    found = say((0.4, 0.35, 0.25), (0.35, 0.4, 0.25), (0.2, 0.0, 0.8), (0.3, 0.0, 0.7))
    assert fuse_votes(found).argmax() == 2


@given(LOGITS, st.integers(0, 99))
def test_every_fusion_keeps_rows_that_sum_to_1(logits: NDArray[np.float32], seed: int) -> None:
    found = read_logits(logits, draw_labels(seed))
    for fuse in (fuse_joint, fuse_mean, fuse_votes):
        np.testing.assert_allclose(fuse(found).sum(axis=-1), 1, atol=1e-5)


def test_shares_are_those_of_the_sums() -> None:
    log_total = np.log(np.array([[[1.0], [3.0], [4.0]]], np.float32)) + 50
    np.testing.assert_allclose(share_references(log_total)[0, :, 0], [0.125, 0.375, 0.5], rtol=1e-5)


@pytest.mark.parametrize("losses", [(0, 0, 0), (0, 1, 1), (1e-12, 1, 1), (1, 0, 1e9)])
def test_no_loss_near_0_takes_all_and_none_is_divided_by(losses: tuple[float, ...]) -> None:
    weights = weigh_branches(np.array(losses, np.float64), BidirectionalFusion())
    assert np.isfinite(weights).all()
    assert weights.sum() == pytest.approx(1)
    assert weights.min() >= 0.04
    assert weights.max() <= 0.91


@given(st.lists(st.floats(0, 10), min_size=1, max_size=3))
def test_a_smaller_loss_never_weighs_less(losses: list[float]) -> None:
    weights = weigh_branches(np.array(losses), BidirectionalFusion())
    order = np.argsort(losses, kind="stable")
    assert (np.diff(weights[order]) <= 1e-12).all()
    assert weights.sum() == pytest.approx(1)


def test_equal_losses_weigh_the_same() -> None:
    np.testing.assert_allclose(weigh_branches(np.full(3, 0.2), BidirectionalFusion()), 1 / 3)
