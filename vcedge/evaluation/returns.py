"""Clips whose object leaves the picture and comes back elsewhere, with exact masks.

An object is cut out of its sequence and carried across another's frames: it leaves over an edge,
stays away, and comes back over another one. The scene's own object is in view all the time and is
not to be taken for it. This is a measure of ours; no paper's figure compares to it.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from vcedge.evaluation.composite_recipes import CompositeRecipe, CompositeSettings
from vcedge.evaluation.davis_folders import list_sequences
from vcedge.evaluation.davis_metrics import region_similarity

STAY, CROSS, BACK = 16, 8, 16
"""Frames in view before it leaves, those that it takes over an edge, those after it is back."""
AWAY = (10, 40)
"""Fewest and most frames without it."""
SHOWN = 0.5
"""Share of an object within the frame from which on it is back (our choice)."""
FOUND = 0.5
"""Overlap from which on it is found (our choice)."""
SOON = 5
"""Frames within which it is to be found."""


@dataclass(frozen=True, eq=False)
class Return:
    """A rendered clip.

    Attributes:
        recipe: the scene, the object, and the seed.
        frames: (H, W, 3) uint8 each, BGR, 0-255.
        masks: (H, W) uint8 each, 1 where the object is.
        away: frames without it, first and last.
        back: the first frame in which half of it, or more, is in view again.
    """

    recipe: CompositeRecipe
    frames: tuple[Picture, ...]
    masks: tuple[Picture, ...]
    away: tuple[int, int]
    back: int


@dataclass(frozen=True)
class ReturnScore:
    """How a tracker took it.

    Attributes:
        absent: frames without the object.
        empty: of these, with an empty mask.
        before: mean overlap while it is in view for the first time, without frame 0.
        found: frames from ``Return.back`` on until it was found, 0 for at once; None for never.
        after: mean overlap from ``Return.back`` on.
    """

    absent: int
    empty: int
    before: float
    found: int | None
    after: float

    @property
    def found_soon(self) -> bool:
        """Whether it was found within ``SOON`` frames."""
        return self.found is not None and self.found < SOON


def render_return(root: Path, recipe: CompositeRecipe) -> Return:
    """Render a clip; the same arguments give the same pixels.

    Args:
        root: a DAVIS folder with JPEGImages and Annotations.
        recipe: two sequences, the scene's and the object's, and a seed.

    Raises:
        EvaluationError: frames or masks of a sequence are missing or do not fit, or its first frame
            shows no object.
        MaskError: a mask cannot be read.
        SourceError: a frame cannot be read.
    """
    list_sequences(root, recipe.names)
    rng = np.random.default_rng(recipe.seed)
    absent = int(rng.integers(AWAY[0], AWAY[1] + 1))
    settings = CompositeSettings(length=STAY + CROSS + absent + CROSS + BACK)
    scene = [image for image, _ in read_sequence(root, recipe.names[0], settings.length)]
    frame_hw = scene[0].shape[:2]
    pieces = cut_object(rng, root, recipe.names[1], frame_hw[0], settings)
    reach = max(max(piece.alpha.shape) for piece in pieces)
    layout = Layout([_draw_path(rng, frame_hw, reach, absent)], (1,))
    frames, masks, shares = [], [], []
    for at, image in enumerate(scene):
        placed = place_pieces([pieces], layout, at, frame_hw)
        ids, _, seen = stack_ids(placed, frame_hw)
        frames.append(paint_pieces(image, placed))
        masks.append(ids)
        whole = int(np.count_nonzero(pieces[at].alpha >= 0.5))
        shares.append(int(seen[0]) / max(whole, 1))
    empty = [at for at, mask in enumerate(masks) if at >= STAY and not mask.any()]
    back = next(at for at, share in enumerate(shares) if at > empty[0] and share >= SHOWN)
    away = (empty[0], max(at for at in empty if at < back))
    return Return(recipe, tuple(frames), tuple(masks), away, back)


def _draw_path(
    rng: np.random.Generator, frame_hw: tuple[int, int], reach: int, absent: int
) -> Path2D:
    """Draw where the middle is: about a place, over an edge, beyond it, over another, about there.

    Returns:
        (T, 2) float64 x, y in the frame's pixels.
    """
    extent = np.array(frame_hw[::-1], np.float64)
    inside = [rng.uniform(0.3, 0.7, 2) * extent for _ in range(2)]
    first, second = rng.permutation(4)[:2]
    gone, coming = (
        _beyond(place, int(edge), extent, reach)
        for place, edge in zip(inside, (first, second), strict=True)
    )
    drift = [rng.uniform(-0.08, 0.08, 2) * extent for _ in range(2)]
    legs = [
        np.linspace(inside[0] - drift[0], inside[0], STAY, endpoint=False),
        np.linspace(inside[0], gone, CROSS, endpoint=False),
        np.linspace(gone, gone, absent),
        np.linspace(coming, inside[1], CROSS, endpoint=False),
        np.linspace(inside[1], inside[1] + drift[1], BACK),
    ]
    return np.asarray(np.concatenate(legs), np.float64)


def _beyond(
    place: NDArray[np.float64], edge: int, extent: NDArray[np.float64], reach: int
) -> NDArray[np.float64]:
    """The middle just beyond an edge (left, top, right, bottom), straight from a place."""
    found = place.copy()
    axis = edge % 2
    found[axis] = -reach if edge < 2 else extent[axis] + reach
    return found


def score_return(clip: Return, masks: Sequence[Picture]) -> ReturnScore:
    """Score a tracker's masks.

    Args:
        clip: what it was given.
        masks: (H, W) uint8 of every frame, the given one first; the object is what is not 0.
    """
    first, last = clip.away
    pairs = zip(clip.masks, masks, strict=True)
    overlaps = [float(region_similarity(truth, mask)) for truth, mask in pairs]
    hits = [at for at in range(clip.back, len(overlaps)) if overlaps[at] >= FOUND]
    return ReturnScore(
        absent=last - first + 1,
        empty=sum(not masks[at].any() for at in range(first, last + 1)),
        before=float(np.mean(overlaps[1:STAY])),
        found=hits[0] - clip.back if hits else None,
        after=float(np.mean(overlaps[clip.back :])),
    )
