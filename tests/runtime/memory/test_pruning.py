"""Which frame a full memory drops."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcedge_runtime.memory.pruning import RULES, choose_dropped

SEEN = {0: 0.5, 3: 0.9, 4: 0.2, 7: 0.8, 9: 0.1}
"""How unlike the current frame each frame is; two frames differ by the difference of these."""


def drop(rule: str, frames: list[int], kept: set[int]) -> int:
    """Choose among the frames of ``SEEN``."""
    return choose_dropped(
        rule, frames, kept, SEEN.__getitem__, lambda one, other: abs(SEEN[one] - SEEN[other])
    )


def test_fifo_drops_the_oldest_that_is_free() -> None:
    assert drop("fifo", [0, 3, 4, 7], set()) == 0
    assert drop("fifo", [0, 3, 4, 7], {0, 3}) == 4


def test_fid_query_drops_the_least_like_the_current_frame() -> None:
    assert drop("fid_query", [0, 3, 4, 7], {0}) == 3
    assert drop("fid_query", [0, 3, 4, 7], {3}) == 7


def test_fid_redundant_drops_the_younger_of_the_two_most_alike() -> None:
    assert drop("fid_redundant", [0, 3, 4, 7], {0}) == 7
    assert drop("fid_redundant", [0, 3, 4, 7], {0, 7}) == 3
    assert drop("fid_redundant", [4, 9], {9}) == 4


def test_fid_redundant_heeds_pairs_with_a_frame_that_is_kept() -> None:
    assert drop("fid_redundant", [0, 4, 9], {0, 4}) == 9


def test_two_frames_that_are_kept_are_no_pair() -> None:
    assert drop("fid_redundant", [0, 4, 3, 7], {3, 7}) == 4


def test_fifo_fid_drops_the_least_like_the_current_frame_of_the_older_half() -> None:
    assert drop("fifo_fid", [0, 4, 7, 3], {0}) == 3
    assert drop("fifo_fid", [0, 4, 7, 9], set()) == 0


def test_equals_give_the_oldest() -> None:
    for rule in ("fifo", "fid_query", "fifo_fid"):
        assert choose_dropped(rule, [8, 2, 5], {2}, lambda f: 1.0, lambda a, b: 1.0) == 5
    assert choose_dropped("fid_redundant", [8, 2, 5], set(), lambda f: 1.0, lambda a, b: 1.0) == 5


@pytest.mark.parametrize("rule", RULES)
@given(st.data())
def test_what_is_dropped_was_there_and_free(rule: str, data: st.DataObject) -> None:
    frames = data.draw(st.lists(st.sampled_from(sorted(SEEN)), min_size=1, unique=True))
    kept = data.draw(st.sets(st.sampled_from(sorted(SEEN))))
    if set(frames) <= kept:
        kept.discard(frames[0])
    assert drop(rule, frames, kept) in set(frames) - kept
