"""Composites: several held-out objects in one video, which cross, with exact masks.

One DAVIS sequence is the scene, and its own object is object 1. The objects of other sequences are
cut out by their masks and carried across it, each on a path that meets another object's. This is a
measure of ours, for data whose sequences have one object each; no paper's figure compares to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge.evaluation.composite_recipes import (
    CompositeRecipe,
    CompositeSettings,
    composite_set,
)
from vcedge.evaluation.davis_folders import find_frames, find_mask_folders, list_sequences
from vcedge_runtime.errors import EvaluationError
from vcedge_runtime.video.palette import read_label_png
from vcedge_runtime.video.sources import open_source

__all__ = [
    "OCCLUDED",
    "Composite",
    "CompositeRecipe",
    "CompositeSettings",
    "composite_set",
    "render_composite",
]

Picture = NDArray[np.uint8]
Path2D = NDArray[np.float64]
_Shown = tuple[Picture, NDArray[np.bool_]]
"""A frame, (H, W, 3) uint8 BGR, and where its object is, (H, W) bool."""

OCCLUDED = 0.25
"""Share of an object that others cover from which it counts as occluded (our choice)."""
_PAD = 2
"""Pixels around an object's box that are cut out with it, for its soft edge."""
_STEADY = 9
"""Frames over which an object's middle is smoothed, so that a limb's move does not shake it."""


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


class _Piece(NamedTuple):
    """What an object looks like in one frame.

    Attributes:
        image: (h, w, 3) uint8, BGR.
        alpha: (h, w) float32, 0-1; the object is where it is 0.5 or more, and 0 elsewhere.
        offset_xy: (2,) float64, from the object's middle to the top left corner.
    """

    image: Picture
    alpha: NDArray[np.float32]
    offset_xy: NDArray[np.float64]


class _Placed(NamedTuple):
    """A piece in a frame: the part of it that lies within, and where that is."""

    object_id: int
    image: Picture
    alpha: NDArray[np.float32]
    box: tuple[slice, slice]


_Looks = Sequence[Sequence[_Piece]]
"""The pieces of every object, one a frame."""


class _Layout(NamedTuple):
    """Where every object goes: its middle's (T, 2) x and y, and the ids from back to front."""

    paths: list[Path2D]
    order: tuple[int, ...]


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
    scene, solids = zip(*_read_sequence(root, recipe.names[0], settings.length), strict=True)
    middles = _find_middles([_find_box(solid) for solid in solids])
    looks = [_cut_pieces(zip(scene, solids, strict=True), middles)]
    for name in recipe.names[1:]:
        looks.append(_cut_object(rng, root, name, scene[0].shape[0], settings))
    frame_hw = scene[0].shape[:2]
    layout = _draw_layout(rng, looks, middles, frame_hw, settings)
    frames, masks, covered = [], [], []
    for at, image in enumerate(scene):
        placed = _place_pieces(looks, layout, at, frame_hw)
        ids, whole, seen = _stack_ids(placed, frame_hw)
        frames.append(_paint_pieces(image, placed))
        masks.append(ids)
        covered.append((whole - seen) / np.maximum(whole, 1))
    return Composite(recipe, tuple(frames), tuple(masks), np.stack(covered), layout.order)


def _read_sequence(root: Path, name: str, length: int) -> Iterator[_Shown]:
    """Read a sequence's frames, forward and back where ``length`` asks for more."""
    folder = find_mask_folders(root)[name]
    pairs = []
    with open_source(find_frames(root, name)) as video:
        for frame in islice(video, length):
            solid = read_label_png(folder / f"{frame.name}.png") > 0
            if solid.shape != video.frame_hw:
                raise EvaluationError(
                    f"received a mask of shape {solid.shape} for frame {frame.name} of {name};"
                    f" expected {video.frame_hw} as the frame's; use masks of the frames' size"
                )
            pairs.append((frame.image, solid))
    if not pairs[0][1].any():
        raise EvaluationError(
            f"received {name}, whose first mask in {folder} shows no object; expected one to"
            " follow; leave the sequence out"
        )
    turn = [*range(len(pairs)), *range(len(pairs) - 2, 0, -1)]
    return (pairs[turn[at % len(turn)]] for at in range(length))


def _find_box(solid: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Find left, top, width and height of an object; width and height are 0 without one."""
    left, top, width, height = cv2.boundingRect(solid.astype(np.uint8))
    return left, top, width, height


def _find_middles(boxes: Sequence[tuple[int, int, int, int]]) -> Path2D:
    """Follow the middle of an object, evenly through frames that do not show it.

    Returns:
        (T, 2) float64 x, y in the sequence's pixels, smoothed in time.
    """
    edges = np.array(boxes, np.float64)
    shown = np.flatnonzero(edges[:, 2])
    middles = edges[:, :2] + edges[:, 2:] / 2
    columns = [np.interp(range(len(boxes)), shown, column[shown]) for column in middles.T]
    steady = np.stack(columns, axis=1)
    smoothed = cv2.GaussianBlur(steady, (1, _STEADY), 0, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(smoothed, np.float64).reshape(-1, 2)


def _cut_object(
    rng: np.random.Generator, root: Path, name: str, height: int, settings: CompositeSettings
) -> list[_Piece]:
    """Cut an object out of its sequence, at a size and facing a side that are drawn."""
    pairs = list(_read_sequence(root, name, settings.length))
    if rng.random() < 0.5:
        pairs = [(image[:, ::-1], solid[:, ::-1]) for image, solid in pairs]
    boxes = [_find_box(solid) for _, solid in pairs]
    longer = np.median([max(box[2:]) for box in boxes if box[2]])
    scale = min(rng.uniform(*settings.size) * height / longer, settings.enlargement)
    return _cut_pieces(pairs, _find_middles(boxes), float(scale))


def _cut_pieces(pairs: Iterable[_Shown], middles: Path2D, scale: float = 1.0) -> list[_Piece]:
    """Cut an object out of each frame; one that a frame does not show gives a piece of alpha 0."""
    pieces = []
    for (image, solid), middle in zip(pairs, middles, strict=True):
        left, top, width, height = _find_box(solid)
        first_y, first_x = max(top - _PAD, 0), max(left - _PAD, 0)
        box = (slice(first_y, top + height + _PAD), slice(first_x, left + width + _PAD))
        size = [max(1, round(side * scale)) for side in solid[box].shape[::-1]]
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        cover = cv2.resize(solid[box].astype(np.float32), size, interpolation=way)
        # Only the object's own pixels are mixed, so that nothing of its old surroundings shows.
        own = cv2.resize(
            image[box] * solid[box][..., None].astype(np.float32), size, interpolation=way
        )
        colour = np.rint(own / np.maximum(cover, 0.5)[..., None]).astype(np.uint8)
        offset = (np.array([first_x, first_y]) - middle) * scale
        pieces.append(_Piece(colour, _soften_edge(cover >= 0.5), offset))
    return pieces


def _soften_edge(solid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Turn a shape into an alpha that is 0 off it, and from 0.5 to 1 on its outline's pixels."""
    soft = cv2.GaussianBlur(solid.astype(np.float32), (3, 3), 0)
    return np.where(solid, np.maximum(soft, 0.5), 0).astype(np.float32)


def _draw_layout(
    rng: np.random.Generator,
    looks: _Looks,
    middles: Path2D,
    frame_hw: tuple[int, int],
    settings: CompositeSettings,
) -> _Layout:
    """Draw paths and depths until the first frame shows every object."""
    for _ in range(settings.attempts):
        paths = [middles]
        for _ in looks[1:]:
            other = paths[int(rng.integers(len(paths)))]
            paths.append(_draw_path(rng, other, frame_hw, settings))
        order = tuple((1 + rng.permutation(len(looks))).tolist())
        layout = _Layout(paths, order)
        ids, whole, seen = _stack_ids(_place_pieces(looks, layout, 0, frame_hw), frame_hw)
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


def _place_pieces(
    looks: _Looks, layout: _Layout, at: int, frame_hw: tuple[int, int]
) -> list[_Placed]:
    """Put the objects' pieces of one frame in their places, from back to front."""
    placed = []
    for object_id in layout.order:
        piece = looks[object_id - 1][at]
        corner = np.rint(layout.paths[object_id - 1][at] + piece.offset_xy).astype(int)[::-1]
        first = np.clip(corner, 0, frame_hw)
        last = np.clip(corner + piece.alpha.shape, 0, frame_hw)
        (top, left), (bottom, right) = first.tolist(), last.tolist()
        (skip_y, skip_x), (end_y, end_x) = (first - corner).tolist(), (last - corner).tolist()
        inner = (slice(skip_y, end_y), slice(skip_x, end_x))
        box = (slice(top, bottom), slice(left, right))
        placed.append(_Placed(object_id, piece.image[inner], piece.alpha[inner], box))
    return placed


def _stack_ids(
    placed: Sequence[_Placed], frame_hw: tuple[int, int]
) -> tuple[Picture, NDArray[np.int64], NDArray[np.int64]]:
    """Find the front-most object of each pixel.

    Returns:
        (H, W) uint8 ids; each object's pixels in the frame, (K,) int64, and those that are seen.
    """
    ids = np.zeros(frame_hw, np.uint8)
    whole = np.zeros(len(placed), np.int64)
    for object_id, _, alpha, box in placed:
        solid = alpha >= 0.5
        ids[box][solid] = object_id
        whole[object_id - 1] = np.count_nonzero(solid)
    return ids, whole, np.bincount(ids.ravel(), minlength=len(placed) + 1)[1:]


def _paint_pieces(image: Picture, placed: Sequence[_Placed]) -> Picture:
    """Paint the pieces, from back to front, on a copy of an (H, W, 3) uint8 picture."""
    canvas = image.astype(np.float32)
    for _, patch, alpha, box in placed:
        canvas[box] += alpha[..., None] * (patch - canvas[box])
    return np.rint(canvas).astype(np.uint8)
