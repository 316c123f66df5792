"""Composites: exact masks, depth, places, and what cannot be rendered."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge.evaluation.composites import (
    OCCLUDED,
    Composite,
    CompositeRecipe,
    CompositeSettings,
    composite_set,
    render_composite,
)
from vcedge_runtime.errors import EvaluationError, MaskError

Image = NDArray[np.uint8]
WriteImages = Callable[..., None]
NAMES = ("cow", "boat", "kite", "tram")
COLOURS = {"cow": (0, 0, 250), "boat": (0, 250, 0), "kite": (250, 0, 0), "tram": (0, 250, 250)}
HEIGHT, WIDTH = 54, 96
SHORT = CompositeSettings(length=9)


def draw_object(name: str, at: int) -> Image:
    """Draw (H, W) uint8, 0 or 255: a shape of the sequence's own that moves to the right."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    axes = {"cow": (14, 9), "boat": (7, 12), "kite": (10, 10), "tram": (18, 6)}[name]
    cv2.ellipse(mask, (30 + 2 * at, 26), axes, 20, 0, 360, 255, cv2.FILLED)
    return mask


@pytest.fixture
def davis(tmp_path: Path, write_images: WriteImages) -> Path:
    """A DAVIS folder of four sequences of one colour each on gray; the gray counts the frames."""
    for name, length in zip(NAMES, (9, 9, 12, 3), strict=True):
        masks = {f"{at:05d}": draw_object(name, at) for at in range(length)}
        frames = {}
        for at, (stem, mask) in enumerate(masks.items()):
            frames[stem] = np.full((HEIGHT, WIDTH, 3), 100 + at, np.uint8)
            frames[stem][mask > 0] = COLOURS[name]
        write_images(tmp_path / "JPEGImages" / "480p" / name, frames, ".png")
        write_images(tmp_path / "Annotations" / "480p" / name, masks, ".png")
    return tmp_path


def render(root: Path, seed: int, objects: int = 4) -> Composite:
    return render_composite(root, CompositeRecipe(NAMES[:objects], seed), SHORT)


def test_the_same_arguments_give_the_same_pixels(davis: Path) -> None:
    one, same, other = (render(davis, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.frames, same.frames)
    np.testing.assert_array_equal(one.masks, same.masks)
    assert one.order == same.order
    assert (np.stack(one.masks) != np.stack(other.masks)).any()


@pytest.mark.parametrize("seed", range(6))
def test_each_id_is_where_its_object_is_painted(davis: Path, seed: int) -> None:
    clip = render(davis, seed)
    for at, (frame, ids) in enumerate(zip(clip.frames, clip.masks, strict=True)):
        inside = 0
        for object_id, name in enumerate(NAMES, start=1):
            # The outline is mixed with what is behind it.
            core = cv2.erode(np.pad(ids == object_id, 1).astype(np.uint8), np.ones((3, 3))) > 0
            core = core[1:-1, 1:-1]
            assert (frame[core] == COLOURS[name]).all()
            inside += int(np.count_nonzero(core))
        assert (frame[ids == 0] == 100 + at).all()
        assert inside > 0.005 * ids.size


@pytest.mark.parametrize("objects", [2, 3, 4])
def test_a_clip_has_as_many_objects_as_sequences_and_the_settings_frames(
    davis: Path, objects: int
) -> None:
    clip = render(davis, 1, objects)
    assert len(clip.frames) == len(clip.masks) == SHORT.length
    assert {(frame.shape, frame.dtype.name) for frame in clip.frames} == {
        ((HEIGHT, WIDTH, 3), "uint8")
    }
    assert {(mask.shape, mask.dtype.name) for mask in clip.masks} == {((HEIGHT, WIDTH), "uint8")}
    assert np.unique(clip.masks).tolist() == list(range(objects + 1))
    assert clip.covered.shape == (SHORT.length, objects)
    assert sorted(clip.order) == list(range(1, objects + 1))


@pytest.mark.parametrize("seed", range(8))
def test_the_first_frame_shows_every_object(davis: Path, seed: int) -> None:
    clip = render(davis, seed)
    shares = [(clip.masks[0] == object_id).mean() for object_id in range(1, 5)]
    assert min(shares) >= SHORT.visible
    assert (clip.covered[0] <= 1 - SHORT.uncovered).all()


def test_only_objects_in_front_cover_the_scenes_own(davis: Path) -> None:
    depths = set()
    for seed in range(12):
        clip = render(davis, seed, 3)
        depth = clip.order.index(1)
        depths.add(depth)
        for at, ids in enumerate(clip.masks):
            own = draw_object("cow", at) > 0
            assert set(np.unique(ids[own])) <= set(clip.order[depth:])
            assert not (ids[~own] == 1).any()
            assert clip.covered[at, 0] == pytest.approx((ids[own] != 1).mean())
    assert depths == {0, 1, 2}


def test_the_front_most_object_is_never_covered_and_always_in_the_frame(davis: Path) -> None:
    for seed in range(8):
        clip = render(davis, seed)
        front = clip.order[-1]
        assert not clip.covered[:, front - 1].any()
        assert all((ids == front).any() for ids in clip.masks)


def test_objects_occlude_each_other_in_most_clips(davis: Path) -> None:
    clips = [render(davis, seed) for seed in range(8)]
    assert sum(bool(clip.occluded.any()) for clip in clips) >= 6
    for clip in clips:
        np.testing.assert_array_equal(clip.occluded, (clip.covered >= OCCLUDED).mean(axis=0))


def test_a_short_sequence_runs_forward_and_back(davis: Path) -> None:
    clip = render_composite(davis, CompositeRecipe(("tram", "cow"), 0), SHORT)
    grays = [np.median(frame[ids == 0]) for frame, ids in zip(clip.frames, clip.masks, strict=True)]
    assert grays == [100, 101, 102, 101, 100, 101, 102, 101, 100]


def test_an_object_that_its_sequence_does_not_show_is_in_no_mask(davis: Path) -> None:
    for stem in ("00004", "00005"):
        for name in ("cow", "boat"):
            path = davis / "Annotations" / "480p" / name / f"{stem}.png"
            cv2.imwrite(str(path), np.zeros((HEIGHT, WIDTH), np.uint8))
    clip = render(davis, 0, 3)
    for at, ids in enumerate(clip.masks):
        assert (set(np.unique(ids)) & {1, 2} == set()) == (at in (4, 5))
    assert not clip.covered[4:6, :2].any()


def test_a_sets_sequences_are_used_evenly_and_differ_within_a_clip() -> None:
    recipes = composite_set(NAMES, 3, 8, 5)
    assert recipes == composite_set(NAMES, 3, 8, 5)
    assert recipes != composite_set(NAMES, 3, 8, 6)
    assert all(len(set(recipe.names)) == 3 for recipe in recipes)
    assert set(Counter(name for recipe in recipes for name in recipe.names).values()) == {6}
    assert len({recipe.seed for recipe in recipes}) == 8
    assert len({recipe.names[0] for recipe in recipes}) > 1


@pytest.mark.parametrize(
    ("names", "objects", "count", "seed"),
    [
        (NAMES, 5, 1, 0),
        (("cow", "cow"), 2, 1, 0),
        (NAMES, 1, 1, 0),
        (NAMES, 2, 0, 0),
        (NAMES, 2, 1, -1),
    ],
)
def test_a_set_without_sequences_enough_is_refused(
    names: tuple[str, ...], objects: int, count: int, seed: int
) -> None:
    with pytest.raises(EvaluationError, match=f"sequences for {count} composites of {objects}"):
        composite_set(names, objects, count, seed)


@pytest.mark.parametrize("names", [(), ("cow",), ("cow", "boat", "cow")])
def test_a_recipe_needs_different_sequences(names: tuple[str, ...]) -> None:
    with pytest.raises(EvaluationError, match="expected 2 to 254 different sequences"):
        CompositeRecipe(names, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"length": 2},
        {"attempts": 0},
        {"size": (0.0, 0.5)},
        {"size": (0.6, 0.5)},
        {"drift": (-0.1, 0.5)},
        {"waves": (0.5, float("inf"))},
        {"sway": (float("nan"), 0.1)},
        {"meeting": (0.5, 1.5)},
        {"enlargement": 0.0},
        {"border": 0.5},
        {"visible": 1.5},
        {"uncovered": -0.5},
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(EvaluationError, match="expected"):
        replace(SHORT, **change)


def test_what_is_missing_is_named(davis: Path) -> None:
    with pytest.raises(EvaluationError, match="which is no folder"):
        render(davis / "none", 0)
    with pytest.raises(EvaluationError, match="received goat as a sequence"):
        render_composite(davis, CompositeRecipe(("cow", "goat"), 0), SHORT)
    (davis / "Annotations/480p/boat/00003.png").unlink()
    with pytest.raises(MaskError, match=r"00003\.png"):
        render(davis, 0)
    shutil.rmtree(davis / "JPEGImages/480p/boat")
    with pytest.raises(EvaluationError, match="no frames of boat"):
        render(davis, 0)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((HEIGHT, WIDTH), np.uint8), "boat, whose first mask .* shows no object"),
        (np.full((HEIGHT, 9), 255, np.uint8), r"mask of shape \(54, 9\) for frame 00000 of boat"),
    ],
)
def test_a_first_mask_that_does_not_fit_is_refused(davis: Path, mask: Image, message: str) -> None:
    cv2.imwrite(str(davis / "Annotations/480p/boat/00000.png"), mask)
    with pytest.raises(EvaluationError, match=message):
        render(davis, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"visible": 0.5}, "3 objects that 5 draws could not place"),
        ({"drift": (9.0, 9.0)}, "no way within a frame"),
    ],
)
def test_objects_that_find_no_place_are_an_error(
    davis: Path, change: dict[str, Any], message: str
) -> None:
    settings = replace(SHORT, attempts=5, drift=(0.1, 0.2))
    with pytest.raises(EvaluationError, match=message):
        render_composite(davis, CompositeRecipe(NAMES[:3], 0), replace(settings, **change))
