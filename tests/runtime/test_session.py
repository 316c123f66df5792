"""The loop from source to sinks: what sinks get, and what the report says, whatever happens."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace
from typing import ClassVar, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.runtime.video.cameras import Clock, ListSource
from vcedge_runtime import session
from vcedge_runtime.errors import EngineError, MaskError, OutputError, SourceError, TrackerError
from vcedge_runtime.followed import StepResult
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.propagation.points import PointEstimate
from vcedge_runtime.session import SessionReport, track_frames, track_points
from vcedge_runtime.timing import STAGES
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video import live
from vcedge_runtime.video.live import LiveSource
from vcedge_runtime.video.sinks import NO_STATES, Sink
from vcedge_runtime.video.sources import Frame

Image = NDArray[np.uint8]
HW = (48, 64)


class ListSink(Sink):
    """Keeps what it gets; fails at a frame where that is asked for."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.results: list[tuple[Frame, Image, dict[int, float]]] = []
        self.fail_at = fail_at
        self.closed = False

    def write(
        self,
        frame: Frame,
        labels: Image,
        scores: Mapping[int, float],
        states: Mapping[int, str] = NO_STATES,
    ) -> None:
        if frame.index == self.fail_at:
            raise OutputError("the disk is full")
        self.results.append((frame, labels, dict(scores)))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def tracker(tiny_bundle: Bundle) -> Iterator[Tracker]:
    pytest.importorskip("onnxruntime", reason="the graphs run in it; install vcedge[cpu]")
    with Tracker.open(tiny_bundle, size=48, threads=1) as tracker:
        yield tracker


@pytest.fixture
def frames(make_frame: Callable[..., Image]) -> list[Frame]:
    return [Frame(index, f"f{index}", make_frame(*HW, 2 * index)) for index in range(4)]


@pytest.fixture
def mask(make_mask: Callable[..., Image]) -> Image:
    return make_mask(*HW, 3, 200)


def test_every_sink_gets_every_frame_and_the_first_mask_as_it_is(
    tracker: Tracker, frames: list[Frame], mask: Image
) -> None:
    sinks = [ListSink(), ListSink()]
    track_frames(tracker, iter(frames), mask, sinks, SessionReport())
    for sink in sinks:
        assert [frame for frame, _, _ in sink.results] == frames
        _, labels, scores = sink.results[0]
        np.testing.assert_array_equal(labels, mask)
        assert scores == {3: 1.0, 200: 1.0}
        assert not sink.closed  # that is the caller's


def test_what_sinks_get_is_what_the_tracker_gives_and_stays_valid(
    tracker: Tracker, frames: list[Frame], mask: Image
) -> None:
    sink = ListSink()
    track_frames(tracker, frames, mask, [sink], SessionReport())
    tracker.start(frames[0].image, mask)
    for frame, (_, labels, scores) in zip(frames[1:], sink.results[1:], strict=True):
        result = tracker.step(frame.image)
        np.testing.assert_array_equal(labels, result.mask)
        assert scores == result.scores


def test_the_report_counts_frames_time_and_stages(
    tracker: Tracker, frames: list[Frame], mask: Image
) -> None:
    report, seen = SessionReport(), list[tuple[int, float]]()
    track_frames(
        tracker, frames, mask, [], report, lambda r: seen.append((r.frames, r.frames_per_second))
    )
    assert [count for count, _ in seen] == [1, 2, 3, 4]
    assert seen[-1] == (4, report.frames_per_second)
    assert report.frames_per_second == 4 / report.seconds
    counts = {stage: len(times) for stage, times in report.timings_ms.items()}
    # The first frame is not stepped, so that it has no stages of the tracker's.
    tracked = dict.fromkeys(STAGES, 3)
    assert counts == {"decode": 4, **tracked, "write": 4}
    spent = sum(sum(times) for times in report.timings_ms.values())
    assert 0 < spent <= 1000 * report.seconds


class ListPointSink:
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.results: list[tuple[Frame, dict[str, PointEstimate]]] = []

    def write(self, frame: Frame, points: Mapping[str, PointEstimate]) -> None:
        self.results.append((frame, dict(points)))


def test_points_are_handed_on_the_first_ones_as_they_are(
    tracker: Tracker, frames: list[Frame]
) -> None:
    points, report = {"nose": (20.0, 24.0), "tail": (40.5, 20.0)}, SessionReport()
    sink = ListPointSink()
    track_points(tracker, iter(frames), points, [sink], report)
    assert [frame for frame, _ in sink.results] == frames
    first = sink.results[0][1]
    assert {name: (found.x, found.y) for name, found in first.items()} == points
    assert all(list(found) == ["nose", "tail"] for _, found in sink.results)
    tracker.start_points(frames[0].image, points)
    assert tracker.step(frames[1].image).points == sink.results[1][1]
    assert report.frames == 4


def test_a_video_without_a_frame_has_no_points(tracker: Tracker) -> None:
    with pytest.raises(SourceError, match="no frame; expected at least one"):
        track_points(tracker, [], {"nose": (1.0, 1.0)}, [], SessionReport())


def test_a_report_of_nothing_has_no_speed() -> None:
    assert SessionReport().frames_per_second == 0


def test_no_sink_is_needed_and_one_frame_is_enough(
    tracker: Tracker, frames: list[Frame], mask: Image
) -> None:
    report = SessionReport()
    track_frames(tracker, frames[:1], mask, [], report)
    assert report.frames == 1


def test_a_video_without_a_frame_is_an_error(tracker: Tracker, mask: Image) -> None:
    with pytest.raises(SourceError, match="no frame; expected at least one"):
        track_frames(tracker, [], mask, [], SessionReport())


def test_a_mask_that_does_not_fit_is_an_error_and_nothing_is_written(
    tracker: Tracker, frames: list[Frame], mask: Image
) -> None:
    report, sink = SessionReport(), ListSink()
    with pytest.raises(MaskError, match="expected 48x64"):
        track_frames(tracker, frames, mask[:-1], [sink], report)
    assert (report.frames, sink.results) == (0, [])


@pytest.mark.parametrize("error", [SourceError("damaged"), KeyboardInterrupt()])
def test_a_source_that_breaks_off_leaves_what_was_tracked(
    tracker: Tracker, frames: list[Frame], mask: Image, error: BaseException
) -> None:
    def broken() -> Iterator[Frame]:
        yield from frames[:2]
        raise error

    report, sink = SessionReport(), ListSink()
    with pytest.raises(type(error)):
        track_frames(tracker, broken(), mask, [sink], report)
    assert report.frames == len(sink.results) == 2
    assert report.seconds > 0


def test_a_frame_of_another_size_is_an_error_after_the_good_ones(
    tracker: Tracker, frames: list[Frame], mask: Image
) -> None:
    report = SessionReport()
    odd = Frame(2, "f2", frames[2].image[:-1])
    with pytest.raises(TrackerError, match=r"\(47, 64\).*expected \(48, 64\)"):
        track_frames(tracker, [*frames[:2], odd], mask, [], report)
    assert report.frames == 2


def test_a_frame_that_a_sink_fails_to_write_does_not_count(
    tracker: Tracker, frames: list[Frame], mask: Image
) -> None:
    report = SessionReport()
    with pytest.raises(OutputError, match="disk is full"):
        track_frames(tracker, frames, mask, [ListSink(fail_at=2)], report)
    assert report.frames == 2


def test_a_tracker_is_used_for_one_video_after_the_other(
    tracker: Tracker, frames: list[Frame], mask: Image, make_mask: Callable[..., Image]
) -> None:
    sinks = [ListSink(), ListSink(), ListSink()]
    for sink, first in zip(sinks, (mask, make_mask(*HW, 7), mask), strict=True):
        track_frames(tracker, frames, first, [sink], SessionReport())
    for (_, before, _), (_, after, _) in zip(sinks[0].results, sinks[2].results, strict=True):
        np.testing.assert_array_equal(before, after)


def hold_frames(monkeypatch: pytest.MonkeyPatch, held: set[int]) -> None:
    """Let a tracker's steps give nothing, by their number from 1."""
    step, numbers = Tracker.step, iter(range(1, 100))

    def hold(tracker: Tracker, image: Image) -> StepResult:
        return replace(step(tracker, image), held=next(numbers) in held)

    monkeypatch.setattr(Tracker, "step", hold)


class HoldingSink(ListSink):
    """Keeps which frames were held."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[int] = []

    def hold(self, frame: Frame, labels: Image) -> None:
        self.held.append(frame.index)


def test_frames_of_which_the_model_gave_nothing_are_held_and_counted(
    tracker: Tracker, frames: list[Frame], mask: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_frames(monkeypatch, {2})
    sinks, report = [ListSink(), HoldingSink()], SessionReport()
    track_frames(tracker, frames, mask, sinks, report)
    assert (report.frames, report.held) == (4, 1)
    # A sink that knows nothing of it gets the mask without scores.
    assert [scores == {} for _, _, scores in sinks[0].results] == [False, False, True, False]
    assert isinstance(sinks[1], HoldingSink)
    assert sinks[1].held == [2]


def test_where_nothing_at_all_was_tracked_it_is_an_error(
    tracker: Tracker, frames: list[Frame], mask: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_frames(monkeypatch, {1, 2, 3})
    sink, report = ListSink(), SessionReport()
    with pytest.raises(EngineError, match=r"in every frame after the first.*nothing was tracked"):
        track_frames(tracker, frames, mask, [sink], report)
    assert len(sink.results) == report.frames == 4


def test_a_clip_of_one_frame_is_no_failure(
    tracker: Tracker, frames: list[Frame], mask: Image
) -> None:
    report = SessionReport()
    track_frames(tracker, frames[:1], mask, [], report)
    assert (report.frames, report.held) == (1, 0)


def test_what_stops_a_run_waits_until_every_sink_has_the_frame(
    tracker: Tracker, frames: list[Frame], mask: Image
) -> None:
    class StoppingSink(ListSink):
        def write(
            self,
            frame: Frame,
            labels: Image,
            scores: Mapping[int, float],
            states: Mapping[int, str] = NO_STATES,
        ) -> None:
            if frame.index == 2:
                os.kill(os.getpid(), signal.SIGINT)
            super().write(frame, labels, scores)

    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    sinks = [ListSink(), StoppingSink(), ListSink()]
    try:
        with pytest.raises(KeyboardInterrupt):
            track_frames(tracker, frames, mask, sinks, SessionReport())
    finally:
        signal.signal(signal.SIGINT, former)
    assert [len(sink.results) for sink in sinks] == [3, 3, 3]


STEP_S, FPS = 0.24, 30.0


class SlowTracker:
    """Takes its time by a clock of the test's own, and finds nothing."""

    object_ids: ClassVar = [1]

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def start(self, frame: Image, mask: Image) -> None:
        self._clock.advance(2.0)

    def step(self, frame: Image) -> StepResult:
        self._clock.advance(STEP_S)
        return StepResult(np.zeros(HW, np.uint8), {1: 0.0}, {})


def test_behind_a_camera_that_is_faster_a_mask_is_one_frame_and_one_step_old_at_most(
    mask: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, sink, report = Clock(FPS), ListSink(), SessionReport()
    times = SimpleNamespace(monotonic=clock, perf_counter=clock)
    monkeypatch.setattr(session, "time", times)
    monkeypatch.setattr(live, "monotonic", clock)
    with LiveSource(ListSource(clock.make_frames())) as camera:
        tracker = cast("Tracker", SlowTracker(clock))
        track_frames(tracker, islice(camera, 200), mask, [sink], report)
    frames = [frame for frame, _, _ in sink.results]
    ages_ms = np.array([frame.age_ms for frame in frames[1:]])
    assert list(report.ages_ms) == ages_ms.tolist()
    assert len(ages_ms) == 199
    rounding = 1e-6
    assert ages_ms.min() >= 1000 * STEP_S - rounding
    assert ages_ms.max() <= 1000 / FPS + 1000 * STEP_S + rounding
    # Of every frame up to the last one that was tracked, it is known what became of it.
    assert frames[0].age_ms is None
    assert frames[-1].index + 1 == len(frames) + camera.dropped
    assert camera.dropped == sum(frame.dropped for frame in frames)


def test_frames_of_a_file_have_no_age(tracker: Tracker, frames: list[Frame], mask: Image) -> None:
    sink, report = ListSink(), SessionReport()
    track_frames(tracker, frames, mask, [sink], report)
    assert {frame.age_ms for frame, _, _ in sink.results} == {None}
    assert not report.ages_ms
