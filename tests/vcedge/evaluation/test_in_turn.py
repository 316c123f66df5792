"""Trackers in turn on one clip, and windows that left an object."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge.evaluation.in_turn import LONG, count_runaways, follow_in_turn
from vcedge_runtime.frames.windows import Window
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.palette import decode_labels

WHOLE = Window((40, 60), (4, 6), (4, 6))
LEFT_TOP = Window((40, 60), (4, 6), (8, 12))


class Recorder:
    """Notes when it was called, and gives its mark as the mask."""

    def __init__(self, mark: int, calls: list[int]) -> None:
        self._mark, self._calls = mark, calls
        self.memory_bytes = 100 * mark
        self.video = SimpleNamespace(windows=SimpleNamespace(last=WHOLE))

    def start(self, frame: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
        self._calls.append(self._mark)

    def step(self, frame: NDArray[np.uint8]) -> Any:
        self._calls.append(self._mark)
        return SimpleNamespace(mask=np.full(frame.shape[:2], self._mark, np.uint8))


def test_each_frame_goes_to_all_and_who_is_first_changes() -> None:
    calls: list[int] = []
    trackers = {name: cast("Tracker", Recorder(mark, calls)) for name, mark in (("a", 1), ("b", 2))}
    frames = [np.zeros((40, 60, 3), np.uint8)] * 4
    first = np.full((40, 60), 3, np.uint8)
    found = follow_in_turn(trackers, frames, first)
    assert calls == [2, 1, 1, 2, 2, 1, 1, 2]
    for name, mark in (("a", 1), ("b", 2)):
        masks = [decode_labels(data, name) for data in found[name].masks]
        assert [np.unique(mask).tolist() for mask in masks] == [[3], [mark], [mark], [mark]]
        assert len(found[name].milliseconds) == len(found[name].windows) == 3
        assert found[name].memory_bytes == 100 * mark


def frames_of(box: tuple[slice, slice], count: int = LONG + 1) -> list[NDArray[np.uint8]]:
    mask = np.zeros((40, 60), np.uint8)
    mask[box] = 5
    return [mask] * count


SEEN, HIDDEN = (slice(2, 12), slice(2, 12)), (slice(30, 38), slice(40, 50))
NOWHERE = (slice(0, 0), slice(0, 0))


@pytest.mark.parametrize(
    ("truth", "whole", "windows", "times"),
    [
        (HIDDEN, HIDDEN, [LEFT_TOP] * LONG, 1),
        (HIDDEN, HIDDEN, [LEFT_TOP] * (LONG - 1) + [WHOLE], 0),
        (SEEN, SEEN, [LEFT_TOP] * LONG, 0),
        # Whole frames do not hold it either, or it is not there.
        (HIDDEN, NOWHERE, [LEFT_TOP] * LONG, 0),
        (NOWHERE, HIDDEN, [LEFT_TOP] * LONG, 0),
        (HIDDEN, HIDDEN, [WHOLE] * LONG, 0),
    ],
)
def test_a_window_ran_away_that_shows_less_than_half_of_what_whole_frames_hold(
    truth: tuple[slice, slice], whole: tuple[slice, slice], windows: list[Window], times: int
) -> None:
    assert count_runaways(frames_of(truth), frames_of(whole), windows) == times


def test_a_window_that_comes_back_may_run_away_again() -> None:
    windows = [*[LEFT_TOP] * LONG, WHOLE, *[LEFT_TOP] * (2 * LONG)]
    masks = frames_of(HIDDEN, 1 + len(windows))
    assert count_runaways(masks, masks, windows) == 2
