from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vcedge_runtime.propagation import upsample
from vcedge_runtime.propagation.upsample import (
    CubicUpsampler,
    EdgeGuide,
    Region,
    find_region,
)


def make_frame(frame_hw: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).integers(0, 256, (*frame_hw, 3), np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 3), np.uint8)


def whole(frame_hw: tuple[int, int]) -> Region:
    return Region(0, frame_hw[0], 0, frame_hw[1])


@given(
    frame_hw=st.tuples(st.integers(16, 90), st.integers(16, 90)),
    grid_hw=st.tuples(st.integers(2, 12), st.integers(2, 12)),
    seed=st.integers(0, 99),
)
def test_cubic_upsampling_is_that_of_opencv(
    frame_hw: tuple[int, int], grid_hw: tuple[int, int], seed: int
) -> None:
    plane = np.random.default_rng(seed).random(grid_hw, np.float32)
    found = CubicUpsampler(frame_hw).upsample(plane, whole(frame_hw))
    expected = cv2.resize(plane, frame_hw[::-1], interpolation=cv2.INTER_CUBIC)
    # OpenCV before 5 rounds the place it samples at to 1/32 of a cell.
    np.testing.assert_allclose(found, expected, atol=0.05)


@pytest.mark.parametrize("guided", [True, False])
def test_a_region_is_cut_out_of_the_whole(guided: bool) -> None:
    frame_hw, grid_hw = (75, 101), (9, 13)
    plane = np.random.default_rng(1).random(grid_hw, np.float32)
    upsampler = EdgeGuide(make_frame(frame_hw), grid_hw) if guided else CubicUpsampler(frame_hw)
    region = Region(10, 40, 33, 90)
    part = upsampler.upsample(plane, region)
    # The same arithmetic at other addresses: float32 rounding alone.
    np.testing.assert_allclose(
        part, upsampler.upsample(plane, whole(frame_hw))[region.slices], atol=1e-4
    )


@given(value=st.floats(0, 1), seed=st.integers(0, 20))
def test_a_constant_label_stays_constant_whatever_the_frame_shows(value: float, seed: int) -> None:
    plane = np.full((6, 8), value, np.float32)
    found = EdgeGuide(make_frame((48, 64), seed), (6, 8)).upsample(plane, whole((48, 64)))
    # Float32 moments of colours, divided by an epsilon of 1e-4.
    np.testing.assert_allclose(found, value, atol=5e-3)


def test_a_mask_follows_the_edge_of_the_frame_inside_a_cell() -> None:
    frame = np.full((96, 96, 3), 40, np.uint8)
    frame[:, 45:] = (30, 60, 220)
    truth = np.zeros((96, 96), np.float32)
    truth[:, 45:] = 1
    plane = cv2.resize(truth, (12, 12), interpolation=cv2.INTER_AREA)
    guided = EdgeGuide(frame, (12, 12)).upsample(np.asarray(plane), whole((96, 96))) > 0.5
    blurred_plane = np.asarray(cv2.blur(plane, (3, 3)))
    recovered = EdgeGuide(frame, (12, 12)).upsample(blurred_plane, whole((96, 96))) > 0.5
    assert (guided == (truth > 0)).all()
    assert (recovered == (truth > 0)).all()


@given(
    top=st.integers(0, 11),
    left=st.integers(0, 15),
    frame_hw=st.tuples(st.integers(12, 99), st.integers(16, 99)),
)
def test_the_region_holds_every_pixel_of_a_seen_cell(
    top: int, left: int, frame_hw: tuple[int, int]
) -> None:
    plane = np.zeros((12, 16), np.float32)
    plane[top, left] = 1
    region = find_region(plane, frame_hw, margin=0)
    assert region is not None
    ys = (np.arange(frame_hw[0]) + 0.5) * 12 // frame_hw[0] == top
    xs = (np.arange(frame_hw[1]) + 0.5) * 16 // frame_hw[1] == left
    inside = np.zeros(frame_hw, bool)
    inside[region.slices] = True
    assert inside[np.ix_(ys, xs)].all()


@pytest.mark.parametrize("method", [cv2.INTER_LINEAR, cv2.INTER_CUBIC])
def test_a_region_is_sampled_as_the_whole_frame_is(method: int) -> None:
    plane = np.random.default_rng(0).random((12, 16), np.float32)
    small, large = Region(30, 45, 50, 64), Region(10, 90, 0, 127)
    frame = upsample._sample(plane, (96, 128), whole((96, 128)), method)
    for region in (small, large):
        part = upsample._sample(plane, (96, 128), region, method)
        assert part.shape == frame[region.slices].shape
        # OpenCV before 5 rounds a part's places to a 32nd of a cell.
        np.testing.assert_allclose(part, frame[region.slices], atol=0.04)


def test_a_plane_that_shows_nothing_has_no_region() -> None:
    assert find_region(np.full((4, 4), 0.001, np.float32), (32, 32)) is None
