"""What part of a frame is looked at, and how large."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcedge_runtime.model.prompt_composition import LONGEST
from vcedge_runtime.prompts.planes import Click
from vcedge_runtime.prompts.views import (
    LEAST_SIDE,
    ViewSize,
    box_of_part,
    view_box,
    view_click,
    view_whole,
)
from vcedge_runtime.propagation.upsample import Region

SIZES = ViewSize(256, 16, 0.25)


@given(
    st.integers(8, 3000),
    st.integers(8, 3000),
    *(st.floats(0, 1) for _ in range(4)),
)
def test_a_view_lies_in_the_frame_holds_its_box_and_has_whole_cells(
    height: int, width: int, x: float, y: float, across: float, down: float
) -> None:
    left, top = x * (width - 1), y * (height - 1)
    box = (left, top, left + 1 + across * (width - 1 - left), top + 1 + down * (height - 1 - top))
    view = view_box(box, (height, width), SIZES)
    region = view.region
    assert 0 <= region.left <= box[0] + 1e-6
    assert box[2] - 1 <= region.right <= width
    assert 0 <= region.top <= box[1] + 1e-6
    assert box[3] - 1 <= region.bottom <= height
    assert all(side % 16 == 0 and 32 <= side <= 256 for side in view.work_hw)


@pytest.mark.parametrize("frame_hw", [(480, 854), (854, 480), (256, 256), (100, 4000), (20, 20)])
def test_the_whole_frame_has_the_networks_size_and_a_bound(frame_hw: tuple[int, int]) -> None:
    view = view_whole(frame_hw, SIZES)
    assert view.region == Region(0, frame_hw[0], 0, frame_hw[1])
    assert max(view.work_hw) <= LONGEST * 256
    if max(frame_hw) <= LONGEST * min(frame_hw):
        assert min(view.work_hw) == 256


def test_a_small_object_is_not_looked_at_more_closely_than_pixels_are() -> None:
    view = view_box((100, 100, 104, 103), (480, 854), SIZES)
    assert view.region_hw == (LEAST_SIDE, LEAST_SIDE)


def test_boxes_and_clicks_move_into_the_view_and_stay_where_they_are_in_the_picture() -> None:
    view = view_box((100, 60, 180, 120), (480, 854), SIZES)
    left, top, right, bottom = view.move_box((100, 60, 180, 120))
    rows, columns = view.work_hw
    assert (right - left) / columns == pytest.approx(80 / view.region_hw[1])
    assert (bottom - top) / rows == pytest.approx(60 / view.region_hw[0])
    [click] = view.move_clicks([Click(139.5, 89.5)])
    assert click.x == pytest.approx((left + right) / 2 - 0.5)
    assert click.y == pytest.approx((top + bottom) / 2 - 0.5)


def test_a_closer_look_at_a_click_is_smaller_and_has_the_click_in_it() -> None:
    frame_hw = (480, 854)
    whole = view_whole(frame_hw, SIZES)
    view = view_click(Click(850, 3), whole, frame_hw, SIZES)
    assert max(view.region_hw) < 0.3 * 854
    assert view.region.left <= 850 < view.region.right
    assert view.region.top == 0


def test_the_box_of_a_part_is_in_the_frames_pixels() -> None:
    plane = np.zeros((20, 30), bool)
    plane[4:9, 10:12] = True
    assert box_of_part(plane, Region(100, 120, 200, 230)) == (210, 104, 212, 109)
