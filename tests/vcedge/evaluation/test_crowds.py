"""Clips of one to many objects: where they are, how large, and what their masks say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge.evaluation.crowds import Crowd, CrowdRecipe, render_crowd
from vcedge_runtime.errors import EvaluationError

MakeImage = Callable[..., NDArray[np.uint8]]
RECIPE = CrowdRecipe("scene", ("object",) * 6, 0.2, 0.5, seed=3, length=12)


def middles(clip: Crowd, at: int) -> NDArray[np.float64]:
    """(K, 2): x and y of the middle of what is seen of each object."""
    ids = range(1, 1 + len(clip.recipe.names))
    return np.array([np.argwhere(clip.masks[at] == i).mean(axis=0)[::-1] for i in ids])


def test_every_object_is_where_the_mask_says(scene_root: Path) -> None:
    clip = render_crowd(scene_root, RECIPE)
    assert len(clip.frames) == len(clip.masks) == 12
    for frame, mask in zip(clip.frames, clip.masks, strict=True):
        assert set(np.unique(mask)) == set(range(7))
        # White where an object is, dark elsewhere; but for the soft outline.
        inner = cv2.erode((mask > 0).astype(np.uint8), np.ones((3, 3))) > 0
        assert frame[inner].min() > 150
        assert frame[mask == 0].max() < 100


def test_objects_have_the_size_that_is_asked_for(scene_root: Path) -> None:
    large = render_crowd(scene_root, replace(RECIPE, names=("object",)))
    # A square of 0.2 of 120 pixels; cutting rounds each side to whole pixels.
    assert np.count_nonzero(large.masks[0]) == pytest.approx(24 * 24, rel=0.1)
    assert large.share == pytest.approx(24 * 24 / (120 * 200), rel=0.1)
    small = render_crowd(scene_root, replace(RECIPE, names=("object",), size=0.05))
    assert np.count_nonzero(small.masks[0]) == pytest.approx(6 * 6, rel=0.4)


@pytest.mark.parametrize("seed", range(5))
def test_a_small_spread_keeps_them_near_each_other(scene_root: Path, seed: int) -> None:
    near = middles(render_crowd(scene_root, replace(RECIPE, spread=0.4, seed=seed)), 0)
    far = middles(render_crowd(scene_root, replace(RECIPE, spread=1.0, seed=seed)), 0)
    # Places of a spread's sides; an object sways by SWAY of a place's side.
    assert (np.ptp(near, axis=0) <= (0.4 * 200, 0.4 * 120)).all()
    assert np.ptp(far[:, 0]) > 0.5 * 200


def test_they_move(scene_root: Path) -> None:
    clip = render_crowd(scene_root, RECIPE)
    assert (np.linalg.norm(middles(clip, 11) - middles(clip, 0), axis=1) > 3).any()


def test_the_same_recipe_gives_the_same_pixels(scene_root: Path) -> None:
    first, second = (render_crowd(scene_root, RECIPE) for _ in range(2))
    np.testing.assert_array_equal(first.frames, second.frames)
    other = render_crowd(scene_root, replace(RECIPE, seed=4))
    assert not np.array_equal(first.masks, other.masks)


@pytest.mark.parametrize(
    "change", [{"names": ()}, {"length": 2}, {"size": 0.0}, {"spread": 0.0}, {"spread": 1.5}]
)
def test_what_cannot_be_drawn_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(EvaluationError, match="expected"):
        replace(RECIPE, **change)  # type: ignore[arg-type]


def test_a_sequence_that_is_missing_is_named(scene_root: Path) -> None:
    with pytest.raises(EvaluationError, match="nobody"):
        render_crowd(scene_root, replace(RECIPE, scene="nobody"))
