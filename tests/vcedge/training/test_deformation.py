"""Motion, bending, colour and pasting."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge.training.deformation import (
    ColourRange,
    Deformation,
    MotionRange,
    Placement,
    change_colour,
    cut_shape,
    draw_bend,
    draw_colour,
    draw_walk,
    hide_behind,
    paste_object,
)
from vcedge_runtime.errors import TrainingError

SIZE = 64
IDENTITY = np.eye(2, 3)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def make_scene() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A white disc with id 3 on black."""
    ids = np.zeros((80, 100), np.uint8)
    cv2.circle(ids, (46, 42), 17, 3, -1)
    image = np.where(ids[..., None] == 3, np.uint8(255), np.uint8(0)).repeat(3, axis=2)
    return image, ids


def place(flip: bool = False, pixels: float = 1.0) -> Placement:
    return Placement(np.array([50.0, 40.0]), np.full(2, 31.5), pixels, SIZE, flip)


def inner_edge(ids: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels next to an object's outline."""
    wide = cv2.dilate(ids, np.ones((5, 5), np.uint8))
    return np.asarray(wide != cv2.erode(ids, np.ones((5, 5), np.uint8)))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("pixels", [0.6, 1.0, 1.4, 2.3])
def test_picture_and_ids_move_together(flip: bool, pixels: float) -> None:
    image, ids = make_scene()
    motion = MotionRange(bend_share=1.0)
    for seed in range(6):
        rng = np.random.default_rng(seed)
        for step in draw_walk(rng, motion, 3, SIZE):
            moved = place(flip, pixels).move(step, draw_bend(rng, motion, SIZE))
            picture, labels = moved.cut(image), moved.cut_ids(ids)
            assert picture.shape == (SIZE, SIZE, 3)
            assert set(np.unique(labels)) <= {0, 3}
            same = (picture[..., 0] > 127) == (labels == 3)
            assert same[~inner_edge(labels)].all()


def test_a_crop_that_does_not_move_is_the_picture() -> None:
    image, ids = make_scene()
    still = Deformation(np.hstack([np.eye(2), [[10.0], [5.0]]]), SIZE)
    np.testing.assert_array_equal(still.cut(image), image[5 : 5 + SIZE, 10 : 10 + SIZE])
    np.testing.assert_array_equal(still.cut_ids(ids), ids[5 : 5 + SIZE, 10 : 10 + SIZE])


@pytest.mark.parametrize("bent", [False, True])
@pytest.mark.parametrize("pixels", [1.0, 3.1])
def test_a_box_of_a_crop_is_that_part_of_the_whole(bent: bool, pixels: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (80, 100, 3), np.uint8)
    bend = draw_bend(np.random.default_rng(1), MotionRange(bend_share=1.0), SIZE)
    moved = place(pixels=pixels).move(IDENTITY, bend if bent else None)
    box = (slice(7, 40), slice(20, 33))
    part = moved.cut(noise, box=box).astype(int)
    # The bend is interpolated from the box's own pixels at its border.
    assert np.abs(part - moved.cut(noise)[box])[2:-2, 2:-2].max() <= (24 if bent else 0)


def test_an_objects_box_holds_all_of_it() -> None:
    _, ids = make_scene()
    motion = MotionRange(bend_share=0.5)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        step = draw_walk(rng, motion, 2, SIZE)[1]
        moved = place(bool(seed % 2), 0.8).move(step, draw_bend(rng, motion, SIZE))
        whole = moved.cut(ids, cv2.BORDER_CONSTANT) > 0
        part = np.zeros_like(whole)
        part[moved.find_box(ids)] = True
        assert not (whole & ~part).any()


def test_a_crop_that_shrinks_its_source_does_not_alias() -> None:
    stripes = np.zeros((200, 200, 3), np.uint8)
    stripes[:, ::2] = 255
    shrunk = Placement(np.full(2, 99.5), np.full(2, 31.5), 2.2, SIZE).move(IDENTITY)
    assert shrunk.cut(stripes).std() < 30


def test_a_walk_begins_where_it_stands_and_stays_within_its_steps() -> None:
    motion = MotionRange(angle=10, scale=0.1, shear=0, shift=0.1)
    for seed in range(20):
        walk = draw_walk(np.random.default_rng(seed), motion, 4, SIZE)
        np.testing.assert_allclose(walk[0], IDENTITY)
        angles = np.degrees(np.arctan2(walk[:, 1, 0], walk[:, 0, 0]))
        scales = np.log([np.linalg.det(step[:, :2]) for step in walk]) / 2
        assert np.abs(np.diff(angles)).max() <= 10
        assert np.abs(np.diff(scales)).max() <= 0.1
        assert np.abs(np.diff(walk[:, :, 2], axis=0)).max() <= 0.1 * SIZE


def test_neighbours_of_a_walk_are_nearer_than_distant_frames() -> None:
    walks = [draw_walk(np.random.default_rng(s), MotionRange(), 3, SIZE) for s in range(200)]
    shifts = np.stack(walks)[:, :, :, 2]
    near = np.linalg.norm(shifts[:, 1] - shifts[:, 0], axis=1).mean()
    far = np.linalg.norm(shifts[:, 2] - shifts[:, 0], axis=1).mean()
    assert far > 1.2 * near


def test_a_bend_is_smooth_and_as_frequent_as_wanted() -> None:
    drawn = [draw_bend(np.random.default_rng(s), MotionRange(), SIZE) for s in range(300)]
    bends = [bend for bend in drawn if bend is not None]
    assert len(bends) / 300 == pytest.approx(1 / 3, abs=0.1)
    for bend in bends:
        assert bend.shape == (SIZE, SIZE, 2)
        assert bend.dtype == np.float32
        assert max(np.abs(np.diff(bend, axis=axis)).max() for axis in (0, 1)) < 0.5
    spread = np.std([bend[SIZE // 2, SIZE // 2] for bend in bends])
    assert 0.3 * 0.02 * SIZE < spread < 2 * 0.02 * SIZE


def test_a_spline_follows_an_affine_motion_of_its_points_exactly() -> None:
    class Moves:
        def normal(self, _: float, __: float, shape: tuple[int, int]) -> NDArray[np.float64]:
            y, x = np.meshgrid(np.linspace(0, 1, 4), np.linspace(0, 1, 4), indexing="ij")
            return np.stack([2 + 3 * x.ravel() - y.ravel(), 4 * y.ravel()], axis=1).reshape(shape)

        def random(self) -> float:
            return 0.0

    generator: Any = Moves()
    bend = draw_bend(generator, MotionRange(), SIZE)
    assert bend is not None
    along = (np.arange(SIZE) + 0.5) / SIZE
    inner = np.s_[8:-8, 8:-8]
    wanted_x = 2 + 3 * along[None] - along[:, None]
    np.testing.assert_allclose(bend[..., 0][inner], wanted_x[inner], atol=0.02)


# Colour.


def test_no_change_of_colour_leaves_a_picture_as_it_is(rng: np.random.Generator) -> None:
    noise = rng.integers(0, 256, (8, 8, 3), np.uint8)
    np.testing.assert_array_equal(change_colour(noise, draw_colour(rng, ColourRange())), noise)


def test_gray_stays_gray_whatever_hue_and_saturation_do(rng: np.random.Generator) -> None:
    gray = np.arange(250, dtype=np.uint8).reshape(10, 25, 1).repeat(3, axis=2)
    for _ in range(20):
        changed = change_colour(gray, draw_colour(rng, ColourRange(saturation=0.5, hue=0.5)))
        assert np.abs(changed.astype(int) - gray).max() <= 1


def test_a_picture_that_loses_its_colour_keeps_its_luminance(rng: np.random.Generator) -> None:
    noise = rng.integers(0, 256, (8, 8, 3), np.uint8)
    changed = change_colour(noise, draw_colour(rng, ColourRange(grey=1.0))).astype(int)
    assert np.ptp(changed, axis=2).max() == 0
    gray = cv2.cvtColor(noise, cv2.COLOR_BGR2GRAY)
    assert np.abs(changed[..., 0] - gray).max() <= 1


def test_a_third_of_the_circle_turns_red_to_another_primary_as_dark_as_dark() -> None:
    red = np.array([[[0, 0, 200]]], np.uint8)

    class Third:
        def uniform(self, *_: Any) -> NDArray[np.float64]:
            return np.array([0, 0, 0, 1.0])

        def random(self) -> float:
            return 1.0

    generator: Any = Third()
    turned = change_colour(red, draw_colour(generator, ColourRange(hue=1 / 3)))
    blue, green, left = turned.ravel().astype(float).tolist()
    assert left == min(blue, green) < max(blue, green)
    assert 0.114 * blue + 0.587 * green + 0.299 * left == pytest.approx(0.299 * 200, abs=1)


# Pasting.


def test_a_pasted_object_covers_what_is_under_it_and_takes_its_ids_away() -> None:
    image, ids = make_scene()
    move = place().move(IDENTITY)
    shape = cut_shape(ids == 3, move)
    picture, labels = np.zeros((SIZE, SIZE, 3), np.uint8), np.full((SIZE, SIZE), 7, np.uint8)
    paste_object(picture, labels, move.cut(image, box=shape.box), shape, 2)
    assert set(np.unique(labels)) == {2, 7}
    # White only where the object is; its edge is soft by a pixel inwards, so that no halo comes.
    assert (picture[labels == 2] > 90).all()
    assert (picture[labels == 7] < 128).all()
    paste_object(picture, labels, move.cut(image, box=shape.box), shape, 0)
    assert set(np.unique(labels)) == {0, 7}


def test_an_object_behind_another_is_seen_beside_it_only() -> None:
    _, ids = make_scene()
    shape = cut_shape(ids == 3, place().move(IDENTITY))
    front = np.zeros((SIZE, SIZE), np.uint8)
    front[:, :30] = 1
    left = hide_behind(shape, front)
    seen = np.zeros((SIZE, SIZE), np.float32)
    seen[left.box] = left.alpha
    assert not seen[:, :31].any()
    assert seen[:, 33:].any()


def test_an_object_outside_the_crop_has_no_shape() -> None:
    image, ids = make_scene()
    away = Placement(np.array([46.0, 42.0]), np.array([500.0, 0.0]), 1.0, SIZE).move(IDENTITY)
    shape = cut_shape(ids == 3, away)
    assert shape.alpha.size == 0
    assert hide_behind(shape, np.zeros((SIZE, SIZE), np.uint8)).alpha.size == 0
    assert image.any()


@pytest.mark.parametrize(
    "wrong", [{"angle": -1}, {"shear": 45}, {"bend": 0.2}, {"bend_share": 1.5}, {"shift": -0.1}]
)
def test_motion_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(TrainingError, match="expected"):
        MotionRange(**wrong)


@pytest.mark.parametrize("wrong", [{"hue": -0.1}, {"grey": 1.1}])
def test_colour_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(TrainingError, match="expected values from 0 to 1"):
        ColourRange(**wrong)
