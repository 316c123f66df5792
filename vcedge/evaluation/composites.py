"""Composites: several held-out objects in one video, which cross, with exact masks.

One DAVIS sequence is the scene, and its own object is object 1. The objects of other sequences are
cut out by their masks and carried across it, each on a path that meets another object's. This is a
measure of ours, for data whose sequences have one object each; no paper's figure compares to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vcedge.evaluation.composite_pieces import (
    Layout,
    Looks,
    Path2D,
    Picture,
    cut_object,
    cut_pieces,
    find_box,
    find_middles,
    paint_pieces,
    place_pieces,
    read_sequence,
    stack_ids,
)
from vcedge.evaluation.composite_recipes import (
    CompositeRecipe,
    CompositeSettings,
    composite_set,
)
from vcedge.evaluation.davis_folders import list_sequences
from vcedge_runtime.errors import EvaluationError

__all__ = [
    "OCCLUDED",
    "Composite",
    "CompositeRecipe",
    "CompositeSettings",
    "composite_set",
    "render_composite",
]


OCCLUDED = 0.25
"""Share of an object that others cover from which it counts as occluded (our choice)."""


@dataclass(frozen=True, eq=False)
class Composite:
    """A rendered clip of K objects and T frames.

    Attributes:
        recipe: what it was made from.
        frames: (H, W, 3) uint8 each, BGR, 0-255.
        masks: (H, W) uint8 each, 0 background, 1 to K: the front-most object of each pixel.
        covered: (T, K) float64, 0-1: share of each object's pixels within the frame that others
            cover; 0 where it has none.
        order: the objects' ids from back to front.
    """

    recipe: CompositeRecipe
    frames: tuple[Picture, ...]
    masks: tuple[Picture, ...]
    covered: NDArray[np.float64]
    order: tuple[int, ...]

    @property
    def occluded(self) -> NDArray[np.float64]:
        """(K,) float64, 0-1: share of the frames in which each object is occluded."""
        return np.asarray((self.covered >= OCCLUDED).mean(axis=0), np.float64)


def render_composite(
    root: Path, recipe: CompositeRecipe, settings: CompositeSettings | None = None
) -> Composite:
    """Render a composite; the same arguments give the same pixels.

    Args:
        root: a DAVIS folder with JPEGImages and Annotations. Whatever is not 0 in a mask is the
            sequence's object.
        recipe: its sequences and its seed.
        settings: how it is drawn; the defaults when None.

    Raises:
        EvaluationError: frames or masks of a sequence are missing or do not fit, its first frame
            shows no object, or no places were found in which the first frame shows every object.
        MaskError: a mask cannot be read.
        SourceError: a frame cannot be read.
    """
    settings = settings or CompositeSettings()
    list_sequences(root, recipe.names)
    rng = np.random.default_rng(recipe.seed)
    scene, solids = zip(*read_sequence(root, recipe.names[0], settings.length), strict=True)
    middles = find_middles([find_box(solid) for solid in solids])
    looks = [cut_pieces(zip(scene, solids, strict=True), middles)]
    for name in recipe.names[1:]:
        looks.append(cut_object(rng, root, name, scene[0].shape[0], settings))
    frame_hw = scene[0].shape[:2]
    layout = _draw_layout(rng, looks, middles, frame_hw, settings)
    frames, masks, covered = [], [], []
    for at, image in enumerate(scene):
        placed = place_pieces(looks, layout, at, frame_hw)
        ids, whole, seen = stack_ids(placed, frame_hw)
        frames.append(paint_pieces(image, placed))
        masks.append(ids)
        covered.append((whole - seen) / np.maximum(whole, 1))
    return Composite(recipe, tuple(frames), tuple(masks), np.stack(covered), layout.order)


def _draw_layout(
    rng: np.random.Generator,
    looks: Looks,
    middles: Path2D,
    frame_hw: tuple[int, int],
    settings: CompositeSettings,
) -> Layout:
    """Draw paths and depths until the first frame shows every object."""
    for _ in range(settings.attempts):
        paths = [middles]
        for _ in looks[1:]:
            other = paths[int(rng.integers(len(paths)))]
            paths.append(_draw_path(rng, other, frame_hw, settings))
        order = tuple((1 + rng.permutation(len(looks))).tolist())
        layout = Layout(paths, order)
        ids, whole, seen = stack_ids(place_pieces(looks, layout, 0, frame_hw), frame_hw)
        least = np.maximum(settings.visible * ids.size, settings.uncovered * whole)
        if (seen >= np.maximum(least, 1)).all():
            return layout
    raise EvaluationError(
        f"received {len(looks)} objects that {settings.attempts} draws could not place so that the"
        f" first frame shows {settings.visible:.1%} of each; expected room for all; take fewer or"
        " smaller objects, or another seed"
    )


def _draw_path(
    rng: np.random.Generator, other: Path2D, frame_hw: tuple[int, int], settings: CompositeSettings
) -> Path2D:
    """Draw a line with a sine on it that stays in the frame and meets another path.

    Both are (T, 2) float64 x, y in the frame's pixels.
    """
    height = frame_hw[0]
    near = settings.border * np.array(frame_hw[::-1])
    far = np.array(frame_hw[::-1]) - near
    times = np.linspace(0, 1, len(other))[:, None]
    for _ in range(settings.attempts):
        meeting = rng.uniform(*settings.meeting)
        place = np.clip(other[round(meeting * (len(other) - 1))], near, far)
        angle = rng.uniform(0, 2 * math.pi)
        line = rng.uniform(*settings.drift) * height * np.array([math.cos(angle), math.sin(angle)])
        sway = rng.uniform(*settings.sway, 2) * rng.choice([-1, 1], 2) * height
        since = times - meeting
        wave = np.sin(2 * math.pi * rng.uniform(*settings.waves) * since)
        path = place + line * since + sway * wave
        if (near <= path).all() and (path <= far).all():
            return np.asarray(path, np.float64)
    raise EvaluationError(
        f"received a drift of {settings.drift} frame heights, with which {settings.attempts} draws"
        f" found no way within a frame of {frame_hw}; expected room for it; take a smaller drift,"
        " or another seed"
    )
