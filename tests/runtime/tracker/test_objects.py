"""Objects of a tracker: their ids, and how they come and go."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.runtime.tracker.made import HEIGHT, WIDTH, Frame, MakeFrame, iou, square
from vcedge_runtime.errors import TrackerError
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.tracker import Tracker


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids=st.lists(st.integers(1, 255), min_size=1, max_size=12, unique=True))
def test_ids_with_gaps_come_back(
    tracker: Tracker, make_frame: MakeFrame, make_mask: MakeFrame, ids: list[int]
) -> None:
    frame, mask = make_frame(64, 256), make_mask(64, 256, *ids)
    tracker.start(frame, mask)
    assert tracker.object_ids == sorted(ids)
    result = tracker.step(frame)
    assert set(np.unique(result.mask)) <= {0, *ids}
    assert set(result.scores) == set(ids)
    for object_id in ids:
        assert (result.mask[mask == object_id] == object_id).mean() > 0.5


def test_all_255_ids_can_be_followed_at_once(tracker: Tracker, make_frame: MakeFrame) -> None:
    mask = np.kron(np.arange(256, dtype=np.uint8).reshape(16, 16), np.ones((8, 8), np.uint8))
    tracker.start(make_frame(128, 128), mask)
    assert set(tracker.step(make_frame(128, 128)).mask.ravel()) <= set(range(256))


def test_a_mask_without_background_is_fine(tracker: Tracker, frame: Frame, mask: Frame) -> None:
    tracker.start(frame, np.maximum(mask, 1))
    result = tracker.step(frame)
    assert set(np.unique(result.mask)) == {1, 3, 200}


def test_a_bool_mask_is_object_1(tracker: Tracker, frame: Frame, mask: Frame) -> None:
    tracker.start(frame, mask > 0)  # type: ignore[arg-type]
    assert tracker.object_ids == [1]


def test_objects_are_added_one_after_the_other(tracker: Tracker, frame: Frame) -> None:
    tracker.start(frame, square(2, 2) * 9)
    places = [(2, 40), (2, 78), (44, 2), (44, 40), (44, 78), (20, 102)]
    expected = square(2, 2) * 9
    for object_id, place in enumerate(places, start=20):
        tracker.step(frame)
        tracker.add_object(object_id, square(*place))
        expected[square(*place) > 0] = object_id
    for _ in range(10):
        result = tracker.step(frame)
    assert tracker.object_ids == [9, *range(20, 26)]
    for object_id in tracker.object_ids:
        assert iou(result.mask == object_id, expected == object_id) > 0.7


def test_an_added_object_stays_however_long_the_video_ran_without_it(
    tracker: Tracker, frame: Frame, mask: Frame
) -> None:
    tracker.start(frame, mask)
    for _ in range(12):
        tracker.step(frame)
    added = square(24, 4)
    tracker.add_object(5, added)
    for _ in range(12):
        result = tracker.step(frame)
    assert iou(result.mask == 5, added > 0) > 0.7
    assert iou(result.mask == 200, mask == 200) > 0.85


def test_an_object_may_be_added_before_the_first_step(
    tracker: Tracker, frame: Frame, mask: Frame
) -> None:
    tracker.start(frame, mask)
    tracker.add_object(5, square(24, 4))
    assert iou(tracker.step(frame).mask == 5, square(24, 4) > 0) > 0.7


def test_an_added_object_takes_what_it_covers(tracker: Tracker, frame: Frame, mask: Frame) -> None:
    tracker.start(frame, mask)
    tracker.step(frame)
    tracker.add_object(5, mask == 3)  # type: ignore[arg-type]
    result = tracker.step(frame)
    assert iou(result.mask == 5, mask == 3) > 0.8
    assert not (result.mask == 3).any()
    assert result.scores[3] == 0


@pytest.fixture
def fixed(tiny_bundle: Bundle) -> Iterator[Tracker]:
    """A tracker whose windows stay in place."""
    with Tracker.open(
        tiny_bundle, overrides={"edges": False, "alignment": "none"}, threads=1
    ) as tracker:
        yield tracker


def test_windows_follow_an_object_further_than_they_reach(
    fixed: Tracker, tracker: Tracker, make_frame: MakeFrame
) -> None:
    seen = []
    for each in (fixed, tracker):
        each.start(make_frame(HEIGHT, WIDTH), square(20, 8))
        # The camera jumps by more than the window of 4 cells of 9 pixels.
        found = each.step(make_frame(HEIGHT, WIDTH, 48))
        seen.append(iou(found.mask == 1, square(20, 56) > 0))
    assert seen[0] == 0
    # The model is not trained; without following, not a cell can be right.
    assert seen[1] > 0.2


def test_a_correction_brings_a_lost_object_back(fixed: Tracker, make_frame: MakeFrame) -> None:
    fixed.start(make_frame(HEIGHT, WIDTH), square(20, 8))
    for _ in range(6):
        lost = fixed.step(make_frame(HEIGHT, WIDTH, 48))
    assert not (lost.mask[square(20, 56) > 0] == 1).any()
    fixed.add_object(1, square(20, 56))
    for _ in range(8):
        result = fixed.step(make_frame(HEIGHT, WIDTH, 48))
    assert fixed.object_ids == [1]
    assert iou(result.mask == 1, square(20, 56) > 0) > 0.7


def test_labels_stay_shares_of_one_whatever_is_added(
    tracker: Tracker, frame: Frame, mask: Frame
) -> None:
    tracker.start(frame, mask)
    tracker.step(frame)
    tracker.add_object(4, square(10, 10))
    tracker.add_object(3, square(20, 20))
    tracker.remove_object(200)
    tracker.step(frame)
    bank = tracker.video.predictor.bank
    stored = [bank.slot_of(number) for number in range(3)]
    np.testing.assert_allclose(bank.labels[stored].sum(axis=-1), 1, atol=1e-4)


def test_a_removed_object_becomes_background(tracker: Tracker, frame: Frame, mask: Frame) -> None:
    tracker.start(frame, mask)
    tracker.step(frame)
    tracker.remove_object(3)
    for _ in range(3):
        result = tracker.step(frame)
        assert set(np.unique(result.mask)) == {0, 200}
        assert set(result.scores) == {200}
    assert tracker.object_ids == [200]
    with pytest.raises(TrackerError, match=r"object 3 is not followed; these are: \[200\]"):
        tracker.remove_object(3)


def test_a_removed_object_may_return_elsewhere(tracker: Tracker, frame: Frame, mask: Frame) -> None:
    tracker.start(frame, mask)
    tracker.step(frame)
    tracker.remove_object(3)
    tracker.add_object(3, square(40, 90))
    for _ in range(3):
        result = tracker.step(frame)
    assert iou(result.mask == 3, square(40, 90) > 0) > 0.6


def test_the_channel_of_a_removed_object_is_used_again(tracker: Tracker, frame: Frame) -> None:
    tracker.start(frame, square(4, 4))
    before = tracker.memory_bytes
    for object_id in range(2, 40):
        tracker.add_object(object_id, square(40, 80))
        tracker.remove_object(object_id)
    assert tracker.memory_bytes == before
