"""SRNet's global memory: frame 0, every fifth frame, and the frame that the user corrected."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vcedge_runtime.errors import BundleError
from vcedge_runtime.memory.bank import MemoryBank
from vcedge_runtime.memory.local_global import LocalGlobalMemory, LocalGlobalPolicy

POLICIES = st.builds(LocalGlobalPolicy, st.integers(1, 8), st.integers(2, 7))
ANNOTATED = st.sets(st.integers(0, 79), max_size=12)
NOTHING = np.zeros((1, 1, 2), np.float32)


Shows = Callable[[int], Collection[int]]
"""Objects that a frame shows."""


def refuse(frames: Sequence[int]) -> NDArray[np.float32]:
    raise AssertionError("frames are chosen without a look")


class Video:
    """A memory that is led through frames as ``ObjectPredictor`` leads it, with a bank beside it.

    The bank has as many slots as the policy declares. The frame before the current one stays in it
    as the local memory, whatever the policy says.
    """

    def __init__(self, policy: LocalGlobalPolicy, shows: Shows = lambda frame: ()) -> None:
        self.memory = policy.begin()
        self.bank = MemoryBank(policy.slots, (1, 1), 1, 2)
        self.frame = -1
        self.shows = shows

    def step(self) -> list[int]:
        """Claim a slot, choose what is read, store: the frames that were read."""
        last, self.frame = self.frame, self.frame + 1
        claimed = self.bank.claim(self.frame, lambda f: f == last or self.memory.keeps(f))
        chosen = self.memory.select(self.frame, NOTHING, refuse) if self.frame else []
        slots = {self.bank.slot_of(past) for past in chosen}
        assert claimed not in slots
        assert not self.frame or self.bank.slot_of(last) != claimed
        self.memory.store(self.frame, NOTHING, label(self.shows(self.frame)))
        return chosen


def label(objects: Collection[int], covered: float = 1.0) -> NDArray[np.float32]:
    """Labels of one cell, of which each of these objects, of three, covers so much."""
    labels = np.zeros((1, 1, 4), np.float32)
    labels[..., [1 + each for each in objects]] = covered
    return labels


def follow(
    policy: LocalGlobalPolicy, frames: int, shows: Shows = lambda frame: ()
) -> list[list[int]]:
    video = Video(policy, shows)
    return [video.step() for _ in range(frames)]


def test_frame_0_and_every_fifth_frame_are_read_up_to_the_one_before_the_last() -> None:
    read = follow(LocalGlobalPolicy(every=5, capacity=4), 40)
    assert read[1:7] == [[0]] * 6
    assert read[7] == [0, 5]
    assert read[11:13] == [[0, 5], [0, 5, 10]]
    assert read[17] == [0, 5, 10, 15]
    # Full: the oldest but frame 0 is given up.
    assert read[22] == [0, 10, 15, 20]
    assert read[39] == [0, 25, 30, 35]


@given(st.integers(1, 8), st.integers(1, 60))
def test_with_room_for_all_it_is_stcns_memory(every: int, frames: int) -> None:
    read = follow(LocalGlobalPolicy(every, 80), frames)
    for frame, chosen in enumerate(read[1:], start=1):
        # At the first frame, frame 0 is both the global and the local memory.
        assert chosen == list(range(0, max(frame - 1, 1), every))


def test_of_an_object_that_is_away_the_latest_views_stay() -> None:
    read = follow(LocalGlobalPolicy(), 60, lambda frame: [0] * (frame <= 20 or frame >= 50))
    assert read[22] == [0, 5, 10, 15, 20]
    # Of the frames without it the latest alone is read.
    assert read[27] == [0, 10, 15, 20, 25]
    assert read[49] == [0, 10, 15, 20, 45]
    assert read[52] == [0, 10, 15, 20, 50]
    assert read[57] == [0, 15, 20, 50, 55]


def test_of_several_objects_each_has_the_latest_views_of_it_in_turn() -> None:
    def shows(frame: int) -> list[int]:
        return [0] * (frame <= 20) + [1] * (frame >= 15) + [2] * (frame == 30)

    read = follow(LocalGlobalPolicy(every=5, capacity=6), 60, shows)
    # The latest; then the latest of each (20, which shows two; 45, the latest itself; 30); then 15.
    assert read[47] == [0, 15, 20, 30, 40, 45]
    assert read[57] == [0, 15, 20, 30, 50, 55]


@pytest.mark.parametrize(("covered", "stays"), [(0.04, False), (0.06, True)])
def test_a_trace_of_an_object_is_no_view_of_it(covered: float, stays: bool) -> None:
    memory = LocalGlobalPolicy(every=1, capacity=3).begin()
    memory.store(0, NOTHING, label([0]))
    memory.store(1, NOTHING, label([0], covered))
    for frame in range(2, 9):
        memory.store(frame, NOTHING, label([]))
    assert (1 in memory.select(9, NOTHING, refuse)) is stays


@given(POLICIES, ANNOTATED, st.lists(st.sets(st.integers(0, 2)), min_size=80, max_size=80))
def test_a_bank_of_its_slots_never_overflows_and_holds_whatever_is_read(
    policy: LocalGlobalPolicy, annotations: set[int], shown: list[set[int]]
) -> None:
    video, annotated = Video(policy, shown.__getitem__), 0
    # Frames that were kept at every claim since they were stored.
    kept: set[int] = set()
    for frame in range(80):
        kept = {stored for stored in kept if video.memory.keeps(stored)}
        read = video.step()
        assert len(read) <= policy.capacity == policy.references
        assert all(earlier < later for earlier, later in pairwise(read))
        if frame:
            assert {0, annotated} <= set(read)
            assert read[-1] < frame
            assert set(read) <= kept
            # The one before is the local memory's, unless it is pinned.
            assert frame - 1 not in read or frame - 1 in (0, annotated)
            others = set(read) - {0, annotated}
            assert all(past % policy.every == 0 for past in others)
        kept.add(frame)
        if frame in annotations:
            video.memory.annotate(frame)
            annotated = frame


@given(POLICIES, st.integers(1, 79), st.integers(1, 9))
def test_no_more_is_kept_than_is_read_or_may_yet_be(
    policy: LocalGlobalPolicy, last: int, modulus: int
) -> None:
    video = Video(policy, lambda frame: {frame % modulus} & {0, 1, 2})
    for _ in range(last + 1):
        video.step()
    kept = {frame for frame in range(last + 1) if video.memory.keeps(frame)}
    read = set(video.memory.select(last + 1, NOTHING, refuse))
    assert kept == read | {last}
    assert len(kept) <= policy.slots - 1


def test_an_annotated_frame_is_read_at_once_and_until_another_is() -> None:
    video = Video(LocalGlobalPolicy(every=5, capacity=4))
    for _ in range(18):
        video.step()
    video.memory.annotate(17)
    assert video.step() == [0, 10, 15, 17]
    for _ in range(10):
        video.step()
    assert video.step() == [0, 17, 20, 25]
    video.memory.annotate(29)
    assert video.step() == [0, 20, 25, 29]


def test_what_an_annotation_gives_up_is_not_read_again() -> None:
    # Of such histories about one in two hundred read what another may have overwritten.
    for seed in range(300):
        rng, kept = random.Random(seed), set[int]()
        policy = LocalGlobalPolicy(rng.randint(1, 6), rng.randint(2, 8))
        memory = LocalGlobalMemory(policy, lag=rng.choice((1, 2)))
        for frame in range(60):
            kept = {stored for stored in kept if memory.keeps(stored)}
            assert not frame or kept.issuperset(memory.select(frame, NOTHING, refuse))
            shown = [each for each in range(3) if rng.random() < 0.5]
            memory.store(frame, NOTHING, label(shown))
            kept.add(frame)
            if rng.random() < 0.1:
                memory.annotate(frame)


def test_an_annotated_frame_that_is_global_anyway_is_not_read_twice() -> None:
    video = Video(LocalGlobalPolicy(every=5, capacity=4))
    for _ in range(21):
        video.step()
    video.memory.annotate(20)
    assert video.step() == [0, 10, 15, 20]
    assert video.step() == [0, 10, 15, 20]


def test_with_room_for_two_the_annotated_frame_takes_the_latest_ones_place() -> None:
    video = Video(LocalGlobalPolicy(every=5, capacity=2))
    for _ in range(14):
        video.step()
    assert video.step() == [0, 10]
    video.memory.annotate(14)
    assert [video.step() for _ in range(9)] == [[0, 14]] * 9


def test_asked_or_told_again_it_answers_the_same() -> None:
    memory = LocalGlobalMemory(LocalGlobalPolicy(every=3, capacity=3))
    for frame in range(14):
        memory.store(frame, NOTHING, NOTHING)
    before = [memory.keeps(frame) for frame in range(14)]
    chosen = memory.select(14, NOTHING, refuse)
    # A correction stores the last frame again, and earlier ones that learn of an object.
    for frame in (13, 3, 0):
        memory.store(frame, NOTHING, NOTHING)
    assert [memory.keeps(frame) for frame in range(14)] == before
    assert memory.select(14, NOTHING, refuse) == chosen == [0, 9, 12]


def test_nothing_is_kept_of_frames_besides_their_keys_and_labels() -> None:
    assert LocalGlobalPolicy().count_bytes(64) == 0
    assert LocalGlobalPolicy() == LocalGlobalPolicy(every=5, capacity=5)


@pytest.mark.parametrize(("every", "capacity"), [(0, 5), (-1, 5), (5, 1), (5, 0)])
def test_a_policy_without_room_is_refused(every: int, capacity: int) -> None:
    expected = "received (every|capacity)=.*; expected a whole number, [12] to 1"
    with pytest.raises(BundleError, match=expected):
        LocalGlobalPolicy(every, capacity)
