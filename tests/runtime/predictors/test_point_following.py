"""Points between frames: they ride on flow that is steady, and are where labels see them."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge_runtime.frames.colour import IMAGENET_LITE, LAB, InputColour
from vcedge_runtime.predictors.point_following import GATE, PointFollower
from vcedge_runtime.propagation.points import labels_from_points, points_from_labels

CELL = 8
FRAME_HW, GRID_HW = (128, 160), (16, 20)
POINTS = {"left": (50.0, 60.0), "right": (103.0, 41.0)}
MakeFrame = Callable[..., NDArray[np.uint8]]


def draw_labels(points: dict[str, tuple[float, float]]) -> NDArray[np.float32]:
    return labels_from_points(points, FRAME_HW, GRID_HW)


def blur_to_cells(points: dict[str, tuple[float, float]]) -> NDArray[np.float32]:
    """Labels that see each point in the middle of its cell."""
    middles = {n: tuple(CELL * (v // CELL) + CELL / 2 - 0.5 for v in p) for n, p in points.items()}
    return draw_labels(middles)  # type: ignore[arg-type]


def moved(x: float) -> dict[str, tuple[float, float]]:
    return {name: (px + x, py) for name, (px, py) in POINTS.items()}


def places_of(follower: PointFollower, labels: NDArray[np.float32]) -> NDArray[np.float64]:
    found = follower.find(labels, FRAME_HW)
    return np.array([(point.x, point.y) for point in found.values()])


def start(
    image: NDArray[np.float32], colour: InputColour = LAB, flow: bool = True
) -> PointFollower:
    follower = PointFollower(list(POINTS), colour, CELL, flow=flow)
    follower.start(image, POINTS, FRAME_HW)
    return follower


@pytest.mark.parametrize("colour", [LAB, IMAGENET_LITE])
def test_a_point_rides_finely_on_steady_flow(make_frame: MakeFrame, colour: InputColour) -> None:
    follower = start(colour.convert(make_frame(*FRAME_HW)), colour)
    for step in range(1, 9):
        labels = blur_to_cells(moved(2 * step))
        follower.step(colour.convert(make_frame(*FRAME_HW, 2 * step)), labels)
    truth = np.array(list(moved(16).values()))
    alone = np.array([(p.x, p.y) for p in points_from_labels(labels, FRAME_HW)])
    assert np.abs(alone - truth).max() > 2.5
    # DIS is good to a fraction of a pixel a frame.
    assert np.abs(places_of(follower, labels) - truth).max() < 1


def test_where_flow_does_not_find_back_labels_count() -> None:
    rng = np.random.default_rng(0)
    follower = start(LAB.convert(rng.integers(0, 256, (*FRAME_HW, 3), np.uint8)))
    labels = draw_labels(moved(10))
    for _ in range(6):
        follower.step(LAB.convert(rng.integers(0, 256, (*FRAME_HW, 3), np.uint8)), labels)
    seen = np.array([(p.x, p.y) for p in points_from_labels(labels, FRAME_HW)])
    np.testing.assert_allclose(places_of(follower, labels), seen, atol=CELL / 2)


def test_labels_far_from_where_flow_leads_count_alone(make_frame: MakeFrame) -> None:
    image = LAB.convert(make_frame(*FRAME_HW))
    near, far = moved((GATE - 0.5) * CELL), moved((GATE + 0.5) * CELL)
    seen = {}
    for name, points in (("near", near), ("far", far)):
        follower, labels = start(image), draw_labels(points)
        follower.step(image, labels)
        seen[name] = places_of(follower, labels)
        alone = np.array([(p.x, p.y) for p in points_from_labels(labels, FRAME_HW)])
        assert np.allclose(seen[name], alone) is (name == "far")
    # Nothing moves in the picture: labels alone pull a little.
    assert np.abs(seen["near"] - list(POINTS.values())).max() < 0.5


def test_labels_that_stay_elsewhere_are_believed_in_time(make_frame: MakeFrame) -> None:
    image, labels = LAB.convert(make_frame(*FRAME_HW)), draw_labels(moved(12))
    follower = start(image)
    away = []
    for _ in range(300):
        follower.step(image, labels)
        away.append(np.abs(places_of(follower, labels) - list(moved(12).values())).max())
    assert all(b <= a + 1e-9 for a, b in pairwise(away))
    assert away[-1] < 0.2 * away[0]


def test_a_point_that_labels_do_not_see_is_nowhere_and_rides_on(make_frame: MakeFrame) -> None:
    follower = start(LAB.convert(make_frame(*FRAME_HW)))
    empty = draw_labels(POINTS)
    empty[..., 1:] = 0
    for step in range(1, 5):
        follower.step(LAB.convert(make_frame(*FRAME_HW, 2 * step)), empty)
    lost = follower.find(empty, FRAME_HW)
    assert all(np.isnan(point.x) and not point.visible for point in lost.values())
    again = blur_to_cells(moved(10))
    follower.step(LAB.convert(make_frame(*FRAME_HW, 10)), again)
    assert np.abs(places_of(follower, again) - list(moved(10).values())).max() < 1


def test_a_step_on_a_copy_leaves_the_follower_as_it_was(make_frame: MakeFrame) -> None:
    follower, labels = start(LAB.convert(make_frame(*FRAME_HW))), draw_labels(POINTS)
    before = places_of(follower, labels)
    tried = copy(follower)
    tried.step(LAB.convert(make_frame(*FRAME_HW, 6)), labels)
    np.testing.assert_array_equal(places_of(follower, labels), before)
    assert not np.array_equal(places_of(tried, labels), before)


def test_without_flow_points_are_where_labels_see_them(make_frame: MakeFrame) -> None:
    follower = start(LAB.convert(make_frame(*FRAME_HW)), flow=False)
    labels = blur_to_cells(moved(5))
    follower.step(LAB.convert(make_frame(*FRAME_HW, 5)), labels)
    assert list(follower.find(labels, FRAME_HW).values()) == points_from_labels(labels, FRAME_HW)
    assert follower.nbytes == 0


def test_places_are_told_in_pixels_of_the_frame_that_is_asked_for(make_frame: MakeFrame) -> None:
    follower, labels = start(LAB.convert(make_frame(*FRAME_HW))), draw_labels(POINTS)
    plain = places_of(follower, labels)
    np.testing.assert_allclose(plain, list(POINTS.values()))
    larger = follower.find(labels, (3 * FRAME_HW[0], 2 * FRAME_HW[1]))
    found = np.array([(point.x, point.y) for point in larger.values()])
    np.testing.assert_allclose(found + 0.5, (plain + 0.5) * (2, 3))


def test_memory_does_not_grow(make_frame: MakeFrame) -> None:
    follower, labels = start(LAB.convert(make_frame(*FRAME_HW))), draw_labels(POINTS)
    held = follower.nbytes
    for step in range(3):
        follower.step(LAB.convert(make_frame(*FRAME_HW, step)), labels)
        assert follower.nbytes == held
    assert held == FRAME_HW[0] * FRAME_HW[1] + len(POINTS) * 3 * 8


def test_a_point_that_rode_out_of_the_frame_is_not_visible(make_frame: MakeFrame) -> None:
    follower = PointFollower(["edge"], LAB, CELL, flow=True)
    follower.start(LAB.convert(make_frame(*FRAME_HW)), {"edge": (154.0, 60.0)}, FRAME_HW)
    for step in range(1, 5):
        labels = draw_labels({"edge": (min(159.0, 154.0 + 3 * step), 60.0)})
        follower.step(LAB.convert(make_frame(*FRAME_HW, 3 * step)), labels)
        (point,) = follower.find(labels, FRAME_HW).values()
        assert point.visible is (point.x <= FRAME_HW[1] - 0.5)
    assert point.x > FRAME_HW[1]
