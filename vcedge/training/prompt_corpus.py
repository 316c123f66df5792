"""What the network of first masks trains on: windows of pictures, and what a user says of them."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vcedge.models.prompts import PROMPT_PROFILES
from vcedge.training.camera import Camera, CameraRange
from vcedge.training.deformation import (
    ColourRange,
    Deformation,
    MotionRange,
    Placement,
    change_colour,
    draw_colour,
    draw_walk,
)
from vcedge.training.object_clip_settings import ObjectClipSettings
from vcedge.training.object_sources import AnyStill, MaskedVideo
from vcedge.training.pasting import Pasting, Scene, Shot
from vcedge.training.placing import draw_object
from vcedge.training.settings import RunSettings
from vcedge_runtime.errors import TrainingError
from vcedge_runtime.frames.colour import InputColour
from vcedge_runtime.model.prompt_composition import PromptComposition
from vcedge_runtime.prompts.drawing import box_of, find_middle, jitter_box
from vcedge_runtime.prompts.planes import Click, draw_planes
from vcedge_runtime.video.masks import VOID

Picture = NDArray[np.uint8]

DISC = PromptComposition.disc
"""Radius of a click's disc in a window, in pixels."""
HELD_OUT = 14
"""Of 256 stills, about, those that no training of first masks sees."""
LEAST = 40
"""Pixels of an object that a window shows at least."""
SLOPPY, REACH = 0.75, 0.12
"""Share of the boxes that are off, and by how much of its side an edge of them is at most."""
SMALLEST_SIDE = 32.0
"""Of a window, in the source's pixels."""
_MOTION = MotionRange(angle=12, scale=0, shear=6, shift=0, bend=0, bend_share=0)
_COLOUR = ColourRange(0.2, 0.1, 0.2, 0.05, grey=0.08)
_PASTED = ObjectClipSettings()
_SALIENT = ("animal instances", "binary", "instances", "parts")
"""Kinds of stills whose objects are all labelled, as their names begin."""
_RARE = {"regions": 0.3, "components": 0.3, "binary cigarette": 0.3}
"""How often stills of a kind are drawn, against the others (our choice): they are no objects that
somebody would follow, or hardly any."""


@dataclass(frozen=True)
class PromptSettings:
    """Free choices of the training of first masks.

    Attributes:
        boxes: share of the samples of which a box is said.
        clicks: share of which clicks are said.
        silent: share of which nothing is said: what stands out is wanted. Of the rest both.
        videos: share of the samples that come from videos.
        corrections: shares of the steps with no, one, two further clicks in the largest error.
        dice: weight of the Dice loss.
        trunk_rate: learning rate of the trunk, as a share of the run's.
        camera: share of the samples that each fault of a camera befalls.
        pasted: share of the samples into whose picture another still's object is pasted (Ghiasi et
            al. 2021), which may be the one that is asked for.
    """

    boxes: float = 0.4
    clicks: float = 0.35
    silent: float = 0.12
    videos: float = 0.25
    corrections: tuple[float, ...] = (0.5, 0.3, 0.2)
    dice: float = 1.0
    trunk_rate: float = 0.5
    camera: float = 0.1
    pasted: float = 0.0

    def __post_init__(self) -> None:
        shares = (self.boxes, self.clicks, self.silent, self.videos, self.camera, self.pasted)
        fits = all(0 <= share <= 1 for share in (*shares, self.trunk_rate, *self.corrections))
        if not fits or sum(shares[:3]) > 1 or not self.dice >= 0:
            raise TrainingError(
                "expected shares from 0 to 1, those of boxes, clicks and silence together up to 1, "
                f"and no negative weight; received {self}"
            )
        if not self.corrections or not math.isclose(sum(self.corrections), 1):
            raise TrainingError(
                f"received corrections {self.corrections}; expected shares that add up to 1"
            )


class PromptSample(NamedTuple):
    """One window, or a batch of B with a leading axis.

    Attributes:
        images: (1, 3, S, S) float32 in the network's input colour.
        truth: (S, S) uint8, 1 the object, 255 where nothing is known.
        planes: (P, S, S) float32 of ``draw_planes``.
    """

    images: Tensor
    truth: Tensor
    planes: Tensor


class _Source(NamedTuple):
    """A picture, its ids, and whether all that stands out in it has one."""

    image: Picture
    ids: Picture
    whole: bool


def is_held_out(name: str) -> bool:
    """Whether a still takes part in no training of first masks, by its file's name."""
    return hashlib.sha256(name.encode()).digest()[0] < HELD_OUT


class PromptCorpus:
    """Stills and videos as a run draws from them; stills that are held out are left out.

    Args:
        settings: of the method.
        stills: pictures with objects.
        videos: videos with masks.

    Raises:
        TrainingError: there is nothing to train on.
    """

    def __init__(
        self,
        settings: PromptSettings,
        stills: Sequence[AnyStill],
        videos: Sequence[MaskedVideo] = (),
    ) -> None:
        self.stills = [still for still in stills if not is_held_out(still.name)]
        self.videos = list(videos)
        self._settings = settings
        if not self.stills:
            raise TrainingError(
                f"received {len(stills)} stills, none of which is for training; pass --stills with "
                "more of them"
            )

    def draw(self, settings: RunSettings) -> Dataset[PromptSample]:
        """All samples of a run."""
        return PromptSamples(self, self._settings, settings)


class PromptSamples(Dataset[PromptSample]):
    """Samples as a function of (seed, index), so that a run resumes exactly where it stopped.

    Args:
        corpus: what is drawn from.
        settings: of the method.
        run: of the run.
    """

    def __init__(self, corpus: PromptCorpus, settings: PromptSettings, run: RunSettings) -> None:
        self._corpus, self._settings, self._run = corpus, settings, run
        self._colour = PROMPT_PROFILES[run.profile].colour
        weights = [weigh_still(still) for still in corpus.stills]
        self._of_stills = np.cumsum(weights) / sum(weights)
        counts = Counter(video.source for video in corpus.videos)
        shares = [counts[video.source] ** -0.5 for video in corpus.videos]
        self._of_videos = np.cumsum(shares) / sum(shares) if shares else np.zeros(0)

    def __len__(self) -> int:
        return self._run.steps * self._run.batch

    def __getitem__(self, index: int) -> PromptSample:
        rng = np.random.default_rng((self._run.seed, index))
        size = self._run.size_at(index // self._run.batch)
        while True:
            found = self._try_sample(rng, size)
            if found is not None:
                return found

    def _try_sample(self, rng: np.random.Generator, size: int) -> PromptSample | None:
        source = self._draw_source(rng)
        if self._settings.pasted and rng.random() < self._settings.pasted:
            source = self._paste(rng, source)
        main = draw_object(rng, source.ids)
        if not main:
            return None
        said, own = float(rng.random()), self._settings
        silent = said < own.silent and source.whole
        boxed = not silent and said < 1 - own.clicks
        clicked = not silent and said >= own.silent + own.boxes
        crop = _draw_window(rng, source.ids, main, size, _reach(boxed, silent))
        truth = _cut_truth(crop, source.ids, 0 if silent else main)
        if int((truth == 1).sum()) < LEAST:
            return None
        box = _draw_box(rng, truth) if boxed else None
        clicks = _draw_clicks(rng, truth) if clicked else []
        planes = draw_planes((size, size), box, clicks, DISC)
        image = self._see(rng, crop.cut(source.image))
        return PromptSample(
            torch.from_numpy(image)[None], torch.from_numpy(truth), torch.from_numpy(planes)
        )

    def _draw_source(self, rng: np.random.Generator) -> _Source:
        corpus = self._corpus
        if corpus.videos and rng.random() < self._settings.videos:
            video = corpus.videos[int(np.searchsorted(self._of_videos, rng.random()))]
            frame = int(rng.integers(len(video.frames)))
            return _Source(video.frames[frame], video.masks[frame], whole=False)
        still = self._draw_still(rng)
        return _Source(still.image, still.ids, still.kind.startswith(_SALIENT))

    def _draw_still(self, rng: np.random.Generator) -> AnyStill:
        return self._corpus.stills[int(np.searchsorted(self._of_stills, rng.random()))]

    def _paste(self, rng: np.random.Generator, source: _Source) -> _Source:
        """Paste an object of another still into a square of a picture, where it finds a place."""
        still = self._draw_still(rng)
        shot = Shot([still.image], [still.ids])
        main = draw_object(rng, shot.ids[0])
        height, width = source.ids.shape
        side = min(height, width)
        top, left = (int(rng.integers(length - side + 1)) for length in (height, width))
        square = slice(top, top + side), slice(left, left + side)
        image, ids = source.image[square].copy(), source.ids[square].copy()
        label = 1 + int(ids[ids < VOID].max(initial=0))
        if main and label < VOID:
            scene = Pasting(rng, _PASTED, Scene([image], [ids]))
            scene.paste(shot, main, label)
        return _Source(image, ids, source.whole)

    def _see(self, rng: np.random.Generator, picture: Picture) -> NDArray[np.float32]:
        camera = Camera(rng, CameraRange(share=self._settings.camera))
        seen = camera.take(change_colour(picture, draw_colour(rng, _COLOUR)))
        return _planes_of(self._colour, seen)


def weigh_still(still: AnyStill) -> float:
    """How often a still is drawn, against others: the more objects, the more often."""
    rare = next((share for kind, share in _RARE.items() if still.kind.startswith(kind)), 1.0)
    return rare * math.sqrt(int(still.ids.max()))


def _planes_of(colour: InputColour, picture: Picture) -> NDArray[np.float32]:
    return np.ascontiguousarray(colour.convert(picture).transpose(2, 0, 1))


def _reach(boxed: bool, silent: bool) -> tuple[float, float]:
    """Smallest and largest side of a window, by the object's longer one; see ``_draw_window``."""
    if silent:
        return 1e3, 1e3
    return (1.15, 2.2) if boxed else (1.2, 12.0)


def _draw_window(
    rng: np.random.Generator, ids: Picture, main: int, size: int, reach: tuple[float, float]
) -> Deformation:
    """Draw a window about an object, within the frame where it fits."""
    left, top, right, bottom = box_of((ids == main).astype(np.uint8))
    frame_wh = np.array(ids.shape[::-1], np.float64)
    extent = max(right - left, bottom - top)
    most = float(rng.uniform(frame_wh.min(), 1.1 * frame_wh.max()))
    low, high = (min(extent * share, most) for share in reach)
    low = max(low, SMALLEST_SIDE)
    side = low * (max(high, low) / low) ** float(rng.random())
    play = 0.5 * max(0.0, side - extent)
    middle = np.array([left + right, top + bottom]) / 2 + rng.uniform(-play, play, 2)
    room = np.maximum(frame_wh - side, 0) / 2
    centre = np.clip(middle, frame_wh / 2 - room, frame_wh / 2 + room) - 0.5
    crop_xy = np.full(2, (size - 1) / 2)
    placement = Placement(centre, crop_xy, side / size, size, bool(rng.random() < 0.5))
    return placement.move(draw_walk(rng, _MOTION, 2, size)[1])


def _cut_truth(crop: Deformation, ids: Picture, main: int) -> Picture:
    """Cut the mask of an object out, of all where ``main`` is 0; void beyond the frame."""
    inside = crop.cut(np.full(ids.shape, 255, np.uint8), cv2.BORDER_CONSTANT)
    shown = crop.cut_ids(ids)
    truth = (shown == main) if main else (shown > 0)
    found = truth.astype(np.uint8)
    found[(shown == VOID) | (inside < 128)] = VOID
    return found


def _draw_box(rng: np.random.Generator, truth: Picture) -> tuple[float, float, float, float]:
    corners = box_of((truth == 1).astype(np.uint8))
    if rng.random() < SLOPPY:
        corners = jitter_box(rng, corners, REACH, (len(truth), truth.shape[1]))
    return corners


def _draw_clicks(rng: np.random.Generator, truth: Picture) -> list[Click]:
    """Draw a first click in the object's middle region, and at times more, on it and beside it."""
    own = truth == 1
    found = [find_middle(own, rng)]
    if rng.random() < 0.25:
        places = np.flatnonzero(own)
        found += [_click_at(int(rng.choice(places)), own.shape[1], True)]
    if rng.random() < 0.25:
        reach = max(3, round(0.15 * math.sqrt(own.sum()))) | 1
        near = cv2.dilate(own.astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0
        far = truth == 0
        far &= ~near
        places = np.flatnonzero(far)
        if len(places):
            found += [_click_at(int(rng.choice(places)), own.shape[1], False)]
    return [click for click in found if click is not None]


def _click_at(place: int, width: int, positive: bool) -> Click:
    y, x = divmod(place, width)
    return Click(float(x), float(y), positive)
