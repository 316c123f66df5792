"""J and F against the formulas of the official evaluation, written out plainly and slowly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vcedge.evaluation.davis_metrics import (
    boundary_accuracy,
    boundary_map,
    match_radius,
    region_similarity,
    score_masks,
)
from vcedge_runtime.errors import EvaluationError

Mask = NDArray[np.uint8]

# Long and flat frames have a large matching radius and few pixels for the slow oracle.
SHAPES = [(1, 1), (1, 9), (9, 1), (2, 2), (12, 17), (3, 400), (400, 3), (20, 260)]


def plain_region_similarity(truth: Mask, predicted: Mask) -> float:
    inside = outside = 0
    for known, guess in zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True):
        inside += bool(known) and bool(guess)
        outside += bool(known) or bool(guess)
    return 1.0 if outside == 0 else inside / outside


def plain_boundary(mask: Mask) -> list[tuple[int, int]]:
    height, width = mask.shape
    rows = [[bool(value) for value in row] for row in mask.tolist()]
    found = []
    for y in range(height):
        for x in range(width):
            neighbours = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            if y == height - 1:
                neighbours = [(y, x + 1)]
            elif x == width - 1:
                neighbours = [(y + 1, x)]
            inside = [(j, i) for j, i in neighbours if j < height and i < width]
            if any(rows[j][i] != rows[y][x] for j, i in inside):
                found.append((y, x))
    return found


def plain_share_near(
    points: list[tuple[int, int]], others: list[tuple[int, int]], radius: int
) -> float:
    steps = range(-radius, radius + 1)
    disk = [(down, right) for down in steps for right in steps if down**2 + right**2 <= radius**2]
    found = set(others)
    near = [any((y + down, x + right) in found for down, right in disk) for y, x in points]
    return sum(near) / len(points)


def plain_boundary_accuracy(truth: Mask, predicted: Mask) -> float:
    known, guess = plain_boundary(truth), plain_boundary(predicted)
    radius = math.ceil(0.008 * float(np.linalg.norm(truth.shape)))
    precision = recall = 1.0
    if known and guess:
        precision = plain_share_near(guess, known, radius)
        recall = plain_share_near(known, guess, radius)
    elif known:
        recall = 0.0
    elif guess:
        precision = 0.0
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


@st.composite
def masks_of(draw: st.DrawFn, shape: tuple[int, int]) -> Mask:
    """A few rectangles that may touch every edge, a few that are cut out, and some noise."""
    height, width = shape
    mask = np.zeros(shape, np.uint8)
    for _ in range(draw(st.integers(0, 3))):
        top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        bottom, right = draw(st.integers(top, height)), draw(st.integers(left, width))
        mask[top:bottom, left:right] = draw(st.sampled_from([0, 1, 7, 255]))
    noise = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    flips = noise.random(shape) < draw(st.sampled_from([0.0, 0.01, 0.3]))
    mixed: Mask = np.not_equal(mask != 0, flips).astype(np.uint8)
    return mixed


pairs = st.sampled_from(SHAPES).flatmap(lambda s: st.tuples(masks_of(s), masks_of(s)))


@settings(max_examples=200)
@given(pairs)
def test_both_measures_equal_the_plain_formulas_to_the_last_bit(pair: tuple[Mask, Mask]) -> None:
    assert region_similarity(*pair) == plain_region_similarity(*pair)
    assert boundary_accuracy(*pair) == plain_boundary_accuracy(*pair)


@settings(max_examples=200)
@given(pairs)
def test_the_boundary_map_equals_the_plain_one(pair: tuple[Mask, Mask]) -> None:
    assert list(zip(*map(np.ndarray.tolist, np.nonzero(boundary_map(pair[0]))), strict=True)) == (
        plain_boundary(pair[0])
    )


@settings(max_examples=50)
@given(pairs)
def test_both_measures_are_symmetric(pair: tuple[Mask, Mask]) -> None:
    assert score_masks(*pair) == score_masks(*reversed(pair))


@given(st.sampled_from(SHAPES).flatmap(masks_of))
@settings(max_examples=50)
def test_a_mask_scores_one_against_itself(mask: Mask) -> None:
    assert score_masks(mask, mask) == (1.0, 1.0)


def box(top: int, left: int, height: int, width: int) -> NDArray[np.bool_]:
    mask = np.zeros((480, 854), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def test_two_empty_masks_score_one() -> None:
    empty = np.zeros((480, 854), bool)
    assert score_masks(empty, empty) == (1.0, 1.0)


def test_an_empty_mask_against_an_object_scores_nothing() -> None:
    empty, thing = np.zeros((480, 854), bool), box(100, 100, 50, 80)
    assert score_masks(empty, thing) == (0.0, 0.0)
    assert score_masks(thing, empty) == (0.0, 0.0)


def test_a_mask_that_fills_the_frame_has_no_outline() -> None:
    full, empty = np.ones((48, 85), bool), np.zeros((48, 85), bool)
    assert score_masks(full, empty) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("height", "width", "radius"),
    [(480, 854, 8), (480, 910, 9), (600, 800, 8), (1080, 1920, 18), (1, 1, 1)],
)
def test_the_matching_radius_grows_with_the_diagonal(height: int, width: int, radius: int) -> None:
    assert match_radius(height, width) == radius


@pytest.mark.parametrize(("down", "right"), [(0, 8), (8, 0), (0, -8), (-8, 0), (5, 6)])
def test_an_outline_within_the_radius_is_right(down: int, right: int) -> None:
    shifted = box(200 + down, 300 + right, 60, 90)
    assert boundary_accuracy(box(200, 300, 60, 90), shifted) == 1


@pytest.mark.parametrize(("down", "right"), [(0, 9), (9, 0), (0, -9), (-9, 0)])
def test_an_outline_one_pixel_beyond_the_radius_is_partly_wrong(down: int, right: int) -> None:
    shifted = box(200 + down, 300 + right, 60, 90)
    assert 0 < boundary_accuracy(box(200, 300, 60, 90), shifted) < 1


def test_a_pixel_in_the_last_corner_has_an_outline_of_its_three_neighbours() -> None:
    corner = np.zeros((6, 8), np.uint8)
    corner[-1, -1] = 1
    assert np.argwhere(boundary_map(corner)).tolist() == [[4, 6], [4, 7], [5, 6]]
    assert score_masks(corner, corner) == (1.0, 1.0)


def test_a_pixel_in_the_first_corner_has_an_outline_of_itself() -> None:
    corner = np.zeros((6, 8), np.uint8)
    corner[0, 0] = 1
    assert np.argwhere(boundary_map(corner)).tolist() == [[0, 0]]
    assert score_masks(corner, corner) == (1.0, 1.0)


def test_half_the_overlap_is_a_third_of_the_union() -> None:
    assert region_similarity(box(0, 0, 10, 20), box(0, 10, 10, 20)) == 1 / 3


def test_a_stack_of_frames_gives_one_figure_per_frame() -> None:
    truth = np.stack([box(10, 10, 20, 20), box(10, 10, 20, 20)])
    predicted = np.stack([box(10, 10, 20, 20), box(300, 10, 20, 20)])
    assert region_similarity(truth, predicted).tolist() == [1, 0]
    assert boundary_accuracy(truth, predicted).tolist() == [1, 0]


def test_any_value_but_zero_is_the_object() -> None:
    mask = box(10, 10, 20, 20)
    assert region_similarity(mask, mask.astype(np.uint8) * np.uint8(255)) == 1


def test_masks_of_unequal_sizes_are_refused() -> None:
    with pytest.raises(EvaluationError, match=r"\(4, 5\) and \(5, 4\)"):
        region_similarity(np.zeros((4, 5), bool), np.zeros((5, 4), bool))
