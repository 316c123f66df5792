"""BADJA: joints of animals on DAVIS sequences, followed from the first frame that shows them.

A joint is correct within 0.2 of the square root of the animal's area in that frame (BADJA). Joints
that the first frame does not show cannot be followed and do not count; joints that the tracker lost
count as wrong (our choice).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vcedge.evaluation.davis_folders import find_frames, find_mask_folders
from vcedge.evaluation.flow_chain import chain_points
from vcedge.evaluation.pck import PckPool, PckScore, normalised_distances
from vcedge.evaluation.tracking import PointTracker, follow_points
from vcedge_runtime.errors import EvaluationError, MaskError
from vcedge_runtime.telling import tell_cause
from vcedge_runtime.video.palette import read_label_png
from vcedge_runtime.video.pictures import list_masks
from vcedge_runtime.video.sources import open_source

THRESHOLDS = (0.1, 0.2)

Follow: TypeAlias = Callable[
    [Iterable[NDArray[np.uint8]], Mapping[str, tuple[float, float]]], NDArray[np.float64]
]
"""Follows points of the first frame: (T, N, 2) float64 x, y in their order, NaN for lost ones."""


@dataclass(frozen=True, eq=False)
class AnnotatedJoints:
    """The joints of one sequence.

    Attributes:
        name: the sequence.
        joints: name of each joint.
        frames: which frames are annotated, rising.
        xy: (F, J, 2) float64 x, y in the frame's pixels.
        visible: (F, J) bool.
    """

    name: str
    joints: tuple[str, ...]
    frames: tuple[int, ...]
    xy: NDArray[np.float64]
    visible: NDArray[np.bool_]

    @property
    def followed(self) -> NDArray[np.intp]:
        """Joints that the first annotated frame shows, by position."""
        return np.flatnonzero(self.visible[0])


@dataclass(frozen=True, eq=False)
class BadjaScore:
    """How well the joints of one sequence were followed.

    Attributes:
        name: the sequence.
        later: PCK without the first annotated frame.
        every: PCK with it, where the given joints are right.
        median_error: median distance of the later frames, in square roots of the animal's area.
    """

    name: str
    later: PckScore
    every: PckScore
    median_error: float


def follow_with_tracker(tracker: PointTracker) -> Follow:
    """Follow points with a tracker."""
    return lambda frames, points: follow_points(tracker, frames, points)


def follow_with_flow(preset: str = "medium") -> Follow:
    """Follow points by chaining optical flow: the baseline."""

    def follow(
        frames: Iterable[NDArray[np.uint8]], points: Mapping[str, tuple[float, float]]
    ) -> NDArray[np.float64]:
        first = np.array(list(points.values()), np.float64)
        return np.stack(list(chain_points(frames, first, preset)))

    return follow


def read_annotations(path: Path) -> dict[str, AnnotatedJoints]:
    """Read the joints of every sequence.

    Args:
        path: JSON with ``joint_names`` and, under ``sequences``, for each a list of ``frame``,
            ``xy`` and ``visible``.

    Raises:
        EvaluationError: the file cannot be read, or is not of this form.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        names = tuple(map(str, data["joint_names"]))
        return {name: _parse(name, names, rows) for name, rows in data["sequences"].items()}
    except (
        *(OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError),
        RecursionError,
    ) as exc:
        raise EvaluationError(
            f"received {path}, which cannot be read as joints ({tell_cause(exc)}); expected"
            " JSON with joint_names and sequences of frame, xy and visible; check the path"
        ) from exc


def evaluate_sequence(root: Path, truth: AnnotatedJoints, follow: Follow) -> BadjaScore:
    """Follow the joints of a sequence and score them in the annotated frames.

    Args:
        root: a DAVIS folder with the sequence's frames and masks.
        truth: its joints.
        follow: a tracker's or the baseline's.

    Raises:
        EvaluationError: a frame or a mask is missing, or no joint can be followed.
    """
    chosen = truth.followed
    if chosen.size == 0:
        raise EvaluationError(
            f"received joints of {truth.name} of which its first annotated frame shows none;"
            " expected at least one; leave the sequence out"
        )
    names = [truth.joints[index] for index in chosen]
    points = {n: (float(x), float(y)) for n, (x, y) in zip(names, truth.xy[0, chosen], strict=True)}
    first, last = truth.frames[0], truth.frames[-1]
    with open_source(find_frames(root, truth.name)) as video:
        images = (frame.image for frame in islice(video, first, last + 1))
        followed = follow(images, points)
    if len(followed) != last + 1 - first:
        raise EvaluationError(
            f"received {first + len(followed)} frames of {truth.name}; expected {last + 1}, up to"
            " the last annotated one; complete the frames"
        )
    predicted = followed[np.array(truth.frames) - first]
    return _score(truth, names, predicted, _area_roots(root, truth))


def average(scores: Sequence[BadjaScore], threshold: float = 0.2) -> tuple[float, float]:
    """Average the sequences' pooled PCK: without the first frame, and with it."""
    place = THRESHOLDS.index(threshold)
    rows = np.array([(s.later.pooled[place], s.every.pooled[place]) for s in scores])
    later, every = rows.mean(axis=0).tolist()
    return later, every


def _score(
    truth: AnnotatedJoints,
    names: Sequence[str],
    predicted: NDArray[np.float64],
    unit: NDArray[np.float64],
) -> BadjaScore:
    chosen = truth.followed
    visible = truth.visible[:, chosen]
    distances = normalised_distances(predicted, truth.xy[:, chosen], unit)
    later, every = PckPool(names, THRESHOLDS), PckPool(names, THRESHOLDS)
    later.add(distances[1:], visible[1:])
    every.add(distances, visible)
    counted = distances[1:][visible[1:]]
    median = float(np.median(counted)) if counted.size else float("nan")
    return BadjaScore(truth.name, later.score(), every.score(), median)


def _area_roots(root: Path, truth: AnnotatedJoints) -> NDArray[np.float64]:
    """Return the square root of the animal's area in each annotated frame."""
    folders = find_mask_folders(root)
    if truth.name not in folders:
        raise EvaluationError(
            f"received {root}, which has no masks of {truth.name}; expected"
            f" Annotations/480p/{truth.name}/00000.png and so on"
        )
    masks = list_masks(folders[truth.name])
    if len(masks) <= truth.frames[-1]:
        raise EvaluationError(
            f"received {len(masks)} masks of {truth.name}; expected one a frame, up to frame"
            f" {truth.frames[-1]}"
        )
    try:
        areas = [np.count_nonzero(read_label_png(masks[frame])) for frame in truth.frames]
    except MaskError as exc:
        raise EvaluationError(str(exc)) from exc
    return np.sqrt(np.array(areas, np.float64))


def _parse(
    name: str, joints: tuple[str, ...], rows: Sequence[Mapping[str, object]]
) -> AnnotatedJoints:
    ordered = sorted(rows, key=lambda row: int(str(row["frame"])))
    frames = tuple(int(str(row["frame"])) for row in ordered)
    xy = np.array([row["xy"] for row in ordered], np.float64)
    visible = np.array([row["visible"] for row in ordered]).astype(bool)
    if xy.shape != (len(frames), len(joints), 2) or visible.shape != xy.shape[:2]:
        raise ValueError(f"{name} has positions of {xy.shape} and visibility of {visible.shape}")
    return AnnotatedJoints(name, joints, frames, xy, visible)
