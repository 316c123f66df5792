"""Clips whose object leaves and comes back: what they show, and what a tracker is told of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge.evaluation.composite_recipes import CompositeRecipe
from vcedge.evaluation.returns import (
    AWAY,
    BACK,
    CROSS,
    STAY,
    Return,
    ReturnScore,
    render_return,
    score_return,
)
from vcedge_runtime.errors import EvaluationError

MakeImage = Callable[..., NDArray[np.uint8]]
RECIPE = CompositeRecipe(("scene", "object"), 5)


@pytest.fixture(scope="module")
def clip(scene_root: Path) -> Return:
    return render_return(scene_root, RECIPE)


def test_the_object_is_there_then_away_then_back(clip: Return) -> None:
    first, last = clip.away
    assert AWAY[0] <= last - first + 1 <= AWAY[1] + 2 * CROSS
    assert STAY < first < last < clip.back < len(clip.frames) - BACK + 1
    shown = [bool(mask.any()) for mask in clip.masks]
    assert all(shown[: STAY + 1])
    assert not any(shown[first : last + 1])
    assert all(shown[clip.back :])


def test_masks_are_where_the_object_was_painted(clip: Return) -> None:
    for frame, mask in zip(clip.frames, clip.masks, strict=True):
        inner = cv2.erode(mask, np.ones((5, 5), np.uint8), borderValue=1) > 0
        assert (frame[inner] > 240).all()
        # The scene has no pixel as bright.
        assert not (frame.min(-1)[mask == 0] > 200).any()


def test_it_comes_back_over_another_edge(clip: Return) -> None:
    def edges(mask: NDArray[np.uint8]) -> set[str]:
        sides = {"left": mask[:, 0], "right": mask[:, -1], "top": mask[0], "bottom": mask[-1]}
        return {name for name, side in sides.items() if side.any()}

    first, last = clip.away
    gone, came = edges(clip.masks[first - 1]), edges(clip.masks[last + 1])
    assert gone
    assert came
    assert not gone & came


def test_the_same_recipe_gives_the_same_pixels(scene_root: Path, clip: Return) -> None:
    again = render_return(scene_root, RECIPE)
    assert again.away == clip.away
    assert all(map(np.array_equal, again.frames, clip.frames))
    other = render_return(scene_root, CompositeRecipe(RECIPE.names, 6))
    assert (other.away, other.back) != (clip.away, clip.back)


def test_a_sequence_that_is_not_there_is_refused(scene_root: Path) -> None:
    with pytest.raises(EvaluationError, match="nobody"):
        render_return(scene_root, CompositeRecipe(("scene", "nobody"), 0))


def test_a_tracker_that_knows_all_is_right_and_one_that_never_finds_again_is_not(
    clip: Return,
) -> None:
    first, last = clip.away
    absent = last - first + 1
    exact = score_return(clip, clip.masks)
    assert exact == ReturnScore(absent, absent, 1.0, 0, 1.0)
    assert exact.found_soon
    nothing = [np.zeros_like(mask) if at >= first else mask for at, mask in enumerate(clip.masks)]
    assert score_return(clip, nothing) == ReturnScore(absent, absent, 1.0, None, 0.0)
    assert not score_return(clip, nothing).found_soon
    late = [mask if at >= clip.back + 5 else nothing[at] for at, mask in enumerate(clip.masks)]
    assert score_return(clip, late).found == 5
    assert not score_return(clip, late).found_soon
    wrong = [np.ones_like(mask) for mask in clip.masks]
    assert score_return(clip, wrong).empty == 0
