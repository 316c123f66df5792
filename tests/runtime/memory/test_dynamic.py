"""DMP's memory: what enters and leaves it, and that it never outgrows what it declared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vcedge_runtime.errors import BundleError, TrackerError
from vcedge_runtime.memory.bank import MemoryBank
from vcedge_runtime.memory.dynamic import DynamicMemory, DynamicPolicy, mean_iou
from vcedge_runtime.memory.pruning import RULES

GRID = (8, 12)
POLICIES = st.builds(
    DynamicPolicy,
    beta=st.sampled_from([0.02, 0.15, 0.6]),
    gamma=st.sampled_from([0.0, 0.5, 0.85]),
    short=st.integers(1, 4),
    long=st.integers(0, 3),
    candidates=st.integers(5, 9),
    far=st.integers(1, 6),
    probe_every=st.integers(1, 2),
    prune_short=st.sampled_from(RULES),
    prune_long=st.sampled_from(RULES),
    position=st.sampled_from(["mask", "last", "feature"]),
    long_probe=st.sampled_from(["union", "single"]),
    fid_region=st.sampled_from(["frame", "object"]),
    adaptive=st.booleans(),
    memories=st.sampled_from(["both", "short", "long"]),
)
PLACES = st.lists(
    st.lists(st.none() | st.tuples(st.integers(0, 6), st.integers(0, 10)), max_size=3),
    min_size=25,
    max_size=25,
)


def draw_labels(places: Sequence[tuple[int, int] | None]) -> NDArray[np.float32]:
    """Draw (8, 12, L) labels with a box of 2 x 2 cells for each object that has a place."""
    labels = np.zeros((*GRID, 1 + len(places)), np.float32)
    for channel, place in enumerate(places, start=1):
        if place is not None:
            box = (slice(place[0], place[0] + 2), slice(place[1], place[1] + 2))
            labels[box] = 0
            labels[(*box, channel)] = 1
    labels[..., 0] = 1 - labels[..., 1:].sum(axis=-1)
    return labels


def draw_key(frame: int) -> NDArray[np.float32]:
    """Draw the key of a frame; that of frames 0 to 9 is like that of frames 10 to 19, and so on."""
    rng = np.random.default_rng(frame)
    shared = np.random.default_rng(1000 + frame // 10).normal(size=4)
    return (shared + 0.3 * rng.normal(size=(*GRID, 4))).astype(np.float32)


class Video:
    """A memory that is led through made frames; what it reads is what the frames truly show.

    Attributes:
        reads: frames of each read of the last step.
    """

    def __init__(self, policy: DynamicPolicy) -> None:
        self.memory = policy.begin()
        self.bank = MemoryBank(policy.slots, (1, 1), 1, 2)
        self.frame = -1
        self.reads: list[list[int]] = []

    def step(
        self,
        labels: NDArray[np.float32],
        read: Callable[[list[int]], NDArray[np.float32]] | None = None,
    ) -> list[int]:
        """Give the next frame its slot, choose what it reads, store it."""
        self.frame += 1
        self.reads = []
        self.bank.claim(self.frame, self.memory.keeps)
        key = draw_key(self.frame)

        def record(frames: Sequence[int]) -> NDArray[np.float32]:
            self.reads.append(list(frames))
            return labels if read is None else read(list(frames))

        chosen = self.memory.select(self.frame, key, record) if self.frame else []
        self.memory.store(self.frame, key, labels)
        return chosen


def follow(policy: DynamicPolicy, places: Sequence[tuple[int, int] | None]) -> list[list[int]]:
    """Lead a memory through a video of one object, and give what each frame reads."""
    video = Video(policy)
    return [video.step(draw_labels([place])) for place in places]


@settings(max_examples=40)
@given(POLICIES, PLACES, st.sets(st.integers(0, 24), max_size=3))
def test_no_memory_outgrows_what_it_declared(
    policy: DynamicPolicy,
    places: list[list[tuple[int, int] | None]],
    annotated: set[int],
) -> None:
    video = Video(policy)
    for objects in places:
        chosen = video.step(draw_labels(objects))
        frame, memory = video.frame, video.memory
        if frame:
            assert chosen == sorted(set(chosen))
            assert 1 <= len(chosen) <= policy.references
            assert frame - 1 in memory.short
            assert len(memory.short) <= policy.short
            assert len(video.reads) <= 2
        for read in [chosen, *video.reads]:
            assert len(read) <= policy.references
            # A frame that is read still stands in its slot.
            assert all(past < frame and video.bank.slot_of(past) >= 0 for past in read)
        if policy.memories == "short":
            assert memory.long == []
        else:
            assert memory.long[0] == 0
            assert len(memory.long) <= policy.long + 1
        if frame in annotated:
            memory.annotate(frame)


@settings(max_examples=20)
@given(POLICIES, PLACES)
def test_the_same_video_gives_the_same_memory(
    policy: DynamicPolicy, places: list[list[tuple[int, int] | None]]
) -> None:
    one, other = Video(policy), Video(policy)
    for objects in places:
        labels = draw_labels(objects)
        assert one.step(labels) == other.step(labels)
        assert one.reads == other.reads


def test_the_first_frames_read_all_there_is_and_need_no_reads_to_choose() -> None:
    video = Video(DynamicPolicy())
    labels = draw_labels([(2, 2)])
    assert video.step(labels) == []
    assert video.step(labels) == [0]
    assert video.step(labels) == [0, 1]
    assert video.reads == []
    assert video.step(labels) == [0, 1, 2]
    assert video.reads == [[1, 2]]


def test_short_memory_holds_the_frames_whose_objects_stand_near() -> None:
    policy = DynamicPolicy(beta=0.3, long=0)
    there, here = (0, 0), (6, 10)
    assert follow(policy, [there, there, there, here, here, here])[-1] == [0, 3, 4]
    assert follow(policy, [there, here, there, here, there, here])[-1] == [0, 1, 3, 4]


def test_after_a_leap_the_last_frame_alone_is_short_memory_unless_beta_is_adaptive() -> None:
    policy = DynamicPolicy(beta=0.3, long=0)
    places = [(0, 0), (0, 0), (0, 0), (0, 0), (6, 10)]
    assert follow(policy, places)[-1] == [0, 3]
    assert follow(replace(policy, adaptive=True), places)[-1] == [0, 1, 2, 3]


def test_a_full_short_memory_drops_by_its_rule() -> None:
    still = [(3, 3)] * 14
    fifo = DynamicPolicy(short=3, long=0, prune_short="fifo")
    assert follow(fifo, still)[-1] == [0, 10, 11, 12]
    assert follow(replace(fifo, prune_short="fid_query"), still)[-1] == [0, 10, 11, 12]
    # The key changes at frame 10: the most redundant of the frames before go first.
    chosen = follow(replace(fifo, prune_short="fid_redundant"), still)[-1]
    assert min(chosen[1:]) < 10


def test_a_frame_enters_long_memory_when_its_masks_agree_with_short_memory() -> None:
    right, wrong = draw_labels([(3, 3)]), draw_labels([(3, 7)])
    for gamma, reading, entered in [(0.85, right, True), (0.85, wrong, False), (0, wrong, False)]:
        video = Video(DynamicPolicy(short=2, gamma=gamma))
        for _ in range(8):
            video.step(right, lambda frames, r=reading: r if 0 in frames else right)
        assert (len(video.memory.long) > 1) == entered


def test_a_trial_reads_long_memory_with_the_candidate_or_the_candidate_alone() -> None:
    for probe, frames in [("union", [0, 1]), ("single", [1])]:
        video = Video(DynamicPolicy(short=2, prune_short="fifo", long_probe=probe))
        for _ in range(4):
            video.step(draw_labels([(3, 3)]))
            assert len(video.reads) <= 1
        video.step(draw_labels([(3, 3)]))
        assert video.reads == [[2, 3], frames]


def test_frames_are_tried_in_turn() -> None:
    video = Video(DynamicPolicy(short=2, prune_short="fifo", gamma=1.0))
    tried = []
    for _ in range(9):
        video.step(draw_labels([(3, 3)]))
        tried += [read for read in video.reads if 0 in read]
    assert tried == [[0, 1], [0, 2], [0, 3], [0, 4], [0, 5]]


def test_an_old_frame_is_tried_while_it_is_in_short_memory() -> None:
    video = Video(DynamicPolicy(short=12, far=6, prune_short="fifo"))
    for _ in range(8):
        video.step(draw_labels([(3, 3)]))
        assert video.memory.long == [0]
    video.step(draw_labels([(3, 3)]))
    assert video.memory.long == [0, 1]
    assert 1 not in video.memory.short


def test_trials_are_made_as_often_as_is_said() -> None:
    video = Video(DynamicPolicy(short=2, gamma=1.0, probe_every=4))
    trials = []
    for frame in range(13):
        video.step(draw_labels([(3, 3)]))
        if len(video.reads) == 2:
            trials.append(frame)
    assert trials == [4, 8, 12]


def test_each_memory_can_be_read_alone() -> None:
    still = [(3, 3)] * 12
    short = follow(DynamicPolicy(short=3, memories="short", prune_short="fifo"), still)
    assert short[-1] == [8, 9, 10]
    assert short[2] == [0, 1]
    long = follow(DynamicPolicy(short=3, memories="long", prune_long="fifo"), still)
    assert long[2] == [0]
    assert long[-1][0] == 0
    assert len(long[-1]) == 4
    assert 10 not in long[-1]


@pytest.mark.parametrize("position", ["mask", "last"])
def test_what_last_showed_the_object_waits_while_it_is_out_of_sight(position: str) -> None:
    places = [(3, 3)] * 12 + [None] * 4
    video = Video(DynamicPolicy(short=3, position=position))
    for place in places:
        chosen = video.step(draw_labels([place]))
    held = video.memory.short
    assert held[-1] == 14
    assert len(held) == 3
    assert all(past < 12 for past in held[:-1])
    assert len(video.reads) == 1
    assert 0 in chosen
    assert video.step(draw_labels([(3, 4)]))[-1] == 15
    back = video.step(draw_labels([(3, 4)]))
    assert sum(6 < past < 12 or past == 16 for past in back) >= 2


def test_a_frame_without_an_object_never_enters_long_memory() -> None:
    video = Video(DynamicPolicy(short=2, far=2))
    for place in [*[(3, 3)] * 4, *[None] * 6, *[(3, 3)] * 12]:
        video.step(draw_labels([place]))
    assert len(video.memory.long) > 1
    assert not set(video.memory.long) & set(range(4, 10))


def test_the_place_in_the_last_frame_costs_no_read() -> None:
    video = Video(DynamicPolicy(long=0, position="last"))
    for place in [(0, 0), (0, 0), (0, 10), (0, 0), (0, 10)]:
        chosen = video.step(draw_labels([place]))
        assert video.reads == []
    assert chosen == [0, 1, 3]


def test_of_several_objects_the_large_one_says_what_is_near() -> None:
    def draw(small: tuple[int, int]) -> NDArray[np.float32]:
        labels = draw_labels([small, None])
        labels[4:8, 2:10] = (0, 0, 1)
        return labels

    video = Video(DynamicPolicy(long=0))
    for place in [(0, 0), (0, 0), (0, 10), (0, 0), (0, 10)]:
        chosen = video.step(draw(place))
    assert chosen == [0, 1, 2, 3]


def test_objects_may_be_added_later() -> None:
    video = Video(DynamicPolicy(long=0))
    for _ in range(3):
        video.step(draw_labels([(0, 0)]))
    for _ in range(4):
        chosen = video.step(draw_labels([None, None, None, (6, 10)]))
    # The earlier frames do not show the new object, so that nothing says they are near.
    assert chosen == [0, 3, 4, 5]


def test_labels_that_were_corrected_are_stored_once_more() -> None:
    video = Video(DynamicPolicy(beta=0.1, long=0))
    for _ in range(5):
        video.step(draw_labels([(0, 0)]))
    video.memory.store(3, draw_key(3), draw_labels([(6, 10)]))
    assert video.step(draw_labels([(6, 10)])) == [0, 3, 4]


def test_an_annotated_frame_stays_in_the_place_of_the_former_one() -> None:
    video = Video(DynamicPolicy(short=2, long=1, prune_long="fifo"))
    labels = draw_labels([(3, 3)])
    pinned = {4: 4, 9: 9, 15: 15}
    last = 0
    for frame in range(20):
        chosen = video.step(labels)
        if last:
            assert video.memory.long == [0, last]
            assert {0, last} <= set(chosen)
        if frame in pinned:
            video.memory.annotate(frame)
            last = frame
    assert not video.memory.keeps(4)


def test_only_the_last_frame_is_annotated() -> None:
    video = Video(DynamicPolicy())
    for _ in range(3):
        video.step(draw_labels([(3, 3)]))
    for frame in (1, 3):
        with pytest.raises(TrackerError, match=f"received frame {frame}; expected the last"):
            video.memory.annotate(frame)


def test_without_a_place_in_long_memory_an_annotated_frame_is_like_others() -> None:
    for policy in (DynamicPolicy(long=0), DynamicPolicy(memories="short")):
        video = Video(policy)
        for _ in range(3):
            video.step(draw_labels([(3, 3)]))
        video.memory.annotate(2)
        assert 2 not in video.memory.long


def test_a_frame_may_be_selected_again_after_a_failure() -> None:
    video = Video(DynamicPolicy(short=2))
    labels = draw_labels([(3, 3)])
    for _ in range(6):
        video.step(labels)

    def fail(frames: Sequence[int]) -> NDArray[np.float32]:
        raise RuntimeError("no engine")

    with pytest.raises(RuntimeError, match="no engine"):
        video.memory.select(6, draw_key(6), fail)
    chosen = video.step(labels)
    assert chosen[-1] == 5


def test_a_selection_whose_frame_was_never_done_gives_up_no_frame() -> None:
    policy = DynamicPolicy(short=1, long=1, candidates=2, far=1, gamma=0, beta=1e-6)
    given_up = 0
    for length in range(3, 12):
        video = Video(policy)
        for frame in range(length):
            video.step(draw_labels([(3, 3 + frame % 2)]))
        before = [frame for frame in range(length) if video.memory.keeps(frame)]
        labels = draw_labels([(3, 3)])
        video.memory.select(length, draw_key(length), lambda frames, labels=labels: labels)
        assert [frame for frame in range(length) if video.memory.keeps(frame)] == before
        video.memory.store(length, draw_key(length), labels)
        given_up += [frame for frame in range(length) if video.memory.keeps(frame)] != before
    assert given_up


def test_a_frame_whose_predecessor_was_not_stored_is_refused() -> None:
    memory = DynamicMemory(DynamicPolicy())
    with pytest.raises(TrackerError, match=r"frame 0 is not in memory, which holds \[\]"):
        memory.select(1, draw_key(1), lambda frames: draw_labels([None]))


def test_the_bytes_of_fits_are_known_and_none_without_frechet() -> None:
    policy = DynamicPolicy()
    assert policy.count_bytes(64) == 25 * 8 * (64 * 64 + 64)
    assert replace(policy, prune_short="fifo", prune_long="fifo").count_bytes(64) == 0


def test_references_and_slots_follow_from_the_capacities() -> None:
    policy = DynamicPolicy()
    assert (policy.references, policy.slots) == (9, 25)
    short, long = replace(policy, memories="short"), replace(policy, memories="long")
    assert (short.references, short.slots) == (5, 21)
    assert (long.references, long.slots) == (5, 25)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("short", 0),
        ("long", -1),
        ("candidates", 5),
        ("far", 0),
        ("probe_every", 0),
        ("beta", 0.0),
        ("sigma", 0.0),
        ("gamma", 1.5),
        ("gamma", float("nan")),
        ("prune_short", "lifo"),
        ("prune_long", "fid"),
        ("position", "both"),
        ("long_probe", "all"),
        ("fid_region", "mask"),
        ("memories", "none"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(setting: str, value: object) -> None:
    with pytest.raises(BundleError, match=f"{setting}=.*{value}"):
        DynamicPolicy(**{setting: value})


@pytest.mark.parametrize(
    ("one", "other", "iou"),
    [
        ([0, 1, 1, 0], [0, 1, 1, 0], 1.0),
        ([0, 1, 1, 1], [0, 0, 1, 1], 2 / 3),
        ([1, 1, 2, 0], [1, 1, 0, 0], 0.5),
        ([0, 3, 0, 0], [3, 0, 0, 0], 0.0),
        ([0, 0, 0, 0], [0, 0, 0, 0], 1.0),
    ],
)
def test_the_iou_is_the_mean_over_objects_in_either_map(
    one: list[int], other: list[int], iou: float
) -> None:
    assert mean_iou(np.array([one]), np.array([other])) == pytest.approx(iou)
