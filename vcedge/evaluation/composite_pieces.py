"""What composites are made of: objects cut out of their sequences, and painted into a frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge.evaluation.composite_recipes import CompositeSettings
from vcedge.evaluation.davis_folders import find_frames, find_mask_folders
from vcedge_runtime.errors import EvaluationError
from vcedge_runtime.video.palette import read_label_png
from vcedge_runtime.video.sources import open_source

Picture = NDArray[np.uint8]
Path2D = NDArray[np.float64]
Shown = tuple[Picture, NDArray[np.bool_]]
"""A frame, (H, W, 3) uint8 BGR, and where its object is, (H, W) bool."""
_PAD = 2
"""Pixels around an object's box that are cut out with it, for its soft edge."""
_STEADY = 9
"""Frames over which an object's middle is smoothed, so that a limb's move does not shake it."""


class Piece(NamedTuple):
    """What an object looks like in one frame.

    Attributes:
        image: (h, w, 3) uint8, BGR.
        alpha: (h, w) float32, 0-1; the object is where it is 0.5 or more, and 0 elsewhere.
        offset_xy: (2,) float64, from the object's middle to the top left corner.
    """

    image: Picture
    alpha: NDArray[np.float32]
    offset_xy: NDArray[np.float64]


class Placed(NamedTuple):
    """A piece in a frame: the part of it that lies within, and where that is."""

    object_id: int
    image: Picture
    alpha: NDArray[np.float32]
    box: tuple[slice, slice]


Looks = Sequence[Sequence[Piece]]
"""The pieces of every object, one a frame."""


class Layout(NamedTuple):
    """Where every object goes: its middle's (T, 2) x and y, and the ids from back to front."""

    paths: Sequence[Path2D]
    order: tuple[int, ...]


def read_sequence(root: Path, name: str, length: int) -> Iterator[Shown]:
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


def find_box(solid: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Find left, top, width and height of an object; width and height are 0 without one."""
    left, top, width, height = cv2.boundingRect(solid.astype(np.uint8))
    return left, top, width, height


def find_middles(boxes: Sequence[tuple[int, int, int, int]]) -> Path2D:
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


def cut_object(
    rng: np.random.Generator, root: Path, name: str, height: int, settings: CompositeSettings
) -> list[Piece]:
    """Cut an object out of its sequence, at a size and facing a side that are drawn."""
    pairs = list(read_sequence(root, name, settings.length))
    if rng.random() < 0.5:
        pairs = [(image[:, ::-1], solid[:, ::-1]) for image, solid in pairs]
    boxes = [find_box(solid) for _, solid in pairs]
    longer = np.median([max(box[2:]) for box in boxes if box[2]])
    scale = min(rng.uniform(*settings.size) * height / longer, settings.enlargement)
    return cut_pieces(pairs, find_middles(boxes), float(scale))


def cut_pieces(pairs: Iterable[Shown], middles: Path2D, scale: float = 1.0) -> list[Piece]:
    """Cut an object out of each frame; one that a frame does not show gives a piece of alpha 0."""
    pieces = []
    for (image, solid), middle in zip(pairs, middles, strict=True):
        left, top, width, height = find_box(solid)
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
        pieces.append(Piece(colour, _soften_edge(cover >= 0.5), offset))
    return pieces


def _soften_edge(solid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Turn a shape into an alpha that is 0 off it, and from 0.5 to 1 on its outline's pixels."""
    soft = cv2.GaussianBlur(solid.astype(np.float32), (3, 3), 0)
    return np.where(solid, np.maximum(soft, 0.5), 0).astype(np.float32)


def place_pieces(looks: Looks, layout: Layout, at: int, frame_hw: tuple[int, int]) -> list[Placed]:
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
        placed.append(Placed(object_id, piece.image[inner], piece.alpha[inner], box))
    return placed


def stack_ids(
    placed: Sequence[Placed], frame_hw: tuple[int, int]
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


def paint_pieces(image: Picture, placed: Sequence[Placed]) -> Picture:
    """Paint the pieces, from back to front, on a copy of an (H, W, 3) uint8 picture."""
    canvas = image.astype(np.float32)
    for _, patch, alpha, box in placed:
        canvas[box] += alpha[..., None] * (patch - canvas[box])
    return np.rint(canvas).astype(np.uint8)
