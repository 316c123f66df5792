"""Clips with object masks, which train SRNet: from stills, from videos, and from both."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vcedge.training.camera import Camera
from vcedge.training.deformation import Deformation, Placement, change_colour, draw_colour
from vcedge.training.object_clip_settings import ObjectClipSettings, VideoClipSettings
from vcedge.training.object_sources import AnyStill, MaskedVideo, Picture
from vcedge.training.pasting import Pasting, Scene, Shot
from vcedge.training.placing import draw_moves, draw_object, draw_pixel, draw_zoom
from vcedge_runtime.errors import TrainingError
from vcedge_runtime.frames.colour import LAB, InputColour
from vcedge_runtime.video.masks import VOID


class ObjectClip(NamedTuple):
    """One clip, or a batch of B clips with a leading axis.

    Attributes:
        images: (T, 3, S, S) float32 in the network's input colour.
        ids: (T, S, S) uint8, 0 background, 1..K the objects; one may be missing from any frame; 255
            where nothing is known.
        objects: () int64, K.
    """

    images: Tensor
    ids: Tensor
    objects: Tensor


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
    shot: Shot
    main: int
    crops: list[Deformation]
    ids: list[Picture]
    shown: float


class ClipPlan(NamedTuple):
    """What the clips of a run are like, each number by the clip's index.

    Attributes:
        size_at: side S of the crop.
        objects_at: K.
        frames_at: T.
        colour: what the network takes.
    """

    size_at: Callable[[int], int]
    objects_at: Callable[[int], int]
    frames_at: Callable[[int], int]
    colour: InputColour = LAB


class ObjectClips(Dataset[ObjectClip]):
    """Clips as a function of (seed, index), so that a run resumes exactly where it stopped.

    A subclass says where frames come from.

    Args:
        length: clips.
        plan: what each is like.
        settings: how clips are drawn.
        seed: whole number.
    """

    def __init__(
        self, length: int, plan: ClipPlan, settings: ObjectClipSettings, seed: int
    ) -> None:
        self._length = length
        self._plan = plan
        self._settings = settings
        self._seed = seed

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> ObjectClip:
        rng, settings = np.random.default_rng((self._seed, index)), self._settings
        wanted, size = self._plan.objects_at(index), self._plan.size_at(index)
        view = self._draw_view(rng, index, size)
        scene, found = _cut_scene(view, wanted, settings.smallest)
        leaves = rng.random() < settings.absent
        if leaves:
            # Only what is pasted can be away from a frame; the scene's own objects distract.
            found = 0
            for ids in scene.ids:
                ids[ids < VOID] = 0
        composed = leaves or rng.random() < settings.composite
        labels = list(range(found + 1, wanted + 1)) if composed else []
        if rng.random() < settings.distractor:
            labels.append(0)
        pasting = Pasting(rng, settings, scene)
        for label in labels:
            shot, main = view.shot, view.main
            copied = settings.copied if label == 0 else settings.twins
            if rng.random() >= copied or (leaves and label == 1):
                shot, main = self._draw_other(rng, index, view.source)
            if main:
                pasting.paste(shot, main, label, leaves=leaves and label > 0)
        if rng.random() < settings.covered:
            pasting.cover(*self._draw_other(rng, index, view.source))
        return self._finish(rng, scene, wanted)

    @abstractmethod
    def _count_sources(self) -> int: ...

    @abstractmethod
    def _draw_shot(self, rng: np.random.Generator, index: int, source: int) -> Shot:
        """Draw frames of a source."""

    def _draw_source(self, rng: np.random.Generator) -> int:
        return int(rng.integers(self._count_sources()))

    def _draw_view(self, rng: np.random.Generator, index: int, size: int) -> _View:
        """Draw a source, and frames and crops of it that show one of its objects."""
        source = self._draw_source(rng)
        best = self._try_view(rng, index, size, source)
        for _ in range(self._settings.attempts - 1):
            if best.shown >= 1:
                break
            view = self._try_view(rng, index, size, source)
            best = view if view.shown > best.shown else best
        return best

    def _try_view(self, rng: np.random.Generator, index: int, size: int, source: int) -> _View:
        shot = self._draw_shot(rng, index, source)
        main = draw_object(rng, shot.ids[0])
        crops = self._draw_crops(rng, shot, main, size)
        cut = [crop.cut_ids(ids) for crop, ids in zip(crops, shot.ids, strict=True)]
        shares = [float((ids == main).mean()) for ids in cut]
        shown = min(1.0, shares[0] / self._settings.smallest)
        if max(shares[1:], default=1.0) == 0:
            shown /= 2
        return _View(source, shot, main, crops, cut, shown if main else 0.0)

    def _draw_crops(
        self, rng: np.random.Generator, shot: Shot, main: int, size: int
    ) -> list[Deformation]:
        """Draw crops that lie within the first frame if they can, around a pixel of the object."""
        settings = self._settings
        if main and rng.random() < settings.zoomed:
            return draw_zoom(rng, shot.ids, main, size, settings.motion, settings.ratio)
        frame_wh = np.array(shot.ids[0].shape[::-1], np.float64)
        side = frame_wh.min() * math.exp(rng.uniform(*np.log(settings.side)))
        middle = draw_pixel(rng, shot.ids[0], main) + rng.uniform(-0.4, 0.4, 2) * side
        play = np.maximum(frame_wh - side, 0) / 2
        centre = np.clip(middle, frame_wh / 2 - play, frame_wh / 2 + play)
        crop_xy = np.full(2, (size - 1) / 2)
        placement = Placement(centre, crop_xy, side / size, size, bool(rng.random() < 0.5))
        return draw_moves(rng, placement, settings.motion, len(shot.ids))

    def _draw_other(self, rng: np.random.Generator, index: int, source: int) -> tuple[Shot, int]:
        """Draw an object of another source; 0 where there is none."""
        count = self._count_sources()
        other = (source + int(rng.integers(1, max(count, 2)))) % count
        shot = self._draw_shot(rng, index, other)
        return shot, draw_object(rng, shot.ids[0]) if other != source else 0

    def _finish(self, rng: np.random.Generator, scene: Scene, wanted: int) -> ObjectClip:
        colour = draw_colour(rng, self._settings.colour)
        camera = Camera(rng, self._settings.camera)
        found = []
        for image in scene.images:
            own = draw_colour(rng, self._settings.frame_colour)
            seen = camera.take(change_colour(image, own @ colour))
            found.append(self._plan.colour.convert(seen).transpose(2, 0, 1))
        images, ids = torch.from_numpy(np.stack(found)), torch.from_numpy(np.stack(scene.ids))
        return ObjectClip(images, ids, torch.tensor(wanted))


class StillClips(ObjectClips):
    """Each clip one still, moved and bent (STCN's stage 0).

    Args:
        stills: pictures with objects.
        length: clips.
        plan: what each is like.
        settings: how clips are drawn.
        seed: whole number.
    """

    def __init__(
        self,
        stills: Sequence[AnyStill],
        length: int,
        plan: ClipPlan,
        settings: ObjectClipSettings,
        seed: int,
    ) -> None:
        super().__init__(length, plan, settings, seed)
        self._stills = stills
        self._kin: dict[str, list[int]] = {}
        for number, still in enumerate(stills):
            self._kin.setdefault(still.kind, []).append(number)

    def _count_sources(self) -> int:
        return len(self._stills)

    def _draw_shot(self, rng: np.random.Generator, index: int, source: int) -> Shot:
        still, frames = self._stills[source], self._plan.frames_at(index)
        return Shot([still.image] * frames, [still.ids] * frames)

    def _draw_other(self, rng: np.random.Generator, index: int, source: int) -> tuple[Shot, int]:
        """See ``ObjectClips``; a share of them is of the same kind."""
        kin = self._kin[self._stills[source].kind]
        if len(kin) < 2 or rng.random() >= self._settings.kin:
            return super()._draw_other(rng, index, source)
        other = int(rng.choice([number for number in kin if number != source]))
        shot = self._draw_shot(rng, index, other)
        return shot, draw_object(rng, shot.ids[0])


class VideoClips(ObjectClips):
    """Each clip some frames of a video, forward or backward (STCN's main training).

    Videos of one source share their weight: each is drawn as often as one over the square root of
    their number says (our choice).

    Args:
        videos: videos with masks.
        length: clips.
        plan: what each is like.
        gap_at: largest step between neighbouring frames by the clip's index.
        settings: how clips are drawn.
        seed: whole number.
    """

    def __init__(
        self,
        videos: Sequence[MaskedVideo],
        length: int,
        plan: ClipPlan,
        gap_at: Callable[[int], int],
        settings: VideoClipSettings,
        seed: int,
    ) -> None:
        super().__init__(length, plan, settings, seed)
        self._videos = videos
        self._gap_at = gap_at
        self._near, self._near_share = settings.near, settings.near_share
        counts = Counter(video.source for video in videos)
        weights = np.array([counts[video.source] ** -0.5 for video in videos])
        self._weights = weights / weights.sum()

    def _draw_source(self, rng: np.random.Generator) -> int:
        return int(rng.choice(len(self._videos), p=self._weights))

    def _count_sources(self) -> int:
        return len(self._videos)

    def _draw_shot(self, rng: np.random.Generator, index: int, source: int) -> Shot:
        video = self._videos[source]
        picked = self._pick_frames(rng, index, len(video.frames), video.every).tolist()
        return Shot([video.frames[at] for at in picked], [video.masks[at] for at in picked])

    def _pick_frames(
        self, rng: np.random.Generator, index: int, available: int, every: int = 1
    ) -> NDArray[np.int64]:
        # Gaps are of the footage: where every fifth frame is there, a fifth of them (STCN).
        gap, near_most = (max(1, g // every) for g in (self._gap_at(index), self._near))
        steps = rng.integers(1, gap + 1, self._plan.frames_at(index) - 1)
        near = rng.integers(1, min(near_most, gap) + 1, len(steps))
        # Of three frames, the last two.
        chosen = (rng.random(len(steps)) < self._near_share) & (np.arange(len(steps)) > 0)
        steps = np.where(chosen, near, steps)
        offsets = np.concatenate([[0], np.cumsum(steps)])
        if offsets[-1] >= available:
            offsets = np.round(offsets * (available - 1) / offsets[-1]).astype(np.int64)
        start = rng.integers(0, available - offsets[-1])
        # Reversed after the steps are drawn, so that the first pair stays the one that may be far.
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


def _cut_scene(view: _View, wanted: int, smallest: float) -> tuple[Scene, int]:
    """Cut the frames, the main object as 1 and ``wanted`` - 1 others, if the first shows them.

    Returns:
        The scene and how many objects it has.
    """
    counts = np.bincount(view.ids[0].ravel(), minlength=256)
    counts[[0, VOID, view.main]] = 0
    largest = np.argsort(-counts, kind="stable")[: wanted - 1]
    others = largest[counts[largest] >= smallest * view.ids[0].size]
    first, asked = view.ids[0], (view.main, *others.tolist())
    found = [label for label in asked if label > 0 and (first == label).any()]
    numbers = np.zeros(256, np.uint8)
    numbers[VOID] = VOID
    numbers[found] = np.arange(1, len(found) + 1)
    images = [crop.cut(frame) for crop, frame in zip(view.crops, view.shot.images, strict=True)]
    return Scene(images, [numbers[ids] for ids in view.ids]), len(found)
