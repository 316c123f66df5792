"""What a run says that it saw."""

from __future__ import annotations

import numpy as np
import pytest

from vcedge.commands.sightings import (
    KEPT_GAPS,
    TOLD_OBJECTS,
    PointSightings,
    Sightings,
    find_small_objects,
)
from vcedge_runtime.propagation.points import PointEstimate
from vcedge_runtime.video.sources import Frame


def describe(scores: list[float]) -> str:
    """The line of one object, without its name."""
    sightings = Sightings("object", lambda text: None, {0: [7]})
    for index, score in enumerate(scores):
        sightings.note(index, {7: score})
    _, line = sightings.describe()
    return line.removeprefix("  object 7: ")


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([1.0], "seen in all 1 frames"),
        ([1.0, 0.9, 0.8, 0.95], "seen in all 4 frames; lowest score 0.80, in 2"),
        ([1.0, 0.9, 0, 0.8], "seen in 3 of 4 frames, not in 2; lowest score 0.80, in 3"),
        ([1, 0, 0, 0.7, 0, 0.9], "seen in 3 of 6 frames, not in 1-2, 4; lowest score 0.70, in 3"),
        (
            [1, 0.9, 0, 0],
            "seen in 2 of 4 frames, lost in 2 and not found again; lowest score 0.90, in 1",
        ),
        (
            [1, 0.9, 0, 0.9, 0],
            "seen in 3 of 5 frames, not in 2, lost in 4 and not found again; "
            "lowest score 0.90, in 1",
        ),
        ([1, 0], "seen in 1 of 2 frames, lost in 1 and not found again"),
    ],
)
def test_frames_in_which_an_object_is_seen_and_not(scores: list[float], said: str) -> None:
    assert describe(scores) == said


def test_an_object_that_flickers_for_weeks_has_a_line_of_bounded_length() -> None:
    line = describe([1.0, *([0.0, 0.5] * 1000)])
    assert line.count("1001 of 2001 frames") == 1
    assert f"not in 1, 3, 5, 7, 9, {1000 - KEPT_GAPS} times more; lowest" in line


def test_objects_that_were_lost_stand_first_and_many_are_counted() -> None:
    sightings = Sightings("object", lambda text: None, {})
    ids = range(1, TOLD_OBJECTS + 6)
    for index in range(4):
        sightings.note(index, {i: float(i != ids[-1] or index != 2) for i in ids})
    _, first, *_, last = sightings.describe()
    assert first.startswith(f"  object {ids[-1]}: seen in 3 of 4 frames, not in 2")
    assert last == "  and 5 more, lost no more often than these"


def test_only_what_is_lost_right_after_the_first_frame_is_warned_of() -> None:
    told: list[str] = []
    sightings = Sightings("object", told.append, {0: [1, 2]})
    for index, scores in enumerate([{1: 1.0, 2: 1.0}, {1: 0.9, 2: 0.0}, {1: 0.0, 2: 0.0}]):
        sightings.note(index, scores)
    (warning,) = told
    assert warning.startswith("object 2 is lost at once, in frame 1")


def test_what_comes_into_view_before_the_frame_that_was_drawn_is_not_warned_of() -> None:
    told: list[str] = []
    sightings = Sightings("object", told.append, {3: [1], 6: [1]})
    for index, score in enumerate([0.0, 0.0, 0.9, 1.0, 0.8, 0.0, 1.0, 0.0]):
        sightings.note(index, {1: score})
    (warning,) = told
    assert warning.startswith("object 1 is lost at once, in frame 7")
    assert sightings.mean_score == pytest.approx((0.9 + 0.8) / 6)
    _, line = sightings.describe()
    assert "lowest score 0.80, in 4" in line


def test_a_first_frame_that_cannot_be_decoded_leaves_the_next_one_given() -> None:
    told: list[str] = []
    sightings = Sightings("object", told.append, {0: [1]})
    for index, score in ((2, 1.0), (3, 0.0)):
        sightings.note(index, {1: score})
    assert sightings.mean_score == 0
    assert "in frame 3" in told[0]


def test_the_mean_score_counts_every_object_in_every_frame_after_its_first() -> None:
    sightings = Sightings("object", lambda text: None, {0: [1, 2]})
    assert sightings.mean_score is None
    sightings.note(0, {1: 1.0, 2: 1.0})
    assert sightings.mean_score is None
    for index, scores in enumerate([{1: 0.8, 2: 0.4}, {1: 0.6, 2: 0.0}], start=1):
        sightings.note(index, scores)
    assert sightings.mean_score == pytest.approx((0.8 + 0.4 + 0.6) / 4)
    (line,) = sightings.describe_lost()
    assert line.startswith("object 2: seen in 2 of 3 frames, lost in 2 and not found again")


def test_a_point_is_seen_where_it_is_visible() -> None:
    sightings = Sightings("point", lambda text: None, {0: ["nose"]})
    points = PointSightings(sightings)
    frame = np.zeros((4, 4, 3), np.uint8)
    for index, visible in enumerate([True, True, False]):
        points.write(Frame(index, "", frame), {"nose": PointEstimate(1, 1, visible, 0.04)})
    _, line = sightings.describe()
    assert line.startswith("  point nose: seen in 2 of 3 frames, lost in 2 and not found again; ")
    assert line.endswith("lowest score 0.04, in 1")


def test_nothing_is_said_of_a_run_without_a_frame() -> None:
    assert Sightings("object", lambda text: None, {}).describe() == []


def test_an_object_is_small_where_it_covers_less_than_a_key_cell_of_the_working_size() -> None:
    labels = np.zeros((240, 320), np.uint8)
    labels[:8, :8], labels[20:27, 20:27], labels[100:150, 100:150] = 1, 2, 3
    # 120x160: a cell of 8x8 there is one of 16x16 here.
    assert find_small_objects(labels, 120, 8) == ({1: 64, 2: 49}, 256)
    assert find_small_objects(labels, 240, 8) == ({2: 49}, 64)
    assert find_small_objects(labels, 480, 8) == ({}, 16)
