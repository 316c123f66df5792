"""From a frame of any size to the working size."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vcedge_runtime.errors import TrackerError
from vcedge_runtime.frames.colour import InputColour, lab_from_bgr
from vcedge_runtime.frames.resizing import (
    LARGEST_SIZE,
    LONGEST,
    MOST_PIXELS,
    prepare_frame,
    working_size,
)


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


@given(st.integers(1, 10_000), st.integers(1, 10_000), st.integers(1, LARGEST_SIZE))
def test_no_frame_is_encoded_at_more_pixels_than_memory_may_hold(
    height: int, width: int, size: int
) -> None:
    try:
        work_hw = working_size((height, width), size, 8)
    except TrackerError as exc:
        smaller = int(str(exc).rpartition(" ")[2])
        # Whole cells may be a little more than what was asked.
        work_hw = working_size((height, width), int(0.95 * smaller), 8)
    assert work_hw[0] * work_hw[1] <= MOST_PIXELS


@pytest.mark.parametrize("size", [0, -1, LARGEST_SIZE + 1, 100_000, 2**70, 10**400])
def test_a_working_size_without_bounds_is_refused(size: int) -> None:
    with pytest.raises(TrackerError, match=r"received a working size of -?\d+; expected 1 to 4096"):
        working_size((480, 854), size, 8)


def test_a_long_frame_at_a_large_working_size_is_refused_with_one_that_fits() -> None:
    expected = r"frames of 4096x512, .* at 32768x4096; expected at most 34 .* size of about 2048$"
    with pytest.raises(TrackerError, match=expected):
        working_size((512, 4096), 4096, 8)
    assert working_size((512, 4096), 2048, 8) == (2048, 16384)
    assert working_size((4320, 7680), LARGEST_SIZE, 8) == (4096, 7280)


def test_a_frame_is_averaged_where_it_gets_smaller_and_left_as_it_is() -> None:
    stripes = np.zeros((32, 48, 3), np.uint8)
    stripes[:, ::2] = 200
    before = stripes.copy()
    gray = lab_from_bgr(np.full((16, 24, 3), 100, np.uint8))
    np.testing.assert_allclose(prepare_frame(stripes, (16, 24)), gray, atol=1e-6)
    np.testing.assert_array_equal(prepare_frame(stripes, (32, 48)), lab_from_bgr(stripes))
    assert prepare_frame(stripes, (64, 40)).shape == (64, 40, 3)
    np.testing.assert_array_equal(stripes, before)


@pytest.mark.parametrize("frame_hw", [(256, 384), (254, 384), (255, 385)])
def test_a_much_larger_frame_is_averaged_as_any_other(
    frame_hw: tuple[int, int], make_frame: Callable[..., NDArray[np.uint8]]
) -> None:
    frame = make_frame(*frame_hw)
    exact = cv2.resize(frame, (48, 32), interpolation=cv2.INTER_AREA)
    found = prepare_frame(frame, (32, 48), InputColour("rgb", (0, 0, 0), (1, 1, 1)))[..., ::-1]
    difference = np.abs(found - exact.astype(np.float32))
    # Means of means are rounded to whole levels once more each time; where a side cannot be
    # halved, nothing is.
    assert difference.max() <= (2 if frame_hw == (256, 384) else 6)
    assert difference.mean() <= 1
