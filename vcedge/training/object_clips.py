"""Clips with object masks, which train SRNet: from stills, from videos, and from both."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vcedge.training.deformation import (
    Deformation,
    MotionRange,
    Placement,
    Shape,
    change_colour,
    cut_shape,
    draw_bend,
    draw_colour,
    draw_walk,
    hide_behind,
    paste_object,
)
from vcedge.training.object_clip_settings import ObjectClipSettings, VideoClipSettings
from vcedge.training.object_sources import MaskedVideo, Picture, Still
from vcedge_runtime.errors import TrainingError
from vcedge_runtime.frames.colour import lab_from_bgr


class ObjectClip(NamedTuple):
    """One clip, or a batch of B clips with a leading axis.

    Attributes:
        lab: (T, 3, S, S) float32 normalised Lab.
        ids: (T, S, S) uint8, 0 background, 1..K the objects; one may be missing from any frame.
        objects: () int64, K.
    """

    lab: Tensor
    ids: Tensor
    objects: Tensor


class _Shot(NamedTuple):
    """Frames of one source in the order of the clip: (H, W, 3) BGR and (H, W) ids, each uint8."""

    images: Sequence[Picture]
    ids: Sequence[Picture]


class _View(NamedTuple):
    """Frames of a source and crops of them.

    Attributes:
        source: number of the source.
        shot: its frames.
        main: id of the object to follow, 0 where none was found.
        crops: one a frame.
        ids: (S, S) uint8 ids of the source as each crop shows them.
        shown: how well the crops show the object; 1 is enough.
    """

    source: int
    shot: _Shot
    main: int
    crops: list[Deformation]
    ids: list[Picture]
    shown: float


class _Scene(NamedTuple):
    """The clip in the making: (S, S, 3) BGR and (S, S) ids of each frame, changed in place."""

    images: list[Picture]
    ids: list[Picture]


@dataclass(frozen=True)
class _Spot:
    """Where an object is in a picture: middle x, y, and square root of its area, in pixels."""

    xy: NDArray[np.float64]
    extent: float


class ObjectClips(Dataset[ObjectClip]):
    """Clips as a function of (seed, index), so that a run resumes exactly where it stopped.

    A subclass says where frames come from.

    Args:
        length: clips.
        size_at: side S of a clip's crop by its index.
        objects_at: K by the clip's index.
        settings: how clips are drawn.
        seed: whole number.
    """

    def __init__(
        self,
        length: int,
        size_at: Callable[[int], int],
        objects_at: Callable[[int], int],
        settings: ObjectClipSettings,
        seed: int,
    ) -> None:
        self._length = length
        self._size_at = size_at
        self._objects_at = objects_at
        self._settings = settings
        self._seed = seed

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> ObjectClip:
        rng = np.random.default_rng((self._seed, index))
        wanted, size = self._objects_at(index), self._size_at(index)
        view = self._draw_view(rng, index, size)
        scene, found = _cut_scene(view, wanted, self._settings.smallest)
        labels = list(range(found + 1, wanted + 1))
        labels = labels if rng.random() < self._settings.composite else []
        if rng.random() < self._settings.distractor:
            labels.append(0)
        for label in labels:
            copied = label == 0 and rng.random() < self._settings.copied
            shot, main = view.shot, view.main
            if not copied:
                shot, main = self._draw_other(rng, index, view.source)
            if main:
                self._paste(rng, scene, shot, main, label)
        return self._finish(rng, scene, wanted)

    @abstractmethod
    def _count_sources(self) -> int: ...

    @abstractmethod
    def _draw_shot(self, rng: np.random.Generator, index: int, source: int) -> _Shot:
        """Draw frames of a source."""

    def _draw_view(self, rng: np.random.Generator, index: int, size: int) -> _View:
        """Draw a source, and frames and crops of it that show one of its objects."""
        source = int(rng.integers(self._count_sources()))
        best = self._try_view(rng, index, size, source)
        for _ in range(self._settings.attempts - 1):
            if best.shown >= 1:
                break
            view = self._try_view(rng, index, size, source)
            best = view if view.shown > best.shown else best
        return best

    def _try_view(self, rng: np.random.Generator, index: int, size: int, source: int) -> _View:
        shot = self._draw_shot(rng, index, source)
        main = _draw_object(rng, shot.ids[0])
        crops = self._draw_crops(rng, shot, main, size)
        cut = [crop.cut_ids(ids) for crop, ids in zip(crops, shot.ids, strict=True)]
        shares = [float((ids == main).mean()) for ids in cut]
        shown = min(1.0, shares[0] / self._settings.smallest)
        if max(shares[1:], default=1.0) == 0:
            shown /= 2
        return _View(source, shot, main, crops, cut, shown if main else 0.0)

    def _draw_crops(
        self, rng: np.random.Generator, shot: _Shot, main: int, size: int
    ) -> list[Deformation]:
        """Draw crops that lie within the first frame if they can, around a pixel of the object."""
        frame_wh = np.array(shot.ids[0].shape[::-1], np.float64)
        side = frame_wh.min() * math.exp(rng.uniform(*np.log(self._settings.side)))
        middle = _draw_pixel(rng, shot.ids[0], main) + rng.uniform(-0.4, 0.4, 2) * side
        play = np.maximum(frame_wh - side, 0) / 2
        centre = np.clip(middle, frame_wh / 2 - play, frame_wh / 2 + play)
        crop_xy = np.full(2, (size - 1) / 2)
        placement = Placement(centre, crop_xy, side / size, size, bool(rng.random() < 0.5))
        return _draw_moves(rng, placement, self._settings.motion, len(shot.ids))

    def _draw_other(self, rng: np.random.Generator, index: int, source: int) -> tuple[_Shot, int]:
        """Draw an object of another source; 0 where there is none."""
        count = self._count_sources()
        other = (source + int(rng.integers(1, max(count, 2)))) % count
        shot = self._draw_shot(rng, index, other)
        return shot, _draw_object(rng, shot.ids[0]) if other != source else 0

    def _paste(
        self, rng: np.random.Generator, scene: _Scene, shot: _Shot, main: int, label: int
    ) -> None:
        """Paste an object into the scene, where a place for it is found."""
        settings = self._settings
        behind = bool(rng.random() < settings.behind)
        colour = draw_colour(rng, settings.colour)
        for _ in range(settings.attempts):
            placement = _draw_placement(rng, scene.ids[0], shot.ids[0], main)
            moves = _draw_moves(rng, placement, settings.pasted_motion, len(shot.ids))
            if self._fits(cut_shape(shot.ids[0] == main, moves[0]), scene.ids[0], behind):
                break
        else:
            return
        for at, move in enumerate(moves):
            shape = cut_shape(shot.ids[at] == main, move)
            if behind:
                shape = hide_behind(shape, scene.ids[at])
            if shape.alpha.any():
                patch = change_colour(move.cut(shot.images[at], box=shape.box), colour)
                paste_object(scene.images[at], scene.ids[at], patch, shape, label)

    def _fits(self, shape: Shape, ids: Picture, behind: bool) -> bool:
        """Tell whether a pasted object is seen in the first frame, and those there still are."""
        least = self._settings.smallest * ids.size
        solid, under = shape.alpha >= 0.5, ids[shape.box]
        if behind:
            return bool((solid & (under == 0)).sum() >= least)
        for label in np.unique(under[solid & (under > 0)]):
            whole = (ids == label).sum()
            left = whole - (under[solid] == label).sum()
            if left < max(0.4 * whole, least):
                return False
        return bool(solid.sum() >= least)

    def _finish(self, rng: np.random.Generator, scene: _Scene, wanted: int) -> ObjectClip:
        colour = draw_colour(rng, self._settings.colour)
        labs = []
        for image in scene.images:
            own = draw_colour(rng, self._settings.frame_colour)
            labs.append(lab_from_bgr(change_colour(image, own @ colour)).transpose(2, 0, 1))
        lab, ids = torch.from_numpy(np.stack(labs)), torch.from_numpy(np.stack(scene.ids))
        return ObjectClip(lab, ids, torch.tensor(wanted))


class StillClips(ObjectClips):
    """Each clip one still, moved and bent (STCN's stage 0)."""

    def __init__(
        self,
        stills: Sequence[Still],
        length: int,
        size_at: Callable[[int], int],
        objects_at: Callable[[int], int],
        settings: ObjectClipSettings,
        seed: int,
    ) -> None:
        super().__init__(length, size_at, objects_at, settings, seed)
        self._stills = stills

    def _count_sources(self) -> int:
        return len(self._stills)

    def _draw_shot(self, rng: np.random.Generator, index: int, source: int) -> _Shot:
        still, frames = self._stills[source], self._settings.frames
        return _Shot([still.image] * frames, [still.ids] * frames)


class VideoClips(ObjectClips):
    """Each clip some frames of a video, forward or backward (STCN's main training).

    Args:
        videos: videos with masks.
        length: clips.
        size_at: side S of a clip's crop by its index.
        objects_at: K by the clip's index.
        gap_at: largest step between neighbouring frames by the clip's index.
        settings: how clips are drawn.
        seed: whole number.
    """

    def __init__(
        self,
        videos: Sequence[MaskedVideo],
        length: int,
        size_at: Callable[[int], int],
        objects_at: Callable[[int], int],
        gap_at: Callable[[int], int],
        settings: VideoClipSettings,
        seed: int,
    ) -> None:
        super().__init__(length, size_at, objects_at, settings, seed)
        self._videos = videos
        self._gap_at = gap_at
        self._near, self._near_share = settings.near, settings.near_share

    def _count_sources(self) -> int:
        return len(self._videos)

    def _draw_shot(self, rng: np.random.Generator, index: int, source: int) -> _Shot:
        video = self._videos[source]
        picked = self._pick_frames(rng, index, len(video.frames)).tolist()
        return _Shot([video.frames[at] for at in picked], [video.masks[at] for at in picked])

    def _pick_frames(
        self, rng: np.random.Generator, index: int, available: int
    ) -> NDArray[np.int64]:
        steps = rng.integers(1, self._gap_at(index) + 1, self._settings.frames - 1)
        if len(steps) and rng.random() < self._near_share:
            steps[-1] = rng.integers(1, min(self._near, self._gap_at(index)) + 1)
        offsets = np.concatenate([[0], np.cumsum(steps)])
        if offsets[-1] >= available:
            offsets = np.round(offsets * (available - 1) / offsets[-1]).astype(np.int64)
        start = rng.integers(0, available - offsets[-1])
        # Reversed after the steps are drawn, so that the near pair stays the last.
        backward = rng.random() < 0.5
        return np.asarray(start + (offsets[-1] - offsets if backward else offsets), np.int64)


class MixedClips(Dataset[ObjectClip]):
    """Clips of two datasets, the choice a function of (seed, index).

    Args:
        main: where most clips come from; its length is that of the mixture.
        other: where the others come from; as long.
        share: share of the clips that come from ``other``.
        seed: whole number.
    """

    def __init__(self, main: ObjectClips, other: ObjectClips, share: float, seed: int) -> None:
        if not 0 <= share <= 1 or len(main) != len(other):
            raise TrainingError(
                f"received a share of {share} and {len(main)} and {len(other)} clips; expected a "
                "share from 0 to 1 and as many of both"
            )
        self._main, self._other = main, other
        self._share, self._seed = share, seed

    def __len__(self) -> int:
        return len(self._main)

    def __getitem__(self, index: int) -> ObjectClip:
        # A third number, so that the choice does not go with the clip's own first draw.
        chosen = np.random.default_rng((self._seed, index, 1)).random() < self._share
        return (self._other if chosen else self._main)[index]


def _thin(ids: Picture) -> tuple[Picture, int]:
    """Take every n-th pixel, enough to find objects."""
    step = max(1, min(ids.shape) // 120)
    return ids[::step, ::step], step


def _draw_object(rng: np.random.Generator, ids: Picture) -> int:
    """Draw one of a picture's objects; 0 where there is none."""
    present = np.unique(_thin(ids)[0])
    present = present[present > 0]
    return int(rng.choice(present)) if len(present) else 0


def _draw_pixel(rng: np.random.Generator, ids: Picture, main: int) -> NDArray[np.float64]:
    thin, step = _thin(ids)
    places = np.flatnonzero(thin == main)
    y, x = divmod(int(rng.choice(places)), thin.shape[1])
    return np.array([x, y], np.float64) * step


def _find_spot(mask: NDArray[np.bool_], step: int = 1) -> _Spot:
    y, x = np.nonzero(mask)
    if not len(x):
        middle = np.array(mask.shape[::-1]) / 2
        return _Spot(middle * step, 0.2 * min(mask.shape) * step)
    return _Spot(step * np.array([x.mean(), y.mean()]), step * math.sqrt(len(x)))


def _draw_placement(rng: np.random.Generator, scene: Picture, ids: Picture, main: int) -> Placement:
    """Draw where an object is pasted: half of the places near the first object, half anywhere."""
    size = len(scene)
    first = _find_spot(scene == 1)
    thin, step = _thin(ids)
    own = _find_spot(thin == main, step)
    # Neither a speck nor larger than half of the crop's side.
    extent = min(max(first.extent * rng.uniform(0.5, 1.5), 0.12 * size), 0.5 * size)
    crop_xy = rng.uniform(0.1, 0.9, 2) * size
    if rng.random() < 0.5:
        angle, away = rng.uniform(0, 2 * math.pi), rng.uniform(0.4, 1.2) * first.extent
        crop_xy = first.xy + away * np.array([math.cos(angle), math.sin(angle)])
    return Placement(own.xy, crop_xy, own.extent / extent, size, bool(rng.random() < 0.5))


def _draw_moves(
    rng: np.random.Generator, placement: Placement, motion: MotionRange, frames: int
) -> list[Deformation]:
    walk = draw_walk(rng, motion, frames, placement.size)
    return [placement.move(step, draw_bend(rng, motion, placement.size)) for step in walk]


def _cut_scene(view: _View, wanted: int, smallest: float) -> tuple[_Scene, int]:
    """Cut the frames, the main object as 1 and ``wanted`` - 1 others, if the first shows them.

    Returns:
        The scene and how many objects it has.
    """
    counts = np.bincount(view.ids[0].ravel(), minlength=256)
    counts[[0, view.main]] = 0
    largest = np.argsort(-counts, kind="stable")[: wanted - 1]
    others = largest[counts[largest] >= smallest * view.ids[0].size]
    first, asked = view.ids[0], (view.main, *others.tolist())
    found = [label for label in asked if label > 0 and (first == label).any()]
    numbers = np.zeros(256, np.uint8)
    numbers[found] = np.arange(1, len(found) + 1)
    images = [crop.cut(frame) for crop, frame in zip(view.crops, view.shot.images, strict=True)]
    return _Scene(images, [numbers[ids] for ids in view.ids]), len(found)
