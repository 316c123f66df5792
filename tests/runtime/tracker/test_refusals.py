"""The order of a tracker's calls, and what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from tests.runtime.tracker.made import HEIGHT, WIDTH, Frame, MakeFrame, iou, same, square
from vcedge_runtime.errors import MaskError, TrackerError
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.tracker import Tracker


@pytest.mark.parametrize(
    "call",
    [
        lambda tracker: tracker.step(np.zeros((HEIGHT, WIDTH, 3), np.uint8)),
        lambda tracker: tracker.add_object(1, square(4, 4)),
        lambda tracker: tracker.remove_object(1),
        lambda tracker: tracker.memory_bytes,
        lambda tracker: tracker.object_ids,
    ],
    ids=["step", "add_object", "remove_object", "memory_bytes", "object_ids"],
)
def test_nothing_goes_before_start_or_after_close(
    tracker: Tracker, frame: Frame, mask: Frame, call: Callable[[Tracker], object]
) -> None:
    with pytest.raises(TrackerError, match=r"call start\(frame, mask\) first"):
        call(tracker)
    tracker.start(frame, mask)
    tracker.close()
    with pytest.raises(TrackerError, match="closed; open another"):
        call(tracker)
    with pytest.raises(TrackerError, match="closed; open another"):
        tracker.start(frame, mask)


def test_closing_twice_is_closing_once(tracker: Tracker) -> None:
    tracker.close()
    tracker.close()
    with pytest.raises(TrackerError, match="closed"):
        _ = tracker.object_ids


def test_a_frame_of_another_size_is_refused_and_changes_nothing(
    tracker: Tracker, make_frame: MakeFrame, frame: Frame, mask: Frame
) -> None:
    tracker.start(frame, mask)
    with pytest.raises(TrackerError, match=r"a frame of \(128, 72\); expected \(72, 128\)"):
        tracker.step(make_frame(WIDTH, HEIGHT))
    with pytest.raises(TrackerError, match=r"\(72, 127\)"):
        tracker.step(frame[:, :-1])
    assert iou(tracker.step(frame).mask == 3, mask == 3) > 0.85


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((HEIGHT, WIDTH, 3), np.float32),
        np.zeros((HEIGHT, WIDTH, 3), np.uint16),
        np.zeros((HEIGHT, WIDTH), np.uint8),
        np.zeros((HEIGHT, WIDTH, 4), np.uint8),
        np.zeros((1, HEIGHT, WIDTH, 3), np.uint8),
        np.zeros((0, WIDTH, 3), np.uint8),
        np.uint8(3),
        None,
        [[[0, 0, 0]]],
        cv2.UMat(np.zeros((HEIGHT, WIDTH, 3), np.uint8)),
        "frame.png",
    ],
    ids=lambda wrong: (
        f"{type(wrong).__name__} {getattr(wrong, 'dtype', '')} {getattr(wrong, 'shape', '')}"
    ),
)
def test_what_is_no_frame_is_refused(
    tracker: Tracker, frame: Frame, mask: Frame, wrong: Any
) -> None:
    with pytest.raises(TrackerError, match=r"expected uint8 \(H, W, 3\), BGR"):
        tracker.start(wrong, mask)
    tracker.start(frame, mask)
    with pytest.raises(TrackerError, match=r"expected uint8 \(H, W, 3\), BGR"):
        tracker.step(wrong)


def test_a_frame_that_is_a_view_is_taken(tracker: Tracker, frame: Frame, mask: Frame) -> None:
    tracker.start(frame, mask)
    expected = tracker.step(frame)
    mirrored = np.ascontiguousarray(frame[:, ::-1])[:, ::-1]
    tracker.start(mirrored, np.asfortranarray(mask))
    assert same(tracker.step(mirrored), expected)


def test_masks_that_cannot_be_followed_are_refused(
    tracker: Tracker, frame: Frame, mask: Frame
) -> None:
    with pytest.raises(MaskError, match="without an object"):
        tracker.start(frame, np.zeros_like(mask))
    with pytest.raises(MaskError, match="71x128"):
        tracker.start(frame, mask[1:])
    tracker.start(frame, mask)
    with pytest.raises(MaskError, match="without an object"):
        tracker.add_object(9, np.zeros_like(mask))
    with pytest.raises(MaskError, match="72x127"):
        tracker.add_object(9, mask[:, 1:])
    assert tracker.object_ids == [3, 200]


@pytest.mark.parametrize(
    "wrong",
    [None, [[0, 1]], np.full((HEIGHT, WIDTH), np.nan), "mask.png", np.full((HEIGHT, WIDTH), None)],
    ids=lambda wrong: type(wrong).__name__ + str(getattr(wrong, "dtype", "")),
)
def test_what_is_no_mask_is_refused_and_changes_nothing(
    tracker: Tracker, frame: Frame, mask: Frame, wrong: Any
) -> None:
    with pytest.raises(MaskError, match="expected a numpy array of object ids"):
        tracker.start(frame, wrong)
    tracker.start(frame, mask)
    with pytest.raises(MaskError, match="expected a numpy array of object ids"):
        tracker.add_object(7, wrong)
    assert tracker.object_ids == [3, 200]


@pytest.mark.parametrize("object_id", [0, -1, 256, 1.5, True, np.True_, "3", None, np.float32(3)])
def test_ids_that_no_mask_can_hold_are_refused(
    tracker: Tracker, frame: Frame, mask: Frame, object_id: Any
) -> None:
    tracker.start(frame, mask)
    shown = re.escape(f"object id {object_id!r}; expected 1 to 255, a whole number")
    with pytest.raises(TrackerError, match=shown):
        tracker.add_object(object_id, mask)
    with pytest.raises(TrackerError, match=shown):
        tracker.remove_object(object_id)
    assert tracker.object_ids == [3, 200]


@pytest.mark.parametrize("whole", [np.uint8, np.int64])
def test_ids_of_numpy_are_plain_ids_that_json_takes(
    tracker: Tracker, frame: Frame, mask: Frame, whole: Callable[[int], Any]
) -> None:
    tracker.start(frame, mask)
    tracker.add_object(whole(7), square(30, 60))
    tracker.add_object(7, square(30, 60))
    assert json.loads(json.dumps(tracker.object_ids)) == [3, 200, 7]
    assert [*map(int, json.loads(json.dumps(tracker.step(frame).scores)))] == [3, 200, 7]
    tracker.remove_object(whole(7))
    assert tracker.object_ids == [3, 200]


def test_a_start_that_fails_leaves_the_video_that_was(
    tracker: Tracker, frame: Frame, mask: Frame
) -> None:
    tracker.start(frame, mask)
    with pytest.raises(MaskError):
        tracker.start(frame, np.zeros_like(mask))
    assert tracker.object_ids == [3, 200]
    tracker.step(frame)


@pytest.mark.parametrize("size", [15, 0, -64, 4097, "64", 64.0, np.nan, True, [64]], ids=repr)
def test_a_working_size_under_two_cells_or_that_is_none_is_refused(
    tiny_bundle: Bundle, size: Any
) -> None:
    shown = re.escape(f"working size of {size!r}; expected 16 to 4096 pixels, a whole number")
    with pytest.raises(TrackerError, match=shown):
        Tracker.open(tiny_bundle, size=size)


def test_a_working_size_of_numpy_is_a_plain_one(tiny_bundle: Bundle) -> None:
    with Tracker.open(tiny_bundle, size=np.int64(48), threads=1) as tracker:
        assert type(tracker.size) is int
        assert tracker.size == 48


@pytest.mark.parametrize("threads", [-1, 1025, 1.5, "2", None])
def test_threads_that_cannot_be_are_refused(tiny_bundle: Bundle, threads: Any) -> None:
    with pytest.raises(TrackerError, match="threads; expected 0 to 1024"):
        Tracker.open(tiny_bundle, threads=threads)


@pytest.mark.parametrize("model", [None, 3, b"mer-edge"])
def test_what_names_no_model_is_refused(model: Any) -> None:
    with pytest.raises(TrackerError, match="as a model; expected a shipped name, a bundle's"):
        Tracker.open(model)


@pytest.mark.parametrize("overrides", ["memory", [("memory", "dynamic")], {3: "dynamic"}], ids=repr)
def test_overrides_that_are_no_parts_by_name_are_refused(
    tiny_bundle: Bundle, overrides: Any
) -> None:
    with pytest.raises(TrackerError, match=r"received overrides .*; expected a mapping of parts"):
        Tracker.open(tiny_bundle, overrides=overrides)


def test_overrides_exchange_parts_and_none_leaves_what_is(tiny_bundle: Bundle) -> None:
    overrides = {"edges": False, "memory": "dynamic", "sampler": None}
    with Tracker.open(tiny_bundle, overrides=overrides, threads=1) as tracker:
        expected = tiny_bundle.composition.exchange(edges=False, memory="dynamic")
        assert tracker.bundle.composition == expected


def test_a_bundle_without_a_graph_that_is_needed_is_refused(tiny_bundle: Bundle) -> None:
    with pytest.raises(TrackerError, match=r"expected also \['encoder', 'label_readout'\]"):
        Tracker(tiny_bundle, {})
