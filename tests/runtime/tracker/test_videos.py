"""One tracker over many videos."""

from __future__ import annotations

from pathlib import Path

from tests.runtime.tracker.made import HEIGHT, WIDTH, Frame, MakeFrame, same, square
from vcedge_runtime.followed import StepResult
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.tracker import Tracker


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
        with Tracker.open(tiny_bundle, overrides={"edges": False}, threads=1) as other:
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
    with Tracker.open(folder, size=64, overrides={"edges": False}, threads=1) as other:
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
