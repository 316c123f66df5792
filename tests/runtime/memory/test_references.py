"""MER's references: the index rule of MAST, and how many slots it needs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vcedge_runtime.errors import BundleError
from vcedge_runtime.memory.bank import MemoryBank
from vcedge_runtime.memory.references import ReferencePolicy

DISTANCES = st.lists(st.integers(2, 9), max_size=3, unique=True).flatmap(
    lambda others: st.permutations([1, *others])
)
LONGS = st.lists(st.integers(1, 12), max_size=3, unique=True).map(lambda others: (0, *others))
POLICIES = st.builds(ReferencePolicy, LONGS, DISTANCES.map(tuple))
ANNOTATED = st.sets(st.integers(1, 199), max_size=6)


def references_of_mast(frame: int) -> list[int]:
    """Re-state the rule: {0, 5} up to t-1, and t-1, t-3, t-5 above 0, without doubles, sorted."""
    long = [past for past in (0, 5) if past <= frame - 1]
    short = [past for past in (frame - 1, frame - 3, frame - 5) if past > 0]
    return sorted({*long, *short})


def test_the_references_are_those_of_mast() -> None:
    policy = ReferencePolicy()
    assert [policy.read(frame) for frame in range(1, 8)] == [
        [0],
        [0, 1],
        [0, 2],
        [0, 1, 3],
        [0, 2, 4],
        [0, 1, 3, 5],
        [0, 2, 4, 5, 6],
    ]
    assert all(policy.read(frame) == references_of_mast(frame) for frame in range(1, 200))


def test_an_annotated_frame_takes_the_place_of_frame_5() -> None:
    policy = ReferencePolicy()
    assert policy.read(21, annotated=20) == [0, 16, 18, 20]
    assert policy.read(30, annotated=20) == [0, 20, 25, 27, 29]


@given(POLICIES, st.integers(1, 199), st.integers(0, 198))
def test_what_is_read_is_past_distinct_bounded_and_holds_the_last_frame(
    policy: ReferencePolicy, frame: int, annotated: int
) -> None:
    annotated = min(annotated, frame - 1)
    read = policy.read(frame, annotated)
    assert all(earlier < later for earlier, later in pairwise(read))
    assert read[0] == 0
    assert read[-1] == frame - 1
    assert len(read) <= policy.references
    if annotated and len(policy.long) > 1:
        assert annotated in read


@given(POLICIES, ANNOTATED)
def test_its_slots_suffice_for_200_frames_and_frame_0_stays(
    policy: ReferencePolicy, annotations: set[int]
) -> None:
    bank = MemoryBank(policy.slots, (1, 1), 1, 2)
    first = bank.claim(0, lambda stored: True)
    annotated = 0
    for frame in range(1, 200):
        read = policy.read(frame, annotated)
        slots = [bank.slot_of(reference) for reference in read]
        claimed = bank.claim(frame, lambda stored, t=frame, a=annotated: policy.keeps(stored, t, a))
        assert claimed not in slots
        assert bank.slot_of(0) == first
        annotated = frame if frame in annotations else annotated


@given(POLICIES, ANNOTATED)
def test_the_memory_of_a_video_follows_the_policy(
    policy: ReferencePolicy, annotations: set[int]
) -> None:
    memory, nothing, annotated = policy.begin(), np.zeros((1, 1, 2), np.float32), 0

    def refuse(frames: Sequence[int]) -> NDArray[np.float32]:
        raise AssertionError("references are chosen without a look")

    for frame in range(60):
        if frame:
            assert memory.select(frame, nothing, refuse) == policy.read(frame, annotated)
        memory.store(frame, nothing, nothing)
        if frame in annotations:
            memory.annotate(frame)
            annotated = frame
        for stored in range(frame + 1):
            assert memory.keeps(stored) == policy.keeps(stored, frame + 1, annotated)
    assert policy.count_bytes(64) == 0


@pytest.mark.parametrize(
    ("long", "short"),
    [
        ((5,), (1, 3)),
        ((), (1,)),
        ((0,), ()),
        ((0, 5), (3, 5)),
        ((5, 0), (1,)),
        ((0, -1), (1,)),
        ((0,), (1, -2)),
        ((0,), (0, 1)),
    ],
)
def test_a_policy_without_its_anchors_is_refused(
    long: tuple[int, ...], short: tuple[int, ...]
) -> None:
    expected = "begin with frame 0 and hold distance 1|received (long|short)=.*1 to 32, each"
    with pytest.raises(BundleError, match=expected):
        ReferencePolicy(long, short)
