"""The tracker over small videos, with a model that was never trained but tells cells apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vcedge_runtime.bundle import Bundle
from vcedge_runtime.engines.base import Buffer, Engine
from vcedge_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vcedge_runtime.errors import BundleError, EngineError, MaskError, TrackerError
from vcedge_runtime.tracker import STAGES, StepResult, Tracker, working_size

Frame = NDArray[np.uint8]
MakeFrame = Callable[..., Frame]
HEIGHT, WIDTH = 72, 128


@pytest.fixture
def tracker(tiny_bundle: Bundle) -> Iterator[Tracker]:
    """A tracker of the tiny bundle, at its own size of 64; masks do not follow edges.

    The objects of these tests are not told from their background by colour.
    """
    with Tracker.open(tiny_bundle, edges=False, threads=1) as tracker:
        yield tracker


@pytest.fixture
def frame(make_frame: MakeFrame) -> Frame:
    return make_frame(HEIGHT, WIDTH)


@pytest.fixture
def mask(make_mask: MakeFrame) -> Frame:
    """Objects 3 and 200 side by side."""
    return make_mask(HEIGHT, WIDTH, 3, 200)


@pytest.fixture(params=[False, True], ids=["cubic", "edges"])
def either(request: pytest.FixtureRequest, tiny_bundle: Bundle) -> Iterator[Tracker]:
    """A tracker whose masks follow edges, and one whose masks do not."""
    with Tracker.open(tiny_bundle, edges=request.param, threads=1) as tracker:
        yield tracker


def square(top: int, left: int, side: int = 24) -> Frame:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[top : top + side, left : left + side] = 1
    return mask


def iou(found: NDArray[Any], expected: NDArray[Any]) -> float:
    return float((found & expected).sum() / (found | expected).sum())


def bytes_of_arrays(value: object, seen: set[int]) -> int:
    """Walk everything that an object holds, and add up the arrays that own their memory."""
    if id(value) in seen or isinstance(value, type):
        return 0
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        return value.nbytes if value.base is None else bytes_of_arrays(value.base, seen)
    held: list[object] = []
    if isinstance(value, dict):
        held = [*value.values()]
    elif isinstance(value, list | tuple | set):
        held = [*value]
    elif hasattr(value, "__dict__"):
        held = [*vars(value).values()]
    return sum(bytes_of_arrays(part, seen) for part in held)


def same(one: StepResult, other: StepResult) -> bool:
    return np.array_equal(one.mask, other.mask) and one.scores == other.scores


# What a result is.


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
        with Tracker.open(tiny_bundle, edges=edges, threads=1) as tracker:
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


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(16, 800), st.sampled_from([4, 8]))
def test_the_working_size_is_whole_cells_with_the_short_side_as_wanted(
    height: int, width: int, size: int, stride: int
) -> None:
    work_hw = working_size((height, width), size, stride)
    assert all(side % stride == 0 and side >= 2 * stride for side in work_hw)
    assert abs(min(work_hw) - size) <= stride / 2
    long_side = max(height, width) * size / min(height, width)
    assert abs(max(work_hw) - long_side) <= stride / 2


# Ids and channels.


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
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
    with Tracker.open(tiny_bundle, edges=False, alignment="none", threads=1) as tracker:
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
    video = tracker._video
    assert video is not None
    bank = video.predictor.bank
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


# Memory.


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


# Order of calls, and what is refused.


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
    ],
    ids=["float", "16 bit", "gray", "alpha", "batch", "empty"],
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


@pytest.mark.parametrize("object_id", [0, -1, 256])
def test_ids_that_no_mask_can_hold_are_refused(
    tracker: Tracker, frame: Frame, mask: Frame, object_id: int
) -> None:
    tracker.start(frame, mask)
    with pytest.raises(TrackerError, match=f"object id {object_id}; expected 1 to 255"):
        tracker.add_object(object_id, mask)


def test_a_start_that_fails_leaves_the_video_that_was(
    tracker: Tracker, frame: Frame, mask: Frame
) -> None:
    tracker.start(frame, mask)
    with pytest.raises(MaskError):
        tracker.start(frame, np.zeros_like(mask))
    assert tracker.object_ids == [3, 200]
    tracker.step(frame)


@pytest.mark.parametrize("size", [15, 0, -64])
def test_a_working_size_under_two_cells_is_refused(tiny_bundle: Bundle, size: int) -> None:
    with pytest.raises(TrackerError, match=f"working size of {size}; expected at least 16"):
        Tracker.open(tiny_bundle, size=size)


def test_a_bundle_without_a_graph_that_is_needed_is_refused(tiny_bundle: Bundle) -> None:
    with pytest.raises(TrackerError, match=r"expected also \['encoder', 'label_readout'\]"):
        Tracker(tiny_bundle, {})


# One tracker, many videos.


def make_videos(make_frame: MakeFrame, make_mask: MakeFrame) -> list[tuple[list[Frame], Frame]]:
    wide = [make_frame(HEIGHT, WIDTH, 4 * step) for step in range(9)]
    tall = [make_frame(WIDTH, HEIGHT, 2 * step) for step in range(9)]
    return [(wide, make_mask(HEIGHT, WIDTH, 4)), (tall, make_mask(WIDTH, HEIGHT, 2, 8, 5, 77))]


def run_video(tracker: Tracker, frames: list[Frame], mask: Frame) -> list[StepResult]:
    tracker.start(frames[0], mask)
    return [tracker.step(frame) for frame in frames[1:]]


def test_videos_in_turn_give_what_fresh_trackers_give(
    tiny_bundle: Bundle, tracker: Tracker, make_frame: MakeFrame, make_mask: MakeFrame
) -> None:
    videos = make_videos(make_frame, make_mask)
    fresh = []
    for video in videos:
        with Tracker.open(tiny_bundle, edges=False, threads=1) as other:
            fresh.append(run_video(other, *video))
    for index in (0, 1, 0):
        results = run_video(tracker, *videos[index])
        assert all(same(a, b) for a, b in zip(results, fresh[index], strict=True))


def test_starting_anew_forgets_added_objects(tracker: Tracker, frame: Frame, mask: Frame) -> None:
    tracker.start(frame, mask)
    expected = [tracker.step(frame) for _ in range(7)]
    before = tracker.memory_bytes
    tracker.add_object(9, square(4, 4))
    tracker.remove_object(200)
    tracker.start(frame, mask)
    assert tracker.object_ids == [3, 200]
    assert tracker.memory_bytes == before
    assert all(same(tracker.step(frame), result) for result in expected)


def test_a_folder_opens_like_its_bundle(
    tiny_bundle: Bundle, tracker: Tracker, frame: Frame, mask: Frame
) -> None:
    tracker.start(frame, mask)
    expected = tracker.step(frame)
    folder: Path = tiny_bundle.folder
    with Tracker.open(folder, size=64, edges=False, threads=1) as other:
        other.start(frame, mask)
        assert same(other.step(frame), expected)


def test_the_size_changes_the_grid_and_not_the_result_size(
    tiny_bundle: Bundle, tracker: Tracker, frame: Frame, mask: Frame
) -> None:
    tracker.start(frame, mask)
    with Tracker.open(tiny_bundle, size=128, threads=1) as larger:
        larger.start(frame, mask)
        assert larger.memory_bytes > tracker.memory_bytes
        assert larger.step(frame).mask.shape == (HEIGHT, WIDTH)


# Compositions.


@pytest.mark.parametrize(
    ("memory", "sampler", "fusion"),
    [
        ("dynamic", "window", "joint"),
        ("references", "clusters", "vote"),
        ("references", "window", "mean"),
        ("dynamic", "regions", "bidirectional"),
        ("references", "clusters", "bidirectional"),
        ("references", "regions", "joint"),
    ],
)
def test_any_memory_goes_with_any_sampler_and_fusion(
    tiny_bundle: Bundle, frame: Frame, mask: Frame, memory: str, sampler: str, fusion: str
) -> None:
    parts = {"memory": memory, "sampler": sampler, "fusion": fusion}
    with Tracker.open(tiny_bundle, edges=False, threads=1, **parts) as tracker:
        tracker.start(frame, mask)
        before = tracker.memory_bytes
        for _ in range(9):
            result = tracker.step(frame)
        for object_id in (3, 200):
            assert iou(result.mask == object_id, mask == object_id) > 0.8
        tracker.add_object(5, square(24, 4))
        for _ in range(3):
            result = tracker.step(frame)
        assert iou(result.mask == 5, square(24, 4) > 0) > 0.6
        assert tracker.memory_bytes == before
        # Dynamic memory says what it will hold at most.
        held = bytes_of_arrays(tracker, set())
        assert held <= before if memory == "dynamic" else held == before
        tracker.remove_object(5)
        assert 5 not in tracker.step(frame).mask


def test_mer_whole_tracks_with_flow_and_value_extraction(
    mer_bundle: Bundle, make_frame: MakeFrame, make_mask: MakeFrame
) -> None:
    mask = make_mask(HEIGHT, WIDTH, 1, 2)
    with Tracker.open(mer_bundle, edges=False, threads=1) as tracker:
        tracker.start(make_frame(HEIGHT, WIDTH), mask)
        before = tracker.memory_bytes
        for shift in range(3, 19, 3):
            result = tracker.step(make_frame(HEIGHT, WIDTH, shift))
        moved = np.roll(mask, shift, axis=1)
        moved[:, :shift] = 0
        assert iou(result.mask == 1, moved == 1) > 0.5
        assert tracker.memory_bytes == before == bytes_of_arrays(tracker, set())
        assert result.timings_ms["flow"] > 0
        assert result.timings_ms["values"] > 0


def test_keys_in_memory_are_those_of_the_value_extraction(
    mer_bundle: Bundle, frame: Frame, mask: Frame
) -> None:
    with Tracker.open(mer_bundle, threads=1) as tracker:
        tracker.start(frame, mask)
        bank = tracker._current().predictor.bank
        first = bank.keys[0].copy()
        assert np.abs(bank.keys[0] - bank.raw_keys[0]).max() > 1e-3
        tracker.step(frame)
        # Frozen at write: what was read for a frame is read for all later ones.
        np.testing.assert_array_equal(bank.keys[0], first)
        assert np.abs(bank.keys[1] - bank.raw_keys[1]).max() > 1e-3


class FailingEngine:
    """An engine that fails when it is told to."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.spec = engine.spec
        self.broken = False

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        if self.broken:
            raise EngineError("the engine broke")
        self._engine.run(inputs, out)

    def close(self) -> None:
        self._engine.close()


@pytest.mark.parametrize("graph", ["encoder", "value_extraction", "cluster_readout"])
@pytest.mark.parametrize("memory", ["references", "dynamic"])
def test_a_step_that_fails_is_as_if_it_had_not_been(
    mer_bundle: Bundle, make_frame: MakeFrame, mask: Frame, graph: str, memory: str
) -> None:
    frames = [make_frame(HEIGHT, WIDTH, 2 * step) for step in range(6)]
    parts = mer_bundle.composition.exchange(memory=memory)
    bundle = replace(mer_bundle, composition=parts)
    expected: list[StepResult] = []
    for fails in (False, True):
        engines: dict[str, Engine] = {
            name: OnnxRuntimeEngine(bundle.path_of(name), each.spec, threads=1)
            for name, each in bundle.graphs.items()
        }
        engines[graph] = failing = FailingEngine(engines[graph])
        with Tracker(bundle, engines) as tracker:
            tracker.start(frames[0], mask)
            for step, frame in enumerate(frames[1:]):
                if fails and step in (0, 2):
                    failing.broken = True
                    with pytest.raises(EngineError, match="the engine broke"):
                        tracker.step(make_frame(HEIGHT, WIDTH, 40))
                    failing.broken = False
                result = tracker.step(frame)
                if fails:
                    assert same(result, expected[step])
                else:
                    expected.append(result)


def test_an_unknown_part_is_refused_before_a_graph_is_loaded(tiny_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="received memory 'endless'; expected one of references"):
        Tracker.open(tiny_bundle, memory="endless")


# Points.


def test_points_are_followed_by_name(tracker: Tracker, make_frame: MakeFrame) -> None:
    points = {"left": (30.0, 36.0), "right": (80.5, 30.25)}
    tracker.start_points(make_frame(HEIGHT, WIDTH), points)
    assert tracker.point_names == ["left", "right"]
    assert tracker.object_ids == []
    for shift in range(3, 22, 3):
        result = tracker.step(make_frame(HEIGHT, WIDTH, shift))
    assert list(result.points) == ["left", "right"]
    for name, (x, y) in points.items():
        found = result.points[name]
        assert found.visible
        assert 0 < found.score <= 1
        # A key cell has 9 pixels; a point is told within one of them.
        assert abs(found.x - x - shift) < 9
        assert abs(found.y - y) < 9
    assert not result.mask.any()
    assert result.scores == {}


def test_points_and_objects_do_not_mix(tracker: Tracker, frame: Frame, mask: Frame) -> None:
    tracker.start_points(frame, {"nose": (10.0, 10.0)})
    with pytest.raises(TrackerError, match="began with points; call start"):
        tracker.add_object(1, mask)
    tracker.start(frame, mask)
    assert tracker.point_names == []
    assert tracker.step(frame).points == {}


@pytest.mark.parametrize(
    "points", [{}, {"nose": (np.nan, 3.0)}, {str(n): (3.0, 3.0) for n in range(256)}]
)
def test_points_that_cannot_be_followed_are_refused(
    tracker: Tracker, frame: Frame, points: dict[str, tuple[float, float]]
) -> None:
    with pytest.raises(TrackerError, match=f"received {len(points)} points; expected 1 to 255"):
        tracker.start_points(frame, points)
