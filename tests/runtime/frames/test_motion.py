"""Flow: where it points, what rest gives, and that it sees lightness alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from vcedge_runtime.errors import TrackerError
from vcedge_runtime.frames.colour import IMAGENET, IMAGENET_LITE, InputColour, lab_from_bgr
from vcedge_runtime.frames.motion import (
    FlowEstimator,
    FlowScale,
    encode_flow,
    flow_from_lab,
    grey_from_image,
    grey_from_lab,
)

CELL = FlowScale("cell", 8)
"""20 px are encoded as 1."""
MakeLab = Callable[..., NDArray[np.float32]]


@pytest.fixture
def make_lab(make_frame: Callable[..., NDArray[np.uint8]]) -> MakeLab:
    return lambda *size, shift=0: lab_from_bgr(make_frame(*size, shift))


def test_flow_points_from_the_current_frame_to_the_previous_one(make_lab: MakeLab) -> None:
    previous, current = make_lab(128, 160), make_lab(128, 160, shift=5)
    flow = flow_from_lab(current, previous)
    inner = flow[16:-16, 16:-16].reshape(-1, 2)
    # The texture moved 5 pixels to the right, so it was 5 to the left; DIS is good to a fraction.
    np.testing.assert_allclose(np.median(inner, axis=0), [-5, 0], atol=0.2)


def test_flow_follows_a_shift_downwards(make_lab: MakeLab) -> None:
    texture = make_lab(140, 160)
    flow = flow_from_lab(texture[:128], texture[3:131])
    np.testing.assert_allclose(np.median(flow[16:-16, 16:-16], axis=(0, 1)), [0, -3], atol=0.2)


def test_rest_is_encoded_as_exact_zeros(make_lab: MakeLab) -> None:
    estimator, lab = FlowEstimator(CELL), make_lab(96, 128)
    for _ in range(3):
        encoded = estimator.step(lab)
        np.testing.assert_array_equal(encoded, 0)
        assert encoded.shape == (3, 96, 128)


def test_the_first_frame_has_no_motion_and_the_next_has_that_of_the_pair(make_lab: MakeLab) -> None:
    first, second, third = (make_lab(96, 128, shift=s) for s in (0, 3, 9))
    estimator = FlowEstimator(CELL)
    assert not estimator.step(first).any()
    np.testing.assert_array_equal(
        estimator.step(second), encode_flow(flow_from_lab(second, first), CELL)
    )
    np.testing.assert_array_equal(
        estimator.step(third), encode_flow(flow_from_lab(third, second), CELL)
    )


def test_colour_does_not_change_the_flow(make_lab: MakeLab) -> None:
    pair = [make_lab(96, 128), make_lab(96, 128, shift=4)]
    expected = flow_from_lab(pair[1], pair[0])
    noise = np.random.default_rng(0)
    for lab in pair:
        lab[..., 1:] = noise.uniform(-1, 1, lab[..., 1:].shape)
    np.testing.assert_array_equal(flow_from_lab(pair[1], pair[0]), expected)


def test_out_is_written_and_returned(make_lab: MakeLab) -> None:
    estimator, out = FlowEstimator(CELL), np.full((3, 96, 128), 9, np.float32)
    assert estimator.step(make_lab(96, 128), out) is out
    assert not out.any()
    assert estimator.step(make_lab(96, 128, shift=4), out) is out
    assert out.any()


@pytest.mark.parametrize("colour", [IMAGENET, IMAGENET_LITE])
def test_luma_of_rgb_gives_the_flow_of_lightness(
    make_frame: Callable[..., NDArray[np.uint8]], colour: InputColour
) -> None:
    plain, other = FlowEstimator(CELL), FlowEstimator(CELL, colour)
    for shift in (0, 3):
        frame = make_frame(96, 128, shift)
        expected = plain.step(lab_from_bgr(frame))
        found = other.step(colour.convert(frame))
    # 20 px are 1: a tenth of a pixel in the middle, where DIS sees the texture on both sides.
    assert np.abs(found - expected)[:, 16:-16, 16:-16].mean() < 0.1 / 20
    assert expected.any()


@pytest.mark.parametrize("colour", [IMAGENET, IMAGENET_LITE])
def test_grey_of_rgb_is_its_luma(colour: InputColour) -> None:
    bgr = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)
    expected = bgr @ np.array([0.114, 0.587, 0.299])
    found = grey_from_image(colour.convert(bgr), colour)
    assert found.dtype == np.uint8
    assert np.abs(found - expected).max() <= 0.51


def test_a_frame_of_another_size_is_refused_and_changes_nothing(make_lab: MakeLab) -> None:
    estimator = FlowEstimator(CELL)
    estimator.step(make_lab(96, 128))
    with pytest.raises(TrackerError, match=r"\(64, 128\) after one of \(96, 128\)"):
        estimator.step(make_lab(64, 128))
    assert estimator.step(make_lab(96, 128, shift=4)).any()


@pytest.mark.parametrize(
    "size", [(1, 1), (7, 9), (9, 64), (24, 500), (31, 33), (500, 20), (32, 700), (65, 97)]
)
def test_any_size_has_a_finite_flow_of_its_own_size(
    size: tuple[int, int], make_lab: MakeLab
) -> None:
    flow = flow_from_lab(make_lab(*size, shift=2), make_lab(*size))
    assert flow.shape == (*size, 2)
    assert flow.dtype == np.float32
    assert np.isfinite(flow).all()


def test_encoding_holds_direction_and_length_and_is_clipped() -> None:
    flow = np.zeros((256, 300, 2), np.float32)
    flow[0, 0], flow[0, 1], flow[0, 2] = (3, -4), (-50, 0), (0, 20)
    encoded = encode_flow(flow, CELL)
    # Three float32 roundings.
    np.testing.assert_allclose(encoded[:, 0, 0], [3 / 20, -4 / 20, 5 / 20], rtol=1e-6)
    np.testing.assert_array_equal(encoded[:, 0, 1], [-1, 0, 1])
    np.testing.assert_allclose(encoded[:, 0, 2], [0, 1, 1], rtol=1e-6)
    assert not encoded[:, 1:].any()


@settings(max_examples=30)
@given(
    hnp.arrays(
        np.float32, (5, 7, 2), elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False)
    )
)
def test_encoding_stays_within_one(flow: NDArray[np.float32]) -> None:
    encoded = encode_flow(flow, CELL)
    assert encoded.shape == (3, 5, 7)
    assert np.abs(encoded).max() <= 1
    assert (encoded[2] >= 0).all()


def encode_motion(pixels: float, size: tuple[int, int], scale: FlowScale) -> float:
    """What a picture is encoded as in which everything moves to the right."""
    flow = np.zeros((*size, 2), np.float32)
    flow[..., 0] = pixels
    return float(encode_flow(flow, scale)[0, 0, 0])


@pytest.mark.parametrize("stride", [4, 8])
def test_a_motion_is_encoded_alike_in_a_crop_and_in_a_frame_by_what_a_key_cell_covers(
    stride: int,
) -> None:
    scale, pixels = FlowScale("cell", stride), 0.375 * stride
    sizes = ((128, 128), (192, 192), (480, 854))
    found = [encode_motion(pixels, size, scale) for size in sizes]
    assert found == pytest.approx([0.375 / 2.5] * 3, rel=1e-6)


def test_by_the_short_side_it_is_four_times_as_much_in_a_crop() -> None:
    scale = FlowScale("side", 8)
    # 3 px: what training had, and what a frame of 480 lines has.
    assert encode_motion(3, (128, 128), scale) == pytest.approx(0.30, abs=0.005)
    assert encode_motion(3, (480, 854), scale) == pytest.approx(0.08, abs=0.005)
    assert encode_motion(6, (200, 240), scale) == pytest.approx(encode_motion(3, (100, 120), scale))


def test_by_the_largest_motion_it_is_1_but_noise_stays_small() -> None:
    scale, flow = FlowScale("largest", 8), np.zeros((64, 64, 2), np.float32)
    flow[5, 7] = (30, 40)
    assert encode_flow(flow, scale)[:, 5, 7].tolist() == pytest.approx([0.6, 0.8, 1])
    assert encode_motion(0.1, (64, 64), scale) == pytest.approx(0.1)


def test_grey_runs_from_black_to_white() -> None:
    lab = np.zeros((1, 4, 3), np.float32)
    lab[0, :, 0] = [-1, 0, 1, 1.004]
    np.testing.assert_array_equal(grey_from_lab(lab), [[0, 128, 255, 255]])
