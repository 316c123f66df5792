"""Masks given in mid-video, and both ways from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.runtime.test_session import ListSink
from vcedge_runtime.errors import MaskError, SourceError
from vcedge_runtime.followed import StepResult
from vcedge_runtime.given import (
    ResultStore,
    merge_results,
    read_backwards,
    take_frame,
    track_both_ways,
    track_given,
)
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.session import SessionReport
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.sources import Frame, Source

Image = NDArray[np.uint8]
HW = (48, 64)
FRAMES = 7


class Recording(Source):
    """Frames in memory that can be read again; counts how many are held at once."""

    label, frame_hw, length = "recording", HW, FRAMES

    def __init__(self, frames: list[Frame], *, live: bool = False) -> None:
        self._frames = frames
        self.live = live
        self.most = 0

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._frames)

    def read_span(self, start: int, stop: int) -> list[Frame]:
        found = super().read_span(start, stop)
        self.most = max(self.most, len(found))
        return found

    def close(self) -> None:
        """Hold nothing."""


@pytest.fixture
def tracker(tiny_bundle: Bundle) -> Iterator[Tracker]:
    pytest.importorskip("onnxruntime", reason="the graphs run in it; install vcedge[cpu]")
    with Tracker.open(tiny_bundle, size=48, threads=1) as tracker:
        yield tracker


@pytest.fixture
def frames(make_frame: Callable[..., Image]) -> list[Frame]:
    return [Frame(index, f"f{index}", make_frame(*HW, 2 * index)) for index in range(FRAMES)]


@pytest.fixture
def mask(make_mask: Callable[..., Image]) -> Image:
    return make_mask(*HW, 3, 200)


def results_of(sink: ListSink) -> dict[int, Image]:
    return {frame.index: labels for frame, labels, _ in sink.results}


def test_a_later_mask_appears_in_its_frame_and_is_followed(
    tracker: Tracker, frames: list[Frame], mask: Image
) -> None:
    later = np.zeros(HW, np.uint8)
    later[2:10, 2:14] = 7
    sink = ListSink()
    track_given(tracker, frames, {0: mask, 3: later}, [sink], SessionReport())
    found = results_of(sink)
    assert list(found) == list(range(FRAMES))
    assert not any((found[index] == 7).any() for index in range(3))
    np.testing.assert_array_equal(found[3] == 7, later == 7)
    assert all((found[index] == 7).any() for index in range(4, FRAMES))
    assert (found[3] == 3).any()


def test_a_later_mask_corrects_what_it_shows_and_leaves_the_rest(
    tracker: Tracker, frames: list[Frame], mask: Image
) -> None:
    moved = np.zeros(HW, np.uint8)
    moved[30:44, 4:20] = 3
    sink = ListSink()
    track_given(tracker, frames, {0: mask, 3: moved}, [sink], SessionReport())
    found = results_of(sink)
    np.testing.assert_array_equal(found[3] == 3, moved == 3)
    assert (found[3] == 200).any()


@pytest.mark.parametrize("whole", [True, False])
def test_a_frame_whose_mask_is_given_is_not_held(
    tracker: Tracker,
    frames: list[Frame],
    mask: Image,
    whole: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = mask if whole else np.where(mask == mask.max(), mask, 0).astype(np.uint8)
    tracker.start(frames[0].image, mask)
    held = StepResult(mask, dict.fromkeys(tracker.object_ids, 0.0), {}, held=True)
    monkeypatch.setattr(tracker, "step", lambda image: held)
    result = take_frame(tracker, frames[1], {1: given}, begins=False)
    assert result.held == (not whole)
    np.testing.assert_array_equal(result.mask, mask)


def test_a_mask_beyond_the_end_is_told_once_the_rest_is_written(
    tracker: Tracker, frames: list[Frame], mask: Image
) -> None:
    sink = ListSink()
    with pytest.raises(MaskError, match="frame 90, which the video does not have: its last one"):
        track_given(tracker, frames, {0: mask, 90: mask}, [sink], SessionReport())
    assert len(sink.results) == FRAMES


def test_tracking_cannot_begin_without_a_mask(
    tracker: Tracker, frames: list[Frame], mask: Image
) -> None:
    with pytest.raises(MaskError, match="no mask of frame 0, where tracking begins"):
        track_given(tracker, frames, {2: mask}, [], SessionReport())


def test_from_a_frame_in_the_middle_both_ways_are_what_trackers_give_there(
    tracker: Tracker, tiny_bundle: Bundle, frames: list[Frame], mask: Image
) -> None:
    sink, report = ListSink(), SessionReport()
    track_both_ways(tracker, Recording(frames), frames, {3: mask}, [sink], report)
    found = results_of(sink)
    assert list(found) == list(range(FRAMES))
    assert report.frames == FRAMES
    np.testing.assert_array_equal(found[3], mask)
    for way in (range(4, FRAMES), range(2, -1, -1)):
        with Tracker.open(tiny_bundle, size=48, threads=1) as alone:
            alone.start(frames[3].image, mask)
            for index in way:
                np.testing.assert_array_equal(found[index], alone.step(frames[index].image).mask)


def test_between_two_masks_each_frame_takes_from_the_nearer_one(
    tracker: Tracker, tiny_bundle: Bundle, frames: list[Frame], make_mask: Callable[..., Image]
) -> None:
    first, last = make_mask(*HW, 3), np.roll(make_mask(*HW, 3), 12, axis=1)
    sink = ListSink()
    given = {0: first, 6: last}
    track_both_ways(tracker, Recording(frames), frames, given, [sink], SessionReport())
    found = results_of(sink)
    with Tracker.open(tiny_bundle, size=48, threads=1) as alone:
        alone.start(frames[0].image, first)
        for index in (1, 2, 3):  # the middle belongs to the former
            np.testing.assert_array_equal(found[index], alone.step(frames[index].image).mask)
        alone.start(frames[6].image, last)
        for index in (5, 4):
            np.testing.assert_array_equal(found[index], alone.step(frames[index].image).mask)


def test_an_object_that_only_one_mask_shows_comes_from_that_one() -> None:
    first, last = np.zeros(HW, np.uint8), np.zeros(HW, np.uint8)
    first[:5], last[20:25] = 1, 2
    onward, back = StepResult(first, {1: 0.9, 2: 0.0}, {}), StepResult(last, {2: 0.8}, {})
    merged = merge_results(onward, back, 5, {0: first, 6: last})
    np.testing.assert_array_equal(merged.mask, first + last)
    assert merged.scores == {1: 0.9, 2: 0.8}


def test_where_both_ways_claim_a_pixel_the_nearer_mask_counts() -> None:
    one, two = np.full(HW, 1, np.uint8), np.full(HW, 2, np.uint8)
    onward, back = StepResult(one, {1: 0.9}, {}), StepResult(two, {2: 0.9}, {})
    assert (merge_results(onward, back, 1, {0: one, 6: two}).mask == 1).all()
    assert (merge_results(onward, back, 5, {0: one, 6: two}).mask == 2).all()


@pytest.mark.parametrize("held", [1, 2, 3, 100])
def test_frames_come_backwards_and_few_are_held(frames: list[Frame], held: int) -> None:
    source = Recording(frames)
    found = [frame.index for frame in read_backwards(source, 5, held * 3 * HW[0] * HW[1])]
    assert found == [5, 4, 3, 2, 1, 0]
    assert source.most == min(held, 6)


def test_a_frame_that_is_not_there_cannot_be_begun_with(frames: list[Frame]) -> None:
    with pytest.raises(MaskError, match="frame 9, which the video does not have"):
        list(read_backwards(Recording(frames), 9))


def test_a_stream_is_refused(tracker: Tracker, frames: list[Frame], mask: Image) -> None:
    with pytest.raises(SourceError, match="whose frames come once, to follow backwards"):
        track_both_ways(
            tracker, Recording(frames, live=True), frames, {3: mask}, [], SessionReport()
        )


def test_results_wait_in_a_file_and_come_back_as_they_were(mask: Image) -> None:
    result = StepResult(mask, {3: 0.5, 200: 1.0}, {"resize": 1.0}, states={3: "lost"}, held=True)
    with ResultStore() as store:
        store.put(4, result)
        store.put(2, StepResult(mask[:5], {}, {}))
        found = store.take(4)
        assert store.take(2).mask.shape == (5, HW[1])
    np.testing.assert_array_equal(found.mask, mask)
    assert replace(found, mask=mask) == replace(result, timings_ms={})


def test_a_result_that_never_came_is_told() -> None:
    with ResultStore() as store, pytest.raises(SourceError, match="frame 3 did not come"):
        store.take(3)


@pytest.mark.parametrize("way", ["on", "back"])
def test_a_mask_of_a_frame_that_does_not_come_is_told(
    tracker: Tracker, frames: list[Frame], mask: Image, way: str
) -> None:
    gap, sink = [frame for frame in frames if frame.index != 3], ListSink()
    given = {0: mask, 3: mask, 5: mask}
    follow: Callable[..., None] = partial(track_both_ways, tracker, Recording(gap))
    if way == "on":
        follow = partial(track_given, tracker)
    with pytest.raises(MaskError, match="a mask of frame 3, which did not come"):
        follow(gap, given, [sink], SessionReport())
    # On the way, what was tracked until then is written.
    assert list(results_of(sink)) == ([0, 1, 2] if way == "on" else [])


def test_a_first_mask_that_cannot_be_decoded_is_told_on_the_way_back(
    tracker: Tracker, frames: list[Frame], mask: Image
) -> None:
    gap = frames[1:]
    with pytest.raises(MaskError, match="a mask of frame 0, which did not come"):
        track_both_ways(tracker, Recording(gap), gap, {0: mask, 5: mask}, [], SessionReport())
