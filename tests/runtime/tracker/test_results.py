"""What a tracker gives, and how much memory it takes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.runtime.tracker.made import HEIGHT, WIDTH, Frame, MakeFrame, bytes_of_arrays, iou, square
from vcedge_runtime.engines.choosing import rank_backends
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.timing import STAGES
from vcedge_runtime.tracker import Tracker


def test_a_still_video_keeps_its_mask(tracker: Tracker, frame: Frame, mask: Frame) -> None:
    tracker.start(frame, mask)
    for _ in range(20):
        result = tracker.step(frame)
    # Labels of 9-pixel cells round the corners of a bar; a lost or moved object would be below 0.6.
    for object_id in (3, 200):
        assert iou(result.mask == object_id, mask == object_id) > 0.85


def test_objects_that_move_are_followed(
    tracker: Tracker, make_frame: MakeFrame, make_mask: MakeFrame
) -> None:
    mask = make_mask(HEIGHT, WIDTH, 1, 2)
    tracker.start(make_frame(HEIGHT, WIDTH), mask)
    for shift in range(3, 31, 3):
        result = tracker.step(make_frame(HEIGHT, WIDTH, shift))
    moved = np.roll(mask, shift, axis=1)
    moved[:, :shift] = 0
    # Staying where it was would give object 1 an IoU of 0.
    assert iou(result.mask == 1, moved == 1) > 0.6


def test_masks_end_where_the_frame_has_its_edges(
    tiny_bundle: Bundle, make_frame: MakeFrame
) -> None:
    frame, mask = make_frame(HEIGHT, WIDTH) // 2, square(13, 41, 31)
    frame[mask > 0] += np.uint8(120)
    found = {}
    for edges in (False, True):
        with Tracker.open(tiny_bundle, overrides={"edges": edges}, threads=1) as tracker:
            tracker.start(frame, mask)
            tracker.step(frame)
            found[edges] = iou(tracker.step(frame).mask == 1, mask > 0)
    # Cells of 9 pixels cannot tell where in a cell the square ends; its colour can.
    assert found[True] > 0.97
    assert found[True] > found[False] + 0.02


def test_a_result_is_ids_in_the_frames_own_pixels(
    tracker: Tracker, frame: Frame, mask: Frame
) -> None:
    tracker.start(frame, mask)
    result = tracker.step(frame)
    assert result.mask.shape == (HEIGHT, WIDTH)
    assert result.mask.dtype == np.uint8
    assert set(np.unique(result.mask)) == {0, 3, 200}
    assert set(result.scores) == {3, 200}
    assert all(0.5 < score <= 1 for score in result.scores.values())
    assert tuple(result.timings_ms) == STAGES
    assert result.points == {}
    assert all(spent >= 0 for spent in result.timings_ms.values())


def test_a_result_is_the_callers_own(either: Tracker, frame: Frame, mask: Frame) -> None:
    either.start(frame, mask)
    first = either.step(frame)
    kept = first.mask.copy()
    either.step(frame)
    np.testing.assert_array_equal(first.mask, kept)
    first.mask[:] = 9
    assert 9 not in either.step(frame).mask


@pytest.mark.parametrize(
    "size_hw",
    [(128, 72), (73, 131), (75, 100), (64, 64), (480, 270), (16, 24), (9, 11), (40, 200), (3, 4)],
    ids=lambda size: "x".join(map(str, size)),
)
def test_any_size_and_aspect_ratio_is_tracked(
    either: Tracker, make_frame: MakeFrame, size_hw: tuple[int, int]
) -> None:
    frame = make_frame(*size_hw)
    mask = np.zeros(size_hw, np.uint8)
    mask[size_hw[0] // 4 : -(size_hw[0] // 4) or None, size_hw[1] // 4 : size_hw[1] // 2 + 1] = 7
    either.start(frame, mask)
    for _ in range(3):
        result = either.step(frame)
    assert result.mask.shape == size_hw
    assert set(np.unique(result.mask)) <= {0, 7}
    if min(size_hw) >= 64 and not either.bundle.composition.edges:
        assert iou(result.mask == 7, mask == 7) > 0.8


def test_memory_does_not_grow_and_is_every_array_that_is_held(
    either: Tracker, frame: Frame, mask: Frame
) -> None:
    either.start(frame, mask)
    before = either.memory_bytes
    for _ in range(30):
        either.step(frame)
    assert either.memory_bytes == before
    assert bytes_of_arrays(either, set()) == before


def test_memory_is_exact_after_channels_grew_too(tracker: Tracker, frame: Frame) -> None:
    tracker.start(frame, square(4, 4))
    before = tracker.memory_bytes
    for object_id in range(2, 9):
        tracker.step(frame)
        tracker.add_object(object_id, square(4 + 5 * object_id, 4 + 10 * object_id))
    assert tracker.memory_bytes > before
    assert bytes_of_arrays(tracker, set()) == tracker.memory_bytes


def test_a_tracker_takes_the_back_end_that_the_machine_has_and_tells_why(
    tiny_bundle: Bundle, frame: Frame, mask: Frame
) -> None:
    told: list[str] = []
    with Tracker.open(tiny_bundle, tell=told.append) as tracker:
        tracker.start(frame, mask)
        assert set(np.unique(tracker.step(frame).mask)) <= {0, 3, 200}
    assert len(told) >= 1
    assert rank_backends(tiny_bundle)[0].reason in told
