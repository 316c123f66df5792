"""Objects that were away: when they are taken back."""

from __future__ import annotations

import numpy as np
import pytest

from vcedge_runtime.buffers import Block
from vcedge_runtime.predictors.doubt import Doubt

SHAPE = (3, 4, 6)
"""The background and two objects."""


def shares_of(first: float, second: float = 0.0) -> Block:
    """A quarter of the frame is the first object's, another the second's, so far as they say."""
    block = Block(SHAPE, None)
    block.host[1, :2, :3], block.host[2, 2:, 3:] = first, second
    block.host[0] = 1 - block.host[1:].sum(axis=0)
    return block


def refuse(doubt: Doubt, first: float, second: float = 0.0) -> tuple[bool, bool]:
    """Whether each of the two is still there."""
    block = shares_of(first, second)
    doubt.refuse({7: 0, 9: 1}, block)
    doubt.finish()
    np.testing.assert_allclose(block.host.sum(axis=0), 1, rtol=1e-6)
    return bool((block.host[1] > 0.5).any()), bool((block.host[2] > 0.5).any())


def test_who_was_away_is_taken_back_where_the_model_is_sure() -> None:
    doubt = Doubt(0.7)
    assert refuse(doubt, 0.9) == (True, False)
    assert refuse(doubt, 0.2) == (False, False)
    for _ in range(3):
        assert refuse(doubt, 0.65) == (False, False)
    assert refuse(doubt, 0.75) == (True, False)


def test_who_was_there_may_be_in_doubt() -> None:
    doubt = Doubt(0.7)
    assert refuse(doubt, 0.9, 0.9) == (True, True)
    assert refuse(doubt, 0.6, 0.6) == (True, True)
    assert refuse(doubt, 0.1, 0.6) == (False, True)
    assert refuse(doubt, 0.6, 0.6) == (False, True)


def test_without_a_least_score_all_are_taken_back() -> None:
    doubt = Doubt(0.0)
    assert refuse(doubt, 0.1) == (False, False)
    assert refuse(doubt, 0.55) == (True, False)


def test_who_is_drawn_is_believed() -> None:
    doubt = Doubt(0.7)
    refuse(doubt, 0.1)
    doubt.believe(7)
    assert refuse(doubt, 0.6) == (True, False)


@pytest.mark.parametrize("score", [0.6, 0.8])
def test_one_that_is_followed_no_longer_is_not_remembered(score: float) -> None:
    doubt = Doubt(0.7)
    refuse(doubt, 0.1, 0.1)
    doubt.refuse({9: 0}, shares_of(0.9))
    doubt.finish()
    block = shares_of(score)
    doubt.refuse({7: 0}, block)
    assert (block.host[1] > 0.5).any()


def test_a_step_that_fails_changes_nothing() -> None:
    doubt = Doubt(0.7)
    refuse(doubt, 0.9)
    doubt.refuse({7: 0, 9: 1}, shares_of(0.1))  # not finished: the last frame stays the last
    assert refuse(doubt, 0.6) == (True, False)
