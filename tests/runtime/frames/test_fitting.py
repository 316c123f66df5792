"""How a frame lies in whole key cells: resized to them, or within a border."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcedge_runtime.errors import TrackerError
from vcedge_runtime.frames.colour import IMAGENET
from vcedge_runtime.frames.fitting import Fit, fit_frame
from vcedge_runtime.frames.resizing import prepare_frame, working_size

SIDES = st.integers(1, 2000)


@given(height=SIDES, width=SIDES, size=st.integers(16, 600))
def test_a_border_is_less_than_a_cell_and_as_wide_on_both_sides(
    height: int, width: int, size: int
) -> None:
    fit = fit_frame((height, width), size, 16, pads=True)
    for whole, own, part in zip(fit.work_hw, fit.content_hw, fit.slices, strict=True):
        assert whole % 16 == 0
        assert whole - own < 16 or whole == 32
        before, after = part.start, whole - part.stop
        assert before >= 0
        assert after - before in (0, 1)
    if max(height, width) <= 8 * min(height, width):
        assert min(fit.content_hw) == size


@given(height=SIDES, width=SIDES, size=st.integers(16, 600))
def test_without_one_it_is_the_working_size(height: int, width: int, size: int) -> None:
    work_hw = working_size((height, width), size, 16)
    assert fit_frame((height, width), size, 16, pads=False) == Fit(work_hw, work_hw)


def test_frames_of_davis_get_five_pixels_on_both_sides_as_in_stcn() -> None:
    fit = fit_frame((480, 854), 480, 16, pads=True)
    assert fit == Fit((480, 864), (480, 854))
    assert fit.slices == (slice(0, 480), slice(5, 859))
    frame = np.random.default_rng(0).integers(0, 256, (480, 854, 3), np.uint8)
    image = fit.prepare(frame, IMAGENET)
    # No pixel of the frame is interpolated, and the border is the mean colour.
    np.testing.assert_array_equal(image[fit.slices], prepare_frame(frame, (480, 854), IMAGENET))
    assert image.shape == (480, 864, 3)
    assert not image[:, :5].any()
    assert not image[:, 859:].any()


def test_what_needs_no_border_is_not_copied() -> None:
    planes = np.ones((32, 48, 2), np.float32)
    assert Fit((32, 48), (32, 48)).pad(planes) is planes


def test_frames_of_too_many_pixels_are_refused() -> None:
    with pytest.raises(TrackerError, match="expected at most 34 million pixels"):
        fit_frame((4096, 30000), 4096, 16, pads=True)
