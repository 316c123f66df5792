"""The picture of a result: what is drawn into which frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.runtime.video.cameras import HW, make_frame
from vcedge_runtime.video.overlay import draw_overlay
from vcedge_runtime.video.result_picture import draw_result, tell_time

LABELS = np.zeros(HW, np.uint8)


def test_a_frame_of_a_file_has_its_objects_alone() -> None:
    labels = LABELS.copy()
    labels[10:20, 10:20] = 3
    frame = make_frame(5, time_s=1.0)
    picture = draw_result(frame, labels, {3: 0.5})
    np.testing.assert_array_equal(picture, draw_overlay(frame.image, labels, {3: 0.5}))


def test_a_live_frame_has_its_time_in_the_lower_left_corner() -> None:
    frame = replace(make_frame(5, time_s=1.0), arrived_s=0.0)
    picture = draw_result(frame, LABELS, {})
    changed = np.argwhere((picture != frame.image).any(axis=2))
    assert changed.min(axis=0).tolist()[1] == 0
    assert changed.min(axis=0)[0] > HW[0] // 2
    later = draw_result(replace(frame, time_s=2.0), LABELS, {})
    assert (picture != later).any()


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.0, "0:00:00.000"),
        (3723.4567, "1:02:03.457"),
        (59.9996, "0:01:00.000"),
        (90_000, "25:00:00.000"),
        (-1.0, "0:00:00.000"),
    ],
)
def test_times_are_hours_minutes_seconds_and_milliseconds(seconds: float, told: str) -> None:
    assert tell_time(seconds) == told
