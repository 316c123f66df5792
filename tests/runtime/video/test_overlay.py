"""The picture of a result."""

from __future__ import annotations

import cv2
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


def make_named(labels: NDArray[np.uint8], scores: dict[int, float]) -> NDArray[np.uint8]:
    return draw_overlay(make_gray(*labels.shape), labels, scores)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_the_background_is_left_as_it_is_but_for_the_dark_line(labels: NDArray[np.uint8]) -> None:
    image = make_gray(*labels.shape)
    picture = draw_overlay(image, labels)
    assert picture.shape == image.shape
    around = cv2.dilate(labels, np.ones((3, 3), np.uint8))
    assert (picture[around == 0] == 100).all()
    assert np.isin(picture[labels == 0], (0, 100)).all()
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


@pytest.mark.parametrize("object_id", [1, 4, 8, 64, 255])
@pytest.mark.parametrize("ground", [0, 100, 255])
def test_the_outline_shows_on_any_ground(object_id: int, ground: int) -> None:
    labels = np.zeros((60, 80), np.uint8)
    labels[10:50, 20:60] = object_id
    picture = draw_overlay(np.full((60, 80, 3), ground, np.uint8), labels)
    outside, line, inside = picture[30, 18:21].astype(int)
    assert (outside == ground).all()
    assert (line == 0).all()
    # A light line lies on the object: far from the dark one, and from a dark ground.
    assert inside.min() >= 127
    assert max(inside.max() - ground, ground - line.max()) >= 100
    object_line = (picture == picture[30, 20]).all(axis=2) & (labels > 0)
    assert object_line.sum() == 2 * (40 + 40) - 4


def test_two_objects_that_touch_are_parted_by_their_outlines() -> None:
    labels = np.ones((60, 80), np.uint8)
    labels[:, 40:] = 2
    picture = draw_overlay(make_gray(60, 80), labels)
    assert picture[30, 39].tolist() == [127, 127, 255]
    assert picture[30, 40].tolist() == [127, 255, 127]


def test_the_edge_of_the_frame_is_no_outline() -> None:
    picture = draw_overlay(make_gray(30, 30), np.ones((30, 30), np.uint8))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 1


def test_outlines_grow_with_the_frame() -> None:
    labels = np.zeros((960, 1000), np.uint8)
    labels[:, 500:] = 1
    picture = draw_overlay(make_gray(960, 1000), labels)
    assert (picture[400] == (127, 127, 255)).all(axis=1).sum() == 3
    assert (picture[400] == 0).all(axis=1).sum() == 3


def test_ids_and_scores_are_written_above_their_objects() -> None:
    labels = np.zeros((200, 300), np.uint8)
    labels[100:150, 50:100], labels[100:150, 200:250] = 1, 2
    plain, named = draw_overlay(make_gray(200, 300), labels), make_named(labels, {1: 0.5, 9: 0.9})
    changed = cv2.boundingRect((plain != named).any(axis=2).view(np.uint8))
    left, top, width, height = changed
    assert abs(left + width / 2 - 75) <= 2
    assert 30 < width < 100
    assert 60 < top < top + height <= 100
    assert not np.array_equal(named, make_named(labels, {1: 0.6}))


@pytest.mark.parametrize("corner", [(0, 0), (0, 299), (199, 0), (199, 299)])
def test_what_is_written_stays_in_the_picture(corner: tuple[int, int]) -> None:
    labels = np.zeros((200, 300), np.uint8)
    labels[corner] = 7
    light = (make_named(labels, {7: 0.5}) >= 127).all(axis=2)
    rows, columns = np.nonzero(light)
    # Seven strokes of several pixels each, none of them cut off by an edge.
    assert light.sum() > 100
    assert rows.min() > 0
    assert rows.max() <= 199
    assert (columns.min(), columns.max()) > (0, 0)
    assert np.ptp(columns) > 40


def test_a_picture_smaller_than_its_text_is_drawn_all_the_same() -> None:
    labels = np.ones((5, 7), np.uint8)
    assert make_named(labels, {1: 0.5}).shape == (5, 7, 3)
