"""Colour: what the encoder sees."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from vcedge_runtime.errors import BundleError
from vcedge_runtime.frames.colour import IMAGENET_LITE, LAB, InputColour, lab_from_bgr


@pytest.mark.parametrize(
    ("bgr", "lab"),
    [
        ((0, 0, 0), (0, 0, 0)),
        ((255, 255, 255), (100, 0, 0)),
        ((128, 128, 128), (53.585, 0, 0)),
        # CIE Lab of sRGB's primaries under D65.
        ((0, 0, 255), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((255, 0, 0), (32.30, 79.19, -107.86)),
    ],
)
def test_known_colours_have_their_lab(
    bgr: tuple[int, ...], lab: tuple[float, float, float]
) -> None:
    frame = np.full((2, 3, 3), bgr, np.uint8)
    found = lab_from_bgr(frame)
    assert found.shape == (2, 3, 3)
    assert found.dtype == np.float32
    expected = np.array([(lab[0] - 50) / 50, lab[1] / 127, lab[2] / 127])
    # OpenCV interpolates its conversion tables: half a unit of L, a or b.
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=0.5 / 50)


def test_every_channel_stays_about_one() -> None:
    steps = np.arange(0, 256, 15, np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 1, 3)
    assert np.abs(lab_from_bgr(cube)).max() < 1.01


def test_the_frame_is_left_as_it_was() -> None:
    frame = np.full((2, 3, 3), 77, np.uint8)
    lab_from_bgr(frame)
    assert (frame == 77).all()


def test_lab_is_as_it_was_before_colour_was_a_property_of_a_bundle() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    lab = cv2.cvtColor(frame.astype(np.float32) / np.float32(255), cv2.COLOR_BGR2Lab)
    expected = lab * np.array([1 / 50, 1 / 127, 1 / 127], np.float32)
    expected[..., 0] -= 1
    np.testing.assert_array_equal(LAB.convert(frame), expected)


def test_rgb_is_in_the_order_and_range_of_the_published_encoder() -> None:
    frame = np.array([[[255, 127, 0]]], np.uint8)
    found = IMAGENET_LITE.convert(frame)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[[-127 / 128, 0, 1]]])


@pytest.mark.parametrize(
    "wrong",
    [
        {"space": "hsv"},
        {"mean": (1.0, 2.0)},
        {"scale": (1.0, 1.0, 0.0)},
        {"scale": (1.0, 1.0, float("nan"))},
        {"mean": 3.0},
    ],
)
def test_a_colour_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(BundleError, match=f"received {name}=.* for InputColour; expected"):
        InputColour(**wrong)
