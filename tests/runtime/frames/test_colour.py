"""Colour: what the encoder sees."""

from __future__ import annotations

import numpy as np
import pytest

from vcedge_runtime.frames.colour import lab_from_bgr


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
