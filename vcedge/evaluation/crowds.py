"""Clips of one to many objects of a chosen size, near each other or far apart, with exact masks.

Objects are cut out of their sequences and carried across another's frames, each at a place of its
own. The scene's object is in view and is none of them. This is a measure of ours; no paper's figure
compares to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vcedge.evaluation.composite_pieces import (
    Layout,
    Path2D,
    Picture,
    cut_object,
    paint_pieces,
    place_pieces,
    read_sequence,
    stack_ids,
)
from vcedge.evaluation.composite_recipes import MAX_OBJECTS, CompositeSettings
from vcedge.evaluation.davis_folders import list_sequences
from vcedge_runtime.errors import EvaluationError

DRIFT = 0.25
"""Length of the way of all objects together, in frame heights (our choice)."""
SWAY = 0.12
"""Amplitude of each object's own, in sides of its place (our choice)."""
FILLED = 0.9
"""Share of its place that an object fills at most, on its longer side (our choice)."""


@dataclass(frozen=True)
class CrowdRecipe:
    """What a clip is made of.

    Attributes:
        scene: the sequence whose frames it has.
        names: of the sequences whose objects are pasted, by rising object id; they may repeat.
        size: longer side of an object, in frame heights; less where its place is smaller.
        spread: share of the frame's sides over which the objects' places lie, 0 to 1.
        seed: of everything that is drawn for it.
        length: frames; shorter sequences run forward and back.
    """

    scene: str
    names: tuple[str, ...]
    size: float
    spread: float
    seed: int
    length: int = 40

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 1 <= len(self.names) <= MAX_OBJECTS or self.length < 3:
            raise EvaluationError(
                f"received {len(self.names)} objects in {self.length} frames; expected 1 to "
                f"{MAX_OBJECTS}, and 3 frames or more"
            )
        if not 0 < self.size < math.inf or not 0 < self.spread <= 1:
            raise EvaluationError(f"received {self}; expected a size above 0, a spread of 0 to 1")


@dataclass(frozen=True, eq=False)
class Crowd:
    """A rendered clip.

    Attributes:
        recipe: what it was made from.
        frames: (H, W, 3) uint8 each, BGR, 0-255.
        masks: (H, W) uint8 each, 0 background, 1 to K: the front-most object of each pixel.
    """

    recipe: CrowdRecipe
    frames: tuple[Picture, ...]
    masks: tuple[Picture, ...]

    @property
    def share(self) -> float:
        """Share of the frame that an object covers, on average over objects and frames."""
        return float(np.mean(np.stack(self.masks) > 0)) / len(self.recipe.names)


def render_crowd(root: Path, recipe: CrowdRecipe) -> Crowd:
    """Render a clip; the same arguments give the same pixels.

    Args:
        root: a DAVIS folder with JPEGImages and Annotations.
        recipe: its sequences, places and seed.

    Raises:
        EvaluationError: frames or masks of a sequence are missing or do not fit, its first frame
            shows no object, or the first frame of the clip does not show every object.
        MaskError: a mask cannot be read.
        SourceError: a frame cannot be read.
    """
    list_sequences(root, sorted({recipe.scene, *recipe.names}))
    rng = np.random.default_rng(recipe.seed)
    scene = [image for image, _ in read_sequence(root, recipe.scene, recipe.length)]
    frame_hw = (scene[0].shape[0], scene[0].shape[1])
    places, side = _draw_places(rng, recipe, frame_hw)
    longer = min(recipe.size, FILLED * side / frame_hw[0])
    settings = CompositeSettings(length=recipe.length, size=(longer, longer))
    looks = [cut_object(rng, root, name, frame_hw[0], settings) for name in recipe.names]
    layout = Layout(places, tuple((1 + rng.permutation(len(looks))).tolist()))
    frames, masks = [], []
    for at, image in enumerate(scene):
        placed = place_pieces(looks, layout, at, frame_hw)
        ids, _, seen = stack_ids(placed, frame_hw)
        if at == 0 and not seen.all():
            raise EvaluationError(
                f"received {recipe}, whose first frame does not show every object; expected all; "
                "take another seed, or larger objects"
            )
        frames.append(paint_pieces(image, placed))
        masks.append(ids)
    return Crowd(recipe, tuple(frames), tuple(masks))


def _draw_places(
    rng: np.random.Generator, recipe: CrowdRecipe, frame_hw: tuple[int, int]
) -> tuple[list[Path2D], float]:
    """Draw where the objects are: places side by side that drift together, each with a sway.

    Returns:
        (T, 2) float64 x, y of each object's middle in the frame's pixels; the side of a place.
    """
    extent = np.array(frame_hw[::-1], np.float64)
    count, area = len(recipe.names), recipe.spread * extent
    columns = min(count, math.ceil(math.sqrt(count * area[0] / area[1])))
    rows = math.ceil(count / columns)
    cell = area / (columns, rows)
    angle, reach = rng.uniform(0, 2 * math.pi), DRIFT * frame_hw[0]
    way = reach * np.array([math.cos(angle), math.sin(angle)])
    # All of the way lies within the frame, as far as there is room for it.
    way = np.clip(way, area - extent, extent - area)
    first = rng.uniform(np.maximum(0, -way), np.minimum(extent - area, extent - area - way))
    times = np.linspace(0, 1, recipe.length)[:, None]
    corner: NDArray[np.float64] = first + way * times
    paths = []
    for place in rng.permutation(columns * rows)[:count].tolist():
        middle = corner + cell * (place % columns + 0.5, place // columns + 0.5)
        phase, waves = rng.uniform(0, 2 * math.pi, 2), rng.uniform(0.5, 1.5, 2)
        paths.append(middle + SWAY * cell * np.sin(2 * math.pi * waves * times + phase))
    return paths, float(cell.min())
