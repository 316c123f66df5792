"""Masks for videos that nobody labelled: what stands out, followed forward and back (our choice).

A frame is found in which a network of first masks is sure of some objects; they are followed from
there to the end and from the end back, likewise to the beginning. What comes back as it went is
kept, up to where it does not; single pixels that differ are void.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import TrainingError
from vcedge_runtime.video.masks import VOID

Picture = NDArray[np.uint8]
Labels = NDArray[np.uint8]


class Result(Protocol):
    """What a step gives."""

    @property
    def mask(self) -> Labels:
        """(H, W) uint8 object ids in the frame's pixels."""


class Follower(Protocol):
    """What follows masks, such as ``Tracker``."""

    def start(self, frame: Picture, mask: Labels) -> None:
        """Begin a video with the mask of its first frame."""

    def step(self, frame: Picture) -> Result:
        """Follow the objects into the next frame."""


class Finder(Protocol):
    """What finds objects of which nothing is said, such as ``PromptSegmenter``."""

    def find_salient(self, frame: Picture) -> NDArray[np.float32]:
        """(H, W) float32, 0 to 1: how much each pixel stands out."""

    def segment(
        self,
        frame: Picture,
        boxes: Mapping[int, tuple[float, float, float, float]],
        *,
        required: bool,
    ) -> Labels:
        """(H, W) uint8 ids of the objects in boxes of left, top, width and height."""


@dataclass(frozen=True)
class SelfLabelSettings:
    """What is believed (our choice).

    Attributes:
        sure: how much an object's pixels must stand out in the mean.
        agreed: least overlap (IoU) of the two ways, and of an object with what its box gives.
        shares: smallest and largest share of a frame that an object covers.
        most: objects of a video.
        looks: frames that are looked at for one to begin with.
        fewest: frames of a video that is kept.
    """

    sure: float = 0.8
    agreed: float = 0.8
    shares: tuple[float, float] = (0.005, 0.6)
    most: int = 3
    looks: int = 5
    fewest: int = 8

    def __post_init__(self) -> None:
        low, high = self.shares
        # Written so that a NaN is refused.
        if not (0 < self.sure <= 1 and 0 < self.agreed <= 1 and 0 <= low < high <= 1):
            raise TrainingError(f"expected shares above 0 up to 1, the smaller first; got {self}")
        if min(self.most, self.looks) < 1 or self.fewest < 2:
            raise TrainingError(f"expected an object, a look and two frames at least; got {self}")


@dataclass(frozen=True)
class SelfLabels:
    """What was found in a video.

    Attributes:
        first: index of the first frame that is kept.
        masks: (T, H, W) uint8 of the frames from there on: object ids, 0 the background, 255 where
            the two ways differ.
        agreed: mean overlap of the two ways over objects and frames.
    """

    first: int
    masks: Labels
    agreed: float

    @property
    def objects(self) -> int:
        """How many there are."""
        return len(np.setdiff1d(np.unique(self.masks), (0, VOID)))


class _Start(NamedTuple):
    frame: int
    ids: Labels
    sure: float


def label_video(
    frames: Sequence[Picture],
    tracker: Follower,
    finder: Finder,
    settings: SelfLabelSettings | None = None,
) -> SelfLabels | None:
    """Find the objects of a video, and their masks.

    Args:
        frames: (H, W, 3) uint8 BGR each, one at least.
        tracker: an open tracker; used four times.
        finder: finds the objects to begin with.
        settings: what is believed.

    Returns:
        What was found; None where nothing stands out, or too few frames agree.

    Raises:
        EngineError: a graph failed.
    """
    chosen = settings or SelfLabelSettings()
    start = _find_start(frames, finder, chosen)
    if start is None:
        return None
    # Where nothing is seen to the end, nobody can say that it is right: there they differ.
    there = np.repeat(start.ids[None], len(frames), 0)
    back = np.zeros_like(there)
    for way in (range(start.frame, len(frames)), range(start.frame, -1, -1)):
        went = _follow(tracker, [frames[at] for at in way], start.ids)
        seen = [step for step, labels in enumerate(went) if labels.any()]
        steps = way[: seen[-1] + 1]
        came = _follow(tracker, [frames[at] for at in reversed(steps)], went[seen[-1]])
        there[steps], back[steps] = went[: len(steps)], came[::-1]
    return _keep_agreed(there, back, start, chosen)


def find_objects(
    frame: Picture, finder: Finder, settings: SelfLabelSettings
) -> tuple[Labels, float]:
    """The objects of a frame that stand out, each a whole to who is told its box.

    Args:
        frame: (H, W, 3) uint8 BGR.
        finder: finds them.
        settings: what is believed.

    Returns:
        (H, W) uint8 ids from 1 on, the largest first, and how sure the finder is of the surest.
    """
    chances = finder.find_salient(frame)
    parts = (chances > 0.5).astype(np.uint8)
    count, marks, facts, _ = cv2.connectedComponentsWithStats(parts, connectivity=8)
    low, high = (share * parts.size for share in settings.shares)
    found: dict[int, tuple[float, NDArray[np.bool_]]] = {}
    boxes = {}
    for mark in sorted(range(1, count), key=lambda each: -int(facts[each, cv2.CC_STAT_AREA])):
        part = marks == mark
        sure = float(chances[part].mean())
        if low <= facts[mark, cv2.CC_STAT_AREA] <= high and sure >= settings.sure:
            object_id = len(found) + 1
            found[object_id] = (sure, part)
            left, top, width, height = map(float, facts[mark, :4])
            boxes[object_id] = (left, top, width, height)
        if len(found) == settings.most:
            break
    ids = np.zeros(parts.shape, np.uint8)
    if not found:
        return ids, 0.0
    told = finder.segment(frame, boxes, required=False)
    kept = [
        object_id
        for object_id, (_, part) in found.items()
        if _overlap(told == object_id, part) >= settings.agreed
    ]
    for number, object_id in enumerate(kept, 1):
        ids[told == object_id] = number
    return ids, max((found[object_id][0] for object_id in kept), default=0.0)


def _find_start(
    frames: Sequence[Picture], finder: Finder, settings: SelfLabelSettings
) -> _Start | None:
    looks = np.unique(np.linspace(0, len(frames) - 1, settings.looks).round().astype(int))
    starts = [_Start(at, *find_objects(frames[at], finder, settings)) for at in looks.tolist()]
    best = max(starts, key=lambda start: start.sure)
    return best if best.ids.any() else None


def _follow(tracker: Follower, frames: Sequence[Picture], ids: Labels) -> list[Labels]:
    tracker.start(frames[0], ids)
    return [ids, *(tracker.step(frame).mask for frame in frames[1:])]


def _keep_agreed(
    there: Labels, back: Labels, start: _Start, settings: SelfLabelSettings
) -> SelfLabels | None:
    ids = range(1, int(start.ids.max()) + 1)
    overlaps = np.array(
        [[_overlap(a == one, b == one) for a, b in zip(there, back, strict=True)] for one in ids]
    )
    runs = [_run_around(row >= settings.agreed, start.frame) for row in overlaps]
    longest = max(len(run) for run in runs)
    # An object that is lost early would take the frames of the others away.
    kept = [one for one, run in zip(ids, runs, strict=True) if 2 * len(run) >= longest > 0]
    if not kept:
        return None
    first = max(runs[one - 1].start for one in kept)
    stop = min(runs[one - 1].stop for one in kept)
    if stop - first < settings.fewest:
        return None
    went, came = there[first:stop], back[first:stop]
    went, came = (np.where(np.isin(way, kept), way, np.uint8(0)) for way in (went, came))
    masks = np.where(went == came, went, np.uint8(VOID))
    agreed = overlaps[[one - 1 for one in kept], first:stop].mean()
    return SelfLabels(first, masks, float(agreed))


def _run_around(fits: NDArray[np.bool_], at: int) -> range:
    """The frames about one without a gap; none where it does not fit itself."""
    if not fits[at]:
        return range(at, at)
    before, after = np.flatnonzero(~fits[:at]), np.flatnonzero(~fits[at:])
    first = int(before[-1]) + 1 if len(before) else 0
    return range(first, at + int(after[0]) if len(after) else len(fits))


def _overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """IoU; 1 where both are empty."""
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 1.0
