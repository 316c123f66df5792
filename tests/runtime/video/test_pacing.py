"""No more frames than are wanted, by a clock of the test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.runtime.video.cameras import make_frame
from vcedge_runtime.video import pacing
from vcedge_runtime.video.frame import Frame
from vcedge_runtime.video.pacing import pace


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was slept, on a clock that nothing else moves."""
    waits: list[float] = []
    monkeypatch.setattr(pacing, "monotonic", lambda: sum(waits))
    monkeypatch.setattr(pacing, "sleep", waits.append)
    return waits


def test_frames_are_asked_for_no_faster_than_was_said(slept: list[float]) -> None:
    frames = [make_frame(index) for index in range(4)]
    assert list(pace(frames, 5)) == frames
    assert slept == pytest.approx([0.2] * 4)


def test_the_wait_comes_before_a_frame_is_asked_for(slept: list[float]) -> None:
    asked: list[int] = []

    def frames() -> Iterator[Frame]:
        for index in range(2):
            asked.append(len(slept))
            yield make_frame(index)

    list(pace(frames(), 5))
    assert asked == [0, 1]


def test_without_a_bound_nobody_waits(slept: list[float]) -> None:
    assert len(list(pace([make_frame(0), make_frame(1)], None))) == 2
    assert slept == []
