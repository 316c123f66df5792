"""Points that a tracker follows by name."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from tests.runtime.tracker.made import HEIGHT, WIDTH, Frame, MakeFrame
from vcedge_runtime.errors import TrackerError
from vcedge_runtime.tracker import Tracker


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
    "points",
    [
        {},
        {"nose": (np.nan, 3.0)},
        {str(n): (3.0, 3.0) for n in range(256)},
        {"nose": None},
        {"nose": (1.0, 2.0, 3.0)},
        {"nose": (1.0, "left")},
        {"nose": (1.0, 10**400)},
        {3: (1.0, 2.0)},
    ],
    ids=lambda points: str(points)[:30],
)
def test_points_that_cannot_be_followed_are_refused(
    tracker: Tracker, frame: Frame, points: dict[str, tuple[float, float]]
) -> None:
    with pytest.raises(TrackerError, match=f"received {len(points)} points; expected 1 to 255"):
        tracker.start_points(frame, points)


@pytest.mark.parametrize("points", [None, [("nose", 1.0, 2.0)], "nose", 3], ids=repr)
def test_what_is_no_points_by_name_is_refused(tracker: Tracker, frame: Frame, points: Any) -> None:
    tracker.start_points(frame, {"nose": (10.0, 10.0)})
    with pytest.raises(TrackerError, match="expected 1 to 255 points by name"):
        tracker.start_points(frame, points)
    assert tracker.point_names == ["nose"]


def test_points_of_numpy_give_what_json_takes(tracker: Tracker, frame: Frame) -> None:
    tracker.start_points(frame, {"nose": np.array([10, 12], np.int16)})  # type: ignore[dict-item]
    found = tracker.step(frame).points["nose"]
    assert json.loads(json.dumps(asdict(found)))["visible"] is True
