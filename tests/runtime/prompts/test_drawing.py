"""What a user would draw of an object that is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcedge_runtime.prompts.drawing import box_of, find_correction, find_middle, jitter_box
from vcedge_runtime.prompts.planes import Click
from vcedge_runtime.video.masks import VOID


def test_the_box_of_a_mask_just_holds_it() -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[7:19, 20:50] = 1
    assert box_of(mask) == (20, 7, 50, 19)


@given(st.integers(0, 2**32 - 1), st.floats(0, 0.45))
def test_a_jittered_box_stays_in_the_frame_and_near_the_true_one(seed: int, reach: float) -> None:
    corners = (2.0, 3.0, 50.0, 35.0)
    found = jitter_box(np.random.default_rng(seed), corners, reach, (40, 60))
    left, top, right, bottom = found
    assert 0 <= left < right <= 60
    assert 0 <= top < bottom <= 40
    allowed = reach * np.array([48, 32, 48, 32]) + 1e-6
    assert (np.abs(np.array(found) - corners) <= np.maximum(allowed, 1)).all()


def test_the_middle_of_a_region_is_as_far_in_as_can_be() -> None:
    region = np.zeros((60, 60), bool)
    region[10:50, 5:15] = True
    region[20:40, 15:45] = True
    click = find_middle(region)
    assert click is not None
    assert 20 <= click.y < 40
    assert 8 <= click.x < 45
    assert click.positive


def test_the_middle_of_what_fills_the_picture_is_not_at_its_edge() -> None:
    click = find_middle(np.ones((41, 41), bool))
    assert click == Click(20, 20, True)


def test_nothing_has_no_middle() -> None:
    assert find_middle(np.zeros((5, 5), bool)) is None


@pytest.mark.parametrize("seed", range(5))
def test_a_drawn_middle_is_in_the_inner_half(seed: int) -> None:
    region = np.zeros((60, 60), bool)
    region[10:50, 10:50] = True
    click = find_middle(region, np.random.default_rng(seed))
    assert click is not None
    assert 19 <= click.x <= 40
    assert 19 <= click.y <= 40


def test_the_next_click_is_in_the_largest_error_and_tells_its_side() -> None:
    truth = np.zeros((60, 60), np.uint8)
    truth[10:50, 10:30] = 1
    missed = find_correction(np.zeros((60, 60), bool), truth)
    assert missed is not None
    assert missed.positive
    assert truth[int(missed.y), int(missed.x)] == 1
    too_much = truth == 1
    too_much[20:40, 40:58] = True
    wrong = find_correction(too_much, truth)
    assert wrong is not None
    assert not wrong.positive
    assert 40 <= wrong.x < 58


def test_where_nothing_is_known_nothing_is_wrong() -> None:
    truth = np.full((20, 20), VOID, np.uint8)
    assert find_correction(np.ones((20, 20), bool), truth) is None
