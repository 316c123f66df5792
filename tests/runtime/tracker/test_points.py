"""Points that a tracker follows by name."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from tests.runtime.tracker.made import HEIGHT, WIDTH, Frame, MakeFrame
from vcedge_runtime.errors import TrackerError
from vcedge_runtime.model.bundle import Bundle
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
        # A key cell has 9 pixels; a point that rides on flow is told within one of them.
        assert abs(found.x - x - shift) < 2
        assert abs(found.y - y) < 2
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


def test_a_step_that_fails_after_the_points_moved_is_as_if_it_had_not_been(
    tiny_bundle: Bundle, make_frame: MakeFrame
) -> None:
    found = []
    for fails in (False, True):
        with Tracker.open(tiny_bundle, threads=1) as tracker:
            tracker.start_points(make_frame(HEIGHT, WIDTH), {"nose": (30.0, 36.0)})
            predictor = tracker.video.predictor
            for shift in (2, 4, 6):
                if fails:
                    broken = patch.object(predictor, "_keep", side_effect=ValueError("broken"))
                    with broken, pytest.raises(ValueError, match="broken"):
                        tracker.step(make_frame(HEIGHT, WIDTH, 20))
                result = tracker.step(make_frame(HEIGHT, WIDTH, shift))
            found.append(result.points)
    assert found[0] == found[1]
