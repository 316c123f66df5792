"""Views of the frame whose mask was given: larger and smaller, and read with global memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.runtime.tracker.made import Frame, bytes_beside_engines, iou
from tests.runtime.tracker.made_srnet import HandMadeGraph, make_engines, open_hand_made
from vcedge_runtime.buffers import Buffer
from vcedge_runtime.engines.base import Engine, ForwardingEngine
from vcedge_runtime.errors import BundleError
from vcedge_runtime.memory.local_global import LocalGlobalPolicy
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.predictors.objects import ObjectPredictor
from vcedge_runtime.tracker import Tracker

HEIGHT, WIDTH, CELL = 192, 256, 16
ZOOM = LocalGlobalPolicy(zoom=1.5)
COLOURS = {1: (40, 200, 60), 2: (200, 60, 30)}


def draw(side: int, left: int = 128, top: int = 96, object_id: int = 1) -> tuple[Frame, Frame]:
    """A square about a middle, and its id."""
    frame, ids = np.full((HEIGHT, WIDTH, 3), 128, np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
    part = np.s_[top - side // 2 : top + side // 2, left - side // 2 : left + side // 2]
    frame[part], ids[part] = COLOURS[object_id], object_id
    return frame, ids


def open_zooming(**parts: Any) -> Tracker:
    return open_hand_made(size=HEIGHT, memory=ZOOM, **parts)


def find_predictor(tracker: Tracker) -> ObjectPredictor:
    predictor = tracker.video.predictor
    assert isinstance(predictor, ObjectPredictor)
    return predictor


def see(tracker: Tracker) -> tuple[NDArray[Any], ...]:
    """What the last slots hold, those of views: keys, labels, values, what makes prototypes."""
    predictor = find_predictor(tracker)
    bank, values = predictor.bank, predictor.values
    held = (bank.keys, bank.labels, values.values, values.sums, values.weights)
    return tuple(np.array(array)[-2:] for array in held)


def start(tracker: Tracker, frame: Frame, mask: Frame) -> None:
    """Begin a video, and see its frame once more: then there are views."""
    tracker.start(frame, mask)
    tracker.step(frame)


class Recording(ForwardingEngine):
    """Knows the slots of every run."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.slots: list[list[int]] = []

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        self.slots.append(np.array(inputs["slot_index"]).tolist())
        super().run(inputs, out)


def test_the_first_frame_is_remembered_larger_and_smaller() -> None:
    with open_zooming() as tracker:
        start(tracker, *draw(64))
        keys, labels, *_ = see(tracker)
    cells = (64 / CELL) ** 2
    for view, scale in zip(labels[..., 1], (1.5, 1 / 1.5), strict=True):
        assert view.sum() == pytest.approx(cells * scale**2, rel=0.02)
        row = np.average(np.arange(12), weights=view.sum(axis=1))
        column = np.average(np.arange(16), weights=view.sum(axis=0))
        assert (row, column) == pytest.approx((5.5, 7.5), abs=0.05)
    # The middle is the object's in both, and its colour is its key.
    np.testing.assert_allclose(keys[0, 6, 8], keys[1, 6, 8], atol=1e-3)


def test_what_is_mirrored_beyond_the_border_is_the_object_too() -> None:
    with open_zooming() as tracker:
        start(tracker, *draw(64, left=32))
        keys, labels, *_ = see(tracker)
    smaller, ids = keys[1], labels[1, ..., 1]
    object_key, ground_key = smaller[6, 2], smaller[6, 14]
    near = np.linalg.norm(smaller - object_key, axis=-1)
    far = np.linalg.norm(smaller - ground_key, axis=-1)
    # A quarter of it is there once more.
    assert ids.sum() == pytest.approx(1.25 * (64 / CELL / 1.5) ** 2, rel=0.02)
    np.testing.assert_array_equal((near < far)[ids > 0.9], True)
    np.testing.assert_array_equal((near < far)[ids < 0.1], False)


def test_where_a_window_follows_the_views_are_of_what_it_shows() -> None:
    with open_zooming(window="follow") as tracker:
        start(tracker, *draw(64))
        _, labels, *_ = see(tracker)
        bank = find_predictor(tracker).bank
        # Frame 0 is whole, frame 1 the same in the window.
        shown = bank.labels[bank.slot_of(1), ..., 1].sum()
    assert shown > 1.5 * (64 / CELL) ** 2
    assert labels[1, ..., 1].sum() == pytest.approx(shown / 1.5**2, rel=0.05)


def test_views_are_read_and_memory_does_not_grow() -> None:
    engines = make_engines()
    reader = engines["memory_read"] = Recording(engines["memory_read"])
    with open_hand_made(engines, size=HEIGHT, memory=ZOOM) as tracker:
        tracker.start(*draw(64))
        held = tracker.memory_bytes
        for step in range(1, 40):
            frame, truth = draw(64 + 32 * (step // 13))
            result = tracker.step(frame)
        assert iou(result.mask == 1, truth == 1) > 0.9
        assert tracker.memory_bytes == held == bytes_beside_engines(tracker.video)
        first = tracker.bundle.composition.slots
    # Local memory is one slot, global memory several.
    read = [slots for slots in reader.slots if len(slots) > 1]
    assert len(read) == 39
    assert all(slots[-2:] == [first, first + 1] for slots in read)
    assert max(map(len, read)) == ZOOM.capacity + 2 == ZOOM.references


def test_a_mask_that_is_corrected_where_it_was_given_makes_the_views_anew() -> None:
    with open_zooming() as corrected, open_zooming() as right:
        frame, mask = draw(64)
        corrected.start(frame, draw(32, left=140)[1])
        corrected.add_object(1, mask)
        corrected.step(frame)
        start(right, frame, mask)
        for one, other in zip(see(corrected), see(right), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_where_a_window_follows_the_first_frame_is_corrected_whole_too() -> None:
    with open_zooming(window="follow") as tracker:
        frame, mask = draw(64)
        tracker.start(frame, draw(32)[1])
        tracker.add_object(1, mask)
        bank = find_predictor(tracker).bank
        whole = bank.labels[bank.slot_of(0), ..., 1].sum()
    assert whole == pytest.approx((64 / CELL) ** 2, rel=0.15)


def test_an_object_that_is_taken_away_where_it_was_given_leaves_the_views_too() -> None:
    with open_zooming() as tracker, open_zooming() as right:
        frame, mask = draw(64)
        second, ids = draw(64, left=40, object_id=2)
        frame[ids > 0] = second[ids > 0]
        tracker.start(frame, np.maximum(mask, ids))
        tracker.remove_object(2)
        tracker.step(frame)
        start(right, frame, mask)
        for one, other in zip(see(tracker), see(right), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("window", ["full", "follow"])
def test_a_correction_in_mid_video_leaves_the_views_of_the_mask_that_was_given(window: str) -> None:
    with open_zooming(window=window) as tracker:
        frame, mask = draw(64)
        start(tracker, frame, mask)
        for _ in range(6):
            tracker.step(frame)
        before = see(tracker)
        tracker.add_object(1, draw(32, left=140)[1])
        for one, other in zip(see(tracker), before, strict=True):
            np.testing.assert_array_equal(one, other)


def test_an_object_that_comes_later_is_read_back_into_the_views() -> None:
    with open_zooming() as tracker:
        frame, mask = draw(64)
        second, ids = draw(64, left=40, object_id=2)
        frame[ids > 0] = second[ids > 0]
        start(tracker, frame, mask)
        before = see(tracker)
        tracker.add_object(2, ids)
        keys, labels, *_ = see(tracker)
        np.testing.assert_array_equal(keys, before[0])
        # A smaller view shows both, the larger one a part of the second.
        assert labels[1, ..., 2].max() > 0.9
        assert labels[..., 2].sum() > 0
        tracker.remove_object(2)
        np.testing.assert_allclose(see(tracker)[1][..., 1], before[1][..., 1], atol=0.05)


def test_a_view_that_fails_is_made_with_the_next_step() -> None:
    engines = make_engines()
    encoder = engines["value_encoder"]
    assert isinstance(encoder, HandMadeGraph)
    with open_hand_made(engines, size=HEIGHT, memory=ZOOM) as tracker, open_zooming() as right:
        frame, mask = draw(64)
        tracker.start(frame, mask)
        whole, runs = encoder.run, len(encoder.runs)

        def fail_at_the_second_view(inputs: Any, out: Any) -> None:
            encoder.broken = len(encoder.runs) == runs + 2
            whole(inputs, out)

        encoder.run = fail_at_the_second_view  # type: ignore[method-assign]
        with pytest.raises(RuntimeError, match="broken on purpose"):
            tracker.step(frame)
        encoder.broken, encoder.run = False, whole  # type: ignore[method-assign]
        assert find_predictor(tracker).frame == 0
        tracker.step(frame)
        start(right, frame, mask)
        for one, other in zip(see(tracker), see(right), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_models_of_one_view_refuse_it(tiny_bundle: Bundle, srnet_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="knows one view of a frame"):
        tiny_bundle.tracking.exchange(memory="local_global:zoom=1.5")
    with pytest.raises(BundleError, match="whose objects have a state"):
        type(srnet_bundle.tracking)(16, 4, 4, 64, memory=ZOOM, hidden_dim=4)
    with pytest.raises(BundleError, match="zoom"):
        LocalGlobalPolicy(zoom=0.9)
