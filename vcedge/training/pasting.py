"""Objects that are pasted into a clip: composites, distractors, covers, and what leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vcedge.training.deformation import (
    Deformation,
    Placement,
    Shape,
    change_colour,
    cut_shape,
    draw_colour,
    hide_behind,
    paste_object,
)
from vcedge.training.object_clip_settings import ObjectClipSettings
from vcedge.training.placing import (
    Picture,
    draw_absence,
    draw_moves,
    draw_placement,
    find_spot,
)
from vcedge_runtime.video.masks import VOID

Moves = Sequence[Deformation | None]
"""How an object lies in each frame of a clip; None where it is away."""


class Shot(NamedTuple):
    """Frames of one source in the order of the clip: (H, W, 3) BGR and (H, W) ids, each uint8."""

    images: Sequence[Picture]
    ids: Sequence[Picture]


class Scene(NamedTuple):
    """The clip in the making: (S, S, 3) BGR and (S, S) ids of each frame, changed in place."""

    images: list[Picture]
    ids: list[Picture]


class Pasting:
    """Pastes objects of other shots into a scene, one after the other.

    Args:
        rng: all draws come from it.
        settings: how clips are drawn.
        scene: changed in place.
    """

    def __init__(
        self, rng: np.random.Generator, settings: ObjectClipSettings, scene: Scene
    ) -> None:
        self._rng = rng
        self._settings = settings
        self._scene = scene

    def paste(self, shot: Shot, main: int, label: int, *, leaves: bool = False) -> None:
        """Paste an object into the scene, where a place for it is found.

        Args:
            shot: the object's own frames.
            main: its id there.
            label: its id in the scene; 0 for one that is not to be followed.
            leaves: whether it is away from some frames and comes back elsewhere, if it does.
        """
        rng, settings, scene = self._rng, self._settings, self._scene
        behind = bool(rng.random() < settings.behind)
        for _ in range(settings.attempts):
            moves = self._draw_moves(shot, main)
            if self._fits(cut_shape(shot.ids[0] == main, moves[0]), scene.ids[0], behind):
                break
        else:
            return
        lying: list[Deformation | None] = [*moves]
        if leaves:
            away = draw_absence(rng, len(moves))
            again = self._draw_moves(shot, main)
            lying[away.start :] = again[away.start :]
            lying[away.start : away.stop] = [None] * len(away)
        self._put(shot, main, label, lying, behind=behind)

    def cover(self, shot: Shot, main: int) -> None:
        """Paste something without an id over the first object, in some frames after the first.

        Args:
            shot: what it is cut out of.
            main: its id there; nothing is pasted where that is 0.
        """
        rng, scene = self._rng, self._scene
        own = find_spot(shot.ids[0] == main) if main else None
        if own is None:
            return
        lying: list[Deformation | None] = [None] * len(scene.ids)
        size = len(scene.ids[0])
        for at in draw_absence(rng, len(scene.ids)):
            spot = find_spot(scene.ids[at] == 1)
            if spot is not None:
                extent = min(spot.extent * rng.uniform(0.8, 2), 0.8 * size)
                place = spot.xy + rng.uniform(-0.3, 0.3, 2) * spot.extent
                placement = Placement(own.xy, place, own.extent / extent, size)
                lying[at] = draw_moves(rng, placement, self._settings.pasted_motion, 1)[0]
        self._put(shot, main, 0, lying, behind=False)

    def _draw_moves(self, shot: Shot, main: int) -> list[Deformation]:
        placement = draw_placement(self._rng, self._scene.ids[0], shot.ids[0], main)
        return draw_moves(self._rng, placement, self._settings.pasted_motion, len(shot.ids))

    def _put(self, shot: Shot, main: int, label: int, lying: Moves, *, behind: bool) -> None:
        """Paste an object where it lies in each frame."""
        scene, colour = self._scene, draw_colour(self._rng, self._settings.colour)
        for at, move in enumerate(lying):
            if move is None:
                continue
            shape = cut_shape(shot.ids[at] == main, move)
            if behind:
                shape = hide_behind(shape, scene.ids[at] * (scene.ids[at] < VOID))
            if shape.alpha.any():
                patch = change_colour(move.cut(shot.images[at], box=shape.box), colour)
                paste_object(scene.images[at], scene.ids[at], patch, shape, label)

    def _fits(self, shape: Shape, ids: Picture, behind: bool) -> bool:
        """Tell whether a pasted object is seen in the first frame, and those there still are."""
        least = self._settings.smallest * ids.size
        solid, under = shape.alpha >= 0.5, ids[shape.box]
        if behind:
            return bool((solid & ((under == 0) | (under == VOID))).sum() >= least)
        for label in np.unique(under[solid & (under > 0) & (under < VOID)]):
            whole = (ids == label).sum()
            left = whole - (under[solid] == label).sum()
            if left < max(0.4 * whole, least):
                return False
        return bool(solid.sum() >= least)
