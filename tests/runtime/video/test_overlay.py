"""The picture of a result."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from vcedge_runtime.video.overlay import draw_overlay
from vcedge_runtime.video.palette import davis_palette


def make_gray(height: int, width: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), 100, np.uint8)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_the_background_is_left_as_it_is(labels: NDArray[np.uint8]) -> None:
    image = make_gray(*labels.shape)
    picture = draw_overlay(image, labels)
    assert picture.shape == image.shape
    assert (picture[labels == 0] == 100).all()
    assert (image == 100).all()


def test_without_an_object_the_picture_is_a_copy_of_the_frame() -> None:
    image = make_gray(20, 30)
    picture = draw_overlay(image, np.zeros((20, 30), np.uint8))
    np.testing.assert_array_equal(picture, image)
    assert not np.shares_memory(picture, image)


@pytest.mark.parametrize("object_id", [1, 8, 200, 255])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_the_inside_is_tinted_in_the_palette_colour(object_id: int, alpha: float) -> None:
    labels = np.zeros((60, 80), np.uint8)
    labels[10:50, 20:60] = object_id
    colour = davis_palette()[object_id, ::-1].astype(float)
    expected = (1 - alpha) * 100 + alpha * colour
    # half a gray level of rounding
    pixel = draw_overlay(make_gray(60, 80), labels, alpha=alpha)[30, 40]
    np.testing.assert_allclose(pixel, expected, atol=0.5)


def test_the_outline_is_brighter_and_lies_on_the_object() -> None:
    labels = np.zeros((60, 80), np.uint8)
    labels[10:50, 20:60] = 1
    picture = draw_overlay(make_gray(60, 80), labels)
    red = (picture == (0, 0, 255)).all(axis=2)
    inside = np.zeros((60, 80), bool)
    inside[11:49, 21:59] = True
    np.testing.assert_array_equal(red, (labels > 0) & ~inside)


def test_two_objects_that_touch_are_parted_by_their_outlines() -> None:
    labels = np.ones((60, 80), np.uint8)
    labels[:, 40:] = 2
    picture = draw_overlay(make_gray(60, 80), labels)
    assert picture[30, 39].tolist() == [0, 0, 255]
    assert picture[30, 40].tolist() == [0, 255, 0]


def test_the_edge_of_the_frame_is_no_outline() -> None:
    picture = draw_overlay(make_gray(30, 30), np.ones((30, 30), np.uint8))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 1


def test_outlines_grow_with_the_frame() -> None:
    labels = np.zeros((960, 1000), np.uint8)
    labels[:, 500:] = 1
    picture = draw_overlay(make_gray(960, 1000), labels)
    assert (picture[400] == (0, 0, 255)).all(axis=1).sum() == 3
