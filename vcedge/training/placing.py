"""Where objects and crops of a clip lie, frame after frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vcedge.training.deformation import (
    Deformation,
    MotionRange,
    Placement,
    draw_bend,
    draw_walk,
)
from vcedge_runtime.video.masks import VOID

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Spot:
    """Where an object is in a picture: middle x, y, and square root of its area, in pixels."""

    xy: NDArray[np.float64]
    extent: float


def draw_object(rng: np.random.Generator, ids: Picture) -> int:
    """Draw one of a picture's objects; 0 where there is none."""
    present = np.unique(_thin(ids)[0])
    present = present[(present > 0) & (present < VOID)]
    return int(rng.choice(present)) if len(present) else 0


def draw_pixel(rng: np.random.Generator, ids: Picture, main: int) -> NDArray[np.float64]:
    """Draw a pixel x, y of an object that ``draw_object`` found."""
    thin, step = _thin(ids)
    places = np.flatnonzero(thin == main)
    y, x = divmod(int(rng.choice(places)), thin.shape[1])
    return np.array([x, y], np.float64) * step


def find_spot(mask: NDArray[np.bool_], step: int = 1) -> Spot | None:
    """Find an object in a mask of which every ``step``-th pixel is given; None where it is not."""
    y, x = np.nonzero(mask)
    if not len(x):
        return None
    return Spot(step * np.array([x.mean(), y.mean()]), step * math.sqrt(len(x)))


def find_object(ids: Picture, main: int) -> Spot | None:
    """Find an object in ids, roughly; None where it is not."""
    thin, step = _thin(ids)
    return find_spot(thin == main, step)


def draw_placement(rng: np.random.Generator, scene: Picture, ids: Picture, main: int) -> Placement:
    """Draw where an object is pasted: half of the places near the first object, half anywhere.

    Args:
        rng: all draws come from it.
        scene: (S, S) uint8 ids of the picture it is pasted into.
        ids: (H, W) uint8 ids of its own picture.
        main: its id there.
    """
    size = len(scene)
    middle = Spot(np.full(2, size / 2), 0.2 * size)
    first = find_spot(scene == 1) or middle
    own = find_object(ids, main) or Spot(np.array(ids.shape[::-1]) / 2, 0.2 * min(ids.shape))
    # Neither a speck nor larger than half of the crop's side.
    extent = min(max(first.extent * rng.uniform(0.5, 1.5), 0.12 * size), 0.5 * size)
    crop_xy = rng.uniform(0.1, 0.9, 2) * size
    if rng.random() < 0.5:
        angle, away = rng.uniform(0, 2 * math.pi), rng.uniform(0.4, 1.2) * first.extent
        crop_xy = first.xy + away * np.array([math.cos(angle), math.sin(angle)])
    return Placement(own.xy, crop_xy, own.extent / extent, size, bool(rng.random() < 0.5))


def draw_moves(
    rng: np.random.Generator, placement: Placement, motion: MotionRange, frames: int
) -> list[Deformation]:
    """Draw a walk of what is placed."""
    walk = draw_walk(rng, motion, frames, placement.size)
    return [placement.move(step, draw_bend(rng, motion, placement.size)) for step in walk]


def draw_zoom(
    rng: np.random.Generator,
    ids: Sequence[Picture],
    main: int,
    size: int,
    motion: MotionRange,
    ratio: float,
) -> list[Deformation]:
    """Draw crops that grow or shrink from frame to frame, about the object, within the frames.

    A crop shows the point about which it turns where the whole frame has it, so that it lies within
    the frame at any size.

    Args:
        rng: all draws come from it.
        ids: (H, W) uint8 ids of each frame.
        main: the object's id, in the first frame at least.
        size: side of the crops in pixels.
        motion: further steps between frames; its own change of size and shift are left out.
        ratio: of the largest to the smallest crop, at most.
    """
    frame_wh = np.array(ids[0].shape[::-1], np.float64)
    change = math.log(ratio) * math.sqrt(rng.random())
    smallest = frame_wh.min() * math.exp(-change - rng.uniform(0, math.log(ratio) - change) / 2)
    way = np.sort(rng.random(len(ids)))
    way = (way - way[0]) / max(way[-1] - way[0], 1e-6)
    if rng.random() < 0.5:
        way = 1 - way
    sides = smallest * np.exp(change * way)
    steady = MotionRange(motion.angle, 0, motion.shear, 0, motion.bend, motion.bend_share)
    walk = draw_walk(rng, steady, len(ids), size)
    flip = bool(rng.random() < 0.5)
    anchor, moves = draw_pixel(rng, ids[0], main), []
    for own, side, step in zip(ids, sides, walk, strict=True):
        spot = find_object(own, main)
        anchor = anchor if spot is None or own is ids[0] else spot.xy
        share = anchor / frame_wh
        share = np.array([1 - share[0], share[1]]) if flip else share
        placement = Placement(anchor, share * (size - 1), side / size, size, flip)
        moves.append(placement.move(step, draw_bend(rng, steady, size)))
    return moves


def draw_absence(rng: np.random.Generator, frames: int) -> range:
    """Draw the frames in which an object is away: not the first, at least one where there are two.

    In about half of the clips it does not come back.
    """
    if frames < 2:
        return range(0)
    start = int(rng.integers(1, frames))
    return range(start, int(rng.integers(start + 1, frames + 1)))


def _thin(ids: Picture) -> tuple[Picture, int]:
    """Take every n-th pixel, enough to find objects."""
    step = max(1, min(ids.shape) // 120)
    return ids[::step, ::step], step
