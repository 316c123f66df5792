"""Where objects and crops lie."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge.training.deformation import MotionRange
from vcedge.training.placing import (
    VOID,
    draw_absence,
    draw_object,
    draw_zoom,
    find_object,
    find_spot,
)

STILL = MotionRange(0, 0, 0, 0, 0, 0)
SIZE = 64


def make_ids(x: int = 60, y: int = 40) -> NDArray[np.uint8]:
    ids = np.zeros((100, 160), np.uint8)
    cv2.circle(ids, (x, y), 9, 1, -1)
    return ids


def test_void_is_no_object() -> None:
    ids = np.full((20, 20), VOID, np.uint8)
    assert draw_object(np.random.default_rng(0), ids) == 0
    ids[:5] = 3
    assert draw_object(np.random.default_rng(0), ids) == 3


def test_a_spot_is_an_objects_middle_and_the_root_of_its_area() -> None:
    spot = find_object(make_ids(), 1)
    assert spot is not None
    np.testing.assert_allclose(spot.xy, (60, 40), atol=0.5)
    assert spot.extent == pytest.approx(9 * np.pi**0.5, rel=0.05)
    assert find_spot(make_ids() == 2) is None


@pytest.mark.parametrize("seed", range(12))
def test_a_zoom_stays_within_the_frame_and_changes_the_objects_size_steadily(seed: int) -> None:
    ids = make_ids()
    frames = [np.dstack([ids, np.full_like(ids, 200)])] * 5
    moves = draw_zoom(np.random.default_rng(seed), [ids] * 5, 1, SIZE, STILL, 4.0)
    inside = [
        move.cut(frame[..., 1], cv2.BORDER_CONSTANT)
        for move, frame in zip(moves, frames, strict=True)
    ]
    # Beside the frame all is 0; a pixel at its edge may reach half a pixel beyond.
    assert min(picture.min() for picture in inside) > 40
    assert min(np.median(picture) for picture in inside) == 200
    assert all((picture[1:-1, 1:-1] == 200).all() for picture in inside)
    areas = np.array([float((move.cut_ids(ids) == 1).sum()) for move in moves])
    assert areas.min() > 0
    growth = np.diff(areas)
    assert (growth >= -8).all() or (growth <= 8).all()
    # Pixels of the source to one of the crop: a side grows by 4 at most.
    sides = [abs(np.linalg.det(move.matrix[:, :2])) ** 0.5 for move in moves]
    assert 1 <= max(sides) / min(sides) <= 4.001


def test_many_zooms_change_the_size_by_more_than_two_and_go_both_ways() -> None:
    ids, ratios = make_ids(), []
    for seed in range(40):
        moves = draw_zoom(np.random.default_rng(seed), [ids] * 3, 1, SIZE, STILL, 4.0)
        sides = [abs(np.linalg.det(move.matrix[:, :2])) ** 0.5 for move in moves]
        ratios.append(sides[-1] / sides[0])
    assert (np.array(ratios) > 2).sum() > 5
    assert (np.array(ratios) < 0.5).sum() > 5


def test_a_zoom_follows_an_object_that_moves() -> None:
    frames = [make_ids(30 + 25 * step, 40) for step in range(5)]
    for seed in range(10):
        moves = draw_zoom(np.random.default_rng(seed), frames, 1, SIZE, STILL, 4.0)
        cut = [move.cut_ids(ids) for move, ids in zip(moves, frames, strict=True)]
        assert all((ids == 1).any() for ids in cut)


def test_an_object_is_never_away_from_the_first_frame_and_always_from_some() -> None:
    ranges = [draw_absence(np.random.default_rng(seed), 4) for seed in range(60)]
    assert all(0 < away.start < away.stop <= 4 for away in ranges)
    back = np.mean([away.stop < 4 for away in ranges])
    assert 0.2 < back < 0.8
    assert len(draw_absence(np.random.default_rng(0), 1)) == 0
