"""Live sources: which frames they hand on, when they are opened again, and how they end."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from tests.runtime.video.cameras import (
    ALL,
    HW,
    Clock,
    ListSource,
    make_frame,
    open_each,
    read_live,
)
from vcedge_runtime.errors import SourceError, StreamLostError
from vcedge_runtime.video import live
from vcedge_runtime.video.live import LiveOptions, LiveSource, growing_pauses

FOREVER = LiveOptions(reconnect=None, drop=False)


def source_of(first: int, count: int, end: str | SourceError | None = None) -> ListSource:
    """A source whose frames are numbered from 0 and whose pixels go on from ``first``."""
    frames = (make_frame(first + index) for index in range(count))
    return ListSource(frames, end)


def test_the_newest_frame_is_handed_on_and_those_before_it_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(fps=10)
    monkeypatch.setattr(live, "monotonic", clock)
    with LiveSource(ListSource(clock.make_frames())) as source:
        frames = iter(source)
        assert next(frames).index == 0
        clock.advance(0.55)
        fifth = next(frames)
        clock.advance(0.2)
        seventh = next(frames)
    assert [(frame.index, frame.name, frame.dropped) for frame in (fifth, seventh)] == [
        (5, "00005", 4),
        (7, "00007", 1),
    ]
    assert source.dropped == 5
    assert fifth.arrived_s == fifth.time_s == pytest.approx(0.5)


def test_the_first_frame_is_never_dropped_since_the_mask_is_its(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(fps=10)
    monkeypatch.setattr(live, "monotonic", clock)
    with LiveSource(ListSource(clock.make_frames())) as source:
        clock.advance(3.05)
        assert [frame.index for frame in islice(source, 2)] == [0, 30]


def test_every_frame_is_handed_on_where_that_is_asked_for() -> None:
    levels, error = read_live(LiveSource(source_of(0, 200), None, ALL))
    assert levels == list(range(200))
    assert error is None


def test_a_source_that_ends_in_order_ends_without_an_error() -> None:
    inner = source_of(0, 3)
    source = LiveSource(inner, None, ALL)
    assert read_live(source) == ([0, 1, 2], None)
    assert inner.closed
    assert source.ended_early is None


@pytest.mark.parametrize("end", ["the cable is out", SourceError("the cable is out")])
def test_a_source_that_breaks_off_is_lost_after_its_last_frame(end: str | SourceError) -> None:
    levels, error = read_live(LiveSource(source_of(0, 3, end), open_each(), ALL))
    assert levels == [0, 1, 2]
    assert isinstance(error, StreamLostError)
    assert "the list, which broke off (the cable is out) and did not come back" in str(error)


@pytest.mark.usefixtures("no_pauses")
def test_a_stream_that_stops_is_opened_again_and_its_frames_are_numbered_on() -> None:
    told: list[str] = []
    gone = SourceError("connection refused")
    reopen = open_each(gone, source_of(3, 2, "reset"), gone, gone, source_of(5, 1), gone)
    options = LiveOptions(reconnect=3, drop=False)
    with LiveSource(source_of(0, 3), reopen, options, told.append) as source:
        frames = list(islice(source, 6))
        assert source.reopened == 2
    assert [frame.index for frame in frames] == list(range(6))
    assert [int(frame.image[0, 0, 0]) for frame in frames] == list(range(6))
    assert told[:3] == [
        "the list stopped (it ended); it is opened again in 0 s",
        "the list stopped (connection refused); it is opened again in 0 s",
        "the list is there again",
    ]


@pytest.mark.usefixtures("no_pauses")
def test_a_stream_that_does_not_come_back_is_lost_however_it_stopped() -> None:
    gone = SourceError("connection refused")
    reopen = open_each(gone, source_of(2, 1), gone, gone)
    source = LiveSource(source_of(0, 2), reopen, LiveOptions(reconnect=2, drop=False))
    levels, error = read_live(source)
    assert levels == [0, 1, 2]
    assert isinstance(error, StreamLostError)
    assert "connection refused" in str(error)
    assert not source.connected


@pytest.mark.usefixtures("no_pauses")
def test_a_stream_that_comes_back_in_another_size_is_tried_again() -> None:
    told: list[str] = []
    other = ListSource([make_frame(9)], frame_hw=(96, 128))
    reopen = open_each(other, source_of(1, 1))
    source = LiveSource(source_of(0, 1), reopen, FOREVER, told.append)
    with source:
        assert [frame.index for frame in islice(source, 2)] == [0, 1]
    assert other.closed
    assert f"it came back in 96x128 (height x width) instead of {HW[0]}x{HW[1]}" in told[1]


def test_pauses_grow_to_half_a_minute() -> None:
    assert list(islice(growing_pauses(), 8)) == [1, 2, 4, 8, 16, 30, 30, 30]


def test_the_pauses_are_told_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "growing_pauses", lambda: iter((0.0, 0.001, 0.002)))
    told: list[str] = []
    gone = SourceError("gone")
    options = LiveOptions(reconnect=3, drop=False)
    read_live(LiveSource(source_of(0, 1), open_each(gone, gone, gone), options, told.append))
    assert [line.rpartition(" in ")[2] for line in told] == ["0 s", "0.001 s", "0.002 s"]


def test_closing_ends_a_wait_for_a_stream() -> None:
    source = LiveSource(source_of(0, 1), open_each(), FOREVER)
    assert next(iter(source)).index == 0
    source.close()
    source.close()
    assert not source._thread.is_alive()
    with pytest.raises(SourceError, match="is closed"):
        next(iter(source))


def test_who_waits_for_a_frame_is_let_go_when_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(fps=10)
    monkeypatch.setattr(live, "CLOSING_S", 0.01)  # the camera gives nothing any more
    source = LiveSource(ListSource(clock.make_frames()))
    frames = iter(source)
    next(frames)
    source.close()
    assert next(frames, None) is None


def test_a_failure_of_the_reading_thread_is_raised_where_frames_are_taken() -> None:
    def break_down() -> object:
        raise ZeroDivisionError

    source = LiveSource(source_of(0, 2), break_down, FOREVER)  # type: ignore[arg-type]
    source._options = LiveOptions(reconnect=1, drop=False)
    with pytest.raises(ZeroDivisionError):
        list(source)


def test_times_are_the_sources_own_and_go_on_after_an_interruption_by_our_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = iter([100.0, 100.9, 110.0, 110.3])
    monkeypatch.setattr(live, "monotonic", lambda: next(now_s))
    monkeypatch.setattr(live, "growing_pauses", lambda: iter([0.0]))
    before = ListSource([make_frame(0, 0.0), make_frame(1, 0.04)])
    after = ListSource([make_frame(2, 0.0), make_frame(3, 0.04)], "cut")
    options = LiveOptions(reconnect=1, drop=False)
    with LiveSource(before, open_each(after), options) as source:
        times = [frame.time_s for frame in islice(source, 4)]
    assert times == pytest.approx([0.0, 0.04, 10.0, 10.04])


def test_frames_that_cannot_be_decoded_are_counted_over_interruptions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "growing_pauses", lambda: iter([0.0]))
    before, after = source_of(0, 2), source_of(2, 2)
    before.lost, after.lost = 3, 4
    options = LiveOptions(reconnect=1, drop=False)
    with LiveSource(before, open_each(after), options) as source:
        frames = list(islice(source, 4))
        assert source.lost == 7
    assert {frame.lost for frame in frames} == {0}


def test_attempts_are_none_or_more() -> None:
    with pytest.raises(SourceError, match="expected 0 or more, or None"):
        LiveOptions(reconnect=-1)


def test_a_frame_is_the_receivers_own() -> None:
    with LiveSource(source_of(0, 2), None, ALL) as source:
        first, second = source
    assert not np.shares_memory(first.image, second.image)
