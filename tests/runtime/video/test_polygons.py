"""Outlines: exactly the mask, holes and parts included, or off by no more than was asked for."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from tests.runtime.video.made_objects import HW, fill_rings, make_objects
from vcedge_runtime.video.polygons import (
    DEFAULT_TOLERANCE,
    cut_holes,
    find_polygons,
    join_parts,
    measure_ring,
)

Mask = NDArray[np.bool_]
sides = st.integers(1, 14)
speckled = hnp.arrays(bool, st.tuples(sides, sides))
blocks = st.tuples(speckled, st.integers(1, 4), st.integers(1, 4)).map(
    lambda parts: np.kron(parts[0], np.ones(parts[1:], bool))
)
any_mask = speckled | blocks


def decode_coco(rings: list[NDArray[np.int32]], hw: tuple[int, int]) -> Mask:
    """Fill rings as COCO's users do."""
    coco = pytest.importorskip("pycocotools.mask")
    parts = coco.frPyObjects([ring.ravel().tolist() for ring in rings], *hw)
    return np.asarray(coco.decode(coco.merge(parts)), bool)


@given(any_mask)
def test_outlines_are_the_mask_exactly(mask: Mask) -> None:
    polygons = find_polygons(mask)
    rings = [ring for polygon in polygons for ring in (polygon.outer, *polygon.holes)]
    np.testing.assert_array_equal(fill_rings(rings, mask.shape), mask)
    assert sum(map(measure_ring, rings)) == mask.sum()


@given(any_mask)
def test_there_is_a_polygon_for_each_part_the_largest_first(mask: Mask) -> None:
    polygons = find_polygons(mask)
    # What OpenCV counts, the background being its part 0.
    assert len(polygons) == cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0] - 1
    areas = [measure_ring(polygon.outer) for polygon in polygons]
    assert areas == sorted(areas, reverse=True)
    assert all(area > 0 for area in areas)
    assert all(measure_ring(hole) < 0 for polygon in polygons for hole in polygon.holes)


@given(any_mask)
def test_rings_have_no_corner_on_a_line_and_none_twice_in_a_row(mask: Mask) -> None:
    for polygon in find_polygons(mask):
        for ring in (polygon.outer, *polygon.holes):
            sides = np.roll(ring, -1, axis=0) - ring
            along = sides != 0
            assert (along.sum(axis=1) == 1).all()
            assert (along[:, 0] != np.roll(along[:, 0], 1)).all()


# pycocotools' decoder lags behind NumPy 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@given(any_mask)
def test_slits_leave_holes_open_and_parts_apart(mask: Mask) -> None:
    polygons = find_polygons(mask)
    if not polygons:
        return
    cut, joined = [cut_holes(polygon) for polygon in polygons], [join_parts(polygons)]
    for rings in (cut, joined):
        np.testing.assert_array_equal(fill_rings(rings, mask.shape), mask)
        np.testing.assert_array_equal(decode_coco(rings, mask.shape), mask)
        assert sum(map(measure_ring, rings)) == mask.sum()


def test_a_ring_with_a_ball_in_it_has_a_hole_and_a_part() -> None:
    wheel, corner = find_polygons(make_objects() == 3)
    assert len(wheel.holes) == 1
    assert corner.outer.tolist() == [[64, 40], [64, 48], [60, 48], [60, 40]]
    assert corner.holes == ()


def test_nothing_has_no_outline() -> None:
    assert find_polygons(np.zeros(HW, bool)) == []


@pytest.mark.parametrize("tolerance", [0.5, DEFAULT_TOLERANCE, 2.0])
def test_an_outline_is_off_by_no_more_than_the_tolerance(tolerance: float) -> None:
    mask = make_objects() == 3
    exact, fewer = find_polygons(mask), find_polygons(mask, tolerance)
    for before, after in zip(exact, fewer, strict=True):
        for ring, simple in zip(
            (before.outer, *before.holes), (after.outer, *after.holes), strict=True
        ):
            away = [abs(cv2.pointPolygonTest(simple, corner.tolist(), True)) for corner in ring]
            assert max(away) <= tolerance
    rings = [ring for polygon in fewer for ring in (polygon.outer, *polygon.holes)]
    changed = fill_rings(rings, HW) != mask
    assert changed.mean() < 0.02 * tolerance


def test_a_smoothed_outline_has_fewer_corners() -> None:
    mask = make_objects() == 3
    counts = [len(join_parts(find_polygons(mask, tolerance))) for tolerance in (0, 0.75, 2)]
    assert counts[0] > 1.5 * counts[1] > 2 * counts[2]


@given(any_mask, st.floats(0.1, 50))
def test_what_is_smaller_than_the_tolerance_keeps_its_outline(mask: Mask, tolerance: float) -> None:
    polygons = find_polygons(mask, tolerance)
    assert len(polygons) == len(find_polygons(mask))
    for polygon in polygons:
        for ring in (polygon.outer, *polygon.holes):
            assert len(ring) >= 3
            assert measure_ring(ring) != 0
