"""From a frame of any size to the working size."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcedge_runtime.frames.colour import lab_from_bgr
from vcedge_runtime.frames.resizing import LONGEST, prepare_frame, working_size


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(16, 800), st.sampled_from([4, 8]))
def test_the_working_size_is_whole_cells_with_the_short_side_as_wanted(
    height: int, width: int, size: int, stride: int
) -> None:
    work_hw = working_size((height, width), size, stride)
    assert all(side % stride == 0 and side >= 2 * stride for side in work_hw)
    short, long = sorted((height, width))
    if long <= LONGEST * short:
        assert abs(min(work_hw) - size) <= stride / 2
    # Of longer frames the area is that of LONGEST to 1.
    long_side = min(long * size / short, size * math.sqrt(LONGEST * long / short))
    assert abs(max(work_hw) - long_side) <= stride / 2


@pytest.mark.parametrize("frame_hw", [(16, 4096), (4096, 16), (480, 48_000)])
def test_a_very_long_frame_has_a_bound(frame_hw: tuple[int, int]) -> None:
    height, width = working_size(frame_hw, 480, 8)
    # Whole cells change the sides by half a cell of 8 pixels.
    assert height * width == pytest.approx(LONGEST * 480**2, rel=0.1)
    assert (height > width) is (frame_hw[0] > frame_hw[1])


def test_a_frame_is_averaged_where_it_gets_smaller_and_left_as_it_is() -> None:
    stripes = np.zeros((32, 48, 3), np.uint8)
    stripes[:, ::2] = 200
    before = stripes.copy()
    gray = lab_from_bgr(np.full((16, 24, 3), 100, np.uint8))
    np.testing.assert_allclose(prepare_frame(stripes, (16, 24)), gray, atol=1e-6)
    np.testing.assert_array_equal(prepare_frame(stripes, (32, 48)), lab_from_bgr(stripes))
    assert prepare_frame(stripes, (64, 40)).shape == (64, 40, 3)
    np.testing.assert_array_equal(stripes, before)
