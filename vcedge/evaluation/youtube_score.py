"""YTVOS-holdout: J and F of held-out YouTube-VOS training videos, by seen and unseen categories.

It has the form of the official figure G, but not its videos: it is never G on the validation set.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vcedge.evaluation.davis_metrics import score_masks
from vcedge.evaluation.youtube import ListedObject, ListedVideo, read_annotation
from vcedge_runtime.errors import EvaluationError


@dataclass(frozen=True)
class HoldoutObject:
    """How well one object was followed.

    Attributes:
        video: its video.
        object_id: its id.
        category: what it is.
        frames: how many frames were scored.
        region: J, averaged over them, 0 to 1.
        boundary: F, averaged over them, 0 to 1.
    """

    video: str
    object_id: int
    category: str
    frames: int
    region: float
    boundary: float


@dataclass(frozen=True)
class HoldoutGroup:
    """Mean over the objects of a group; every object weighs the same.

    Attributes:
        name: all, seen or unseen.
        objects: how many.
        region: J, 0 to 1.
        boundary: F, 0 to 1.
    """

    name: str
    objects: int
    region: float
    boundary: float

    @property
    def j_and_f(self) -> float:
        """Mean of J and F."""
        return (self.region + self.boundary) / 2


@dataclass(frozen=True)
class HoldoutScore:
    """The objects of held-out videos.

    Attributes:
        objects: at least one.
        unseen: categories that training did not show; None where nobody says.
    """

    objects: tuple[HoldoutObject, ...]
    unseen: frozenset[str] | None = None

    @property
    def groups(self) -> tuple[HoldoutGroup, ...]:
        """All objects, then the seen and the unseen ones where both are known."""
        if self.unseen is None:
            return (_average("all", self.objects),)
        sides = {name: [o for o in self.objects if self._side(o) == name] for name in _SIDES}
        return (
            _average("all", self.objects),
            *(_average(name, objects) for name, objects in sides.items() if objects),
        )

    @property
    def overall(self) -> float:
        """Mean of the groups' J and F: of seen and unseen where both occur, else of all."""
        groups = self.groups
        chosen = groups[1:] if len(groups) == 1 + len(_SIDES) else groups[:1]
        return sum(group.j_and_f for group in chosen) / len(chosen)

    def _side(self, each: HoldoutObject) -> str:
        return _SIDES[self.unseen is not None and each.category in self.unseen]


_SIDES = ("seen", "unseen")


def score_holdout(
    root: Path,
    videos: Sequence[ListedVideo],
    predicted: Path,
    unseen: Collection[str] | None = None,
) -> HoldoutScore:
    """Score masks in every listed frame after each object's first, where there is ground truth.

    Args:
        root: the data set's part, see ``youtube.read_meta``.
        videos: what to score.
        predicted: the folder with ``Annotations/VIDEO/FRAME.png``.
        unseen: categories that training did not show; None: do not tell them apart.

    Raises:
        EvaluationError: a prediction is missing or of another size, a category is unknown, or
            nothing can be scored, as with the official validation set.
    """
    objects = [each for video in videos for each in _score_video(root, video, predicted)]
    if not objects:
        raise EvaluationError(
            f"received {root}, which holds no mask after the objects' first frames; expected videos"
            " held out of train; the validation set is scored on the official server"
        )
    _check_categories(videos, unseen)
    return HoldoutScore(tuple(objects), None if unseen is None else frozenset(unseen))


def read_categories(path: Path) -> frozenset[str]:
    """Read a list of categories, one per line.

    Raises:
        EvaluationError: it cannot be read, or is empty.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise EvaluationError(
            f"received {path}, which cannot be read; expected a category of meta.json per line"
        ) from exc
    names = frozenset(line.strip() for line in lines) - {""}
    if not names:
        raise EvaluationError(f"received {path}, which is empty; expected a category per line")
    return names


def _check_categories(videos: Sequence[ListedVideo], unseen: Collection[str] | None) -> None:
    known = {each.category for video in videos for each in video.objects}
    if unseen is not None and not known & set(unseen):
        raise EvaluationError(
            f"received unseen categories of which no object is ({', '.join(sorted(unseen)[:3])});"
            f" expected some of: {', '.join(sorted(known))}; check the spelling"
        )


def _score_video(root: Path, video: ListedVideo, predicted: Path) -> list[HoldoutObject]:
    figures: dict[ListedObject, list[tuple[float, float]]] = {each: [] for each in video.objects}
    for name in sorted(video.frames):
        path = root / "Annotations" / video.name / f"{name}.png"
        scored = [each for each in video.objects if name in each.frames[1:]]
        if scored and path.is_file():
            truth = read_annotation(path)
            guess = read_annotation(predicted / "Annotations" / video.name / path.name)
            if guess.shape != truth.shape:
                raise EvaluationError(
                    f"received a prediction of frame {name} of {video.name} of {guess.shape};"
                    f" expected {truth.shape} like the ground truth"
                )
            for each in scored:
                figures[each].append(score_masks(truth == each.object_id, guess == each.object_id))
    return [_sum_up(video.name, each, rows) for each, rows in figures.items() if rows]


def _sum_up(video: str, each: ListedObject, rows: list[tuple[float, float]]) -> HoldoutObject:
    region, boundary = np.mean(rows, axis=0).tolist()
    return HoldoutObject(
        video, each.object_id, each.category, len(rows), float(region), float(boundary)
    )


def _average(name: str, objects: Sequence[HoldoutObject]) -> HoldoutGroup:
    region, boundary = np.mean([(o.region, o.boundary) for o in objects], axis=0).tolist()
    return HoldoutGroup(name, len(objects), float(region), float(boundary))
