"""Scoring one sequence by the rules of DAVIS: which frames count, and what the masks mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice, pairwise, zip_longest
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vcedge.evaluation.davis_metrics import score_masks
from vcedge.evaluation.davis_score import ObjectScore, SequenceScore, Statistics
from vcedge_runtime.errors import EvaluationError
from vcedge_runtime.video.masks import VOID

Labels = NDArray[np.uint8]
T = TypeVar("T")


@dataclass(frozen=True)
class Legend:
    """What the values in the masks of one sequence mean.

    Attributes:
        height: of every mask.
        width: of every mask.
        object_ids: the ids that are scored.
        unshown: those of them that the first ground truth does not show.
        binary: one object, which is everything that is not background.
        void_is_object: 255 in the ground truth is that object.
    """

    height: int
    width: int
    object_ids: tuple[int, ...]
    unshown: tuple[int, ...]
    binary: bool
    void_is_object: bool

    @classmethod
    def from_first_mask(cls, labels: Labels, binary: bool | None, name: str) -> Legend:
        """Read it from the first ground truth of a sequence.

        Ids count from 1 to the largest in it, as in the official code. So an id that it leaves
        out is an object too, and scores 1 in the frames where nobody shows it.

        Args:
            labels: (H, W) uint8 object ids.
            binary: score one object; None: if the mask holds nothing but 0 and 255.
            name: of the sequence, for errors.

        Raises:
            EvaluationError: the mask shows no object, or is not (H, W).
        """
        if labels.ndim != 2:
            raise EvaluationError(
                f"received a ground truth of {name} of shape {labels.shape}; expected (H, W)"
                " object ids; pass one value per pixel"
            )
        values = set(np.unique(labels).tolist()) - {0}
        all_void = values == {VOID}
        binary = all_void if binary is None else binary
        largest = max(values if binary else values - {VOID}, default=0)
        if largest == 0:
            raise EvaluationError(
                f"received a first ground truth of {name} without any object; expected ids above 0"
                " (255 is void unless it is scored as binary); check the ground truth's folder"
            )
        ids = (1,) if binary else tuple(range(1, largest + 1))
        height, width = labels.shape
        unshown = () if binary else tuple(i for i in ids if i not in values)
        return cls(height, width, ids, unshown, binary, all_void)

    def score_frame(self, truth: Labels, predicted: Labels, where: str) -> NDArray[np.float64]:
        """Measure every object in one frame.

        Args:
            truth: (H, W) uint8 object ids.
            predicted: (H, W) uint8 object ids.
            where: names the frame in errors.

        Returns:
            (objects, 2) float64, 0-1: J and F.

        Raises:
            EvaluationError: a mask has another size, or the prediction an id that nobody asked for.
        """
        self._check_size(truth, f"a ground truth of {where}")
        self._check_size(predicted, f"a prediction of {where}")
        if self.binary:
            known = truth != 0 if self.void_is_object else (truth != 0) & (truth != VOID)
            return np.array([score_masks(known, predicted != 0)])
        self._check_ids(predicted, where)
        return np.array([score_masks(truth == i, predicted == i) for i in self.object_ids])

    def _check_size(self, labels: Labels, what: str) -> None:
        if labels.shape != (self.height, self.width):
            raise EvaluationError(
                f"received {what} of shape {labels.shape}; expected {self.height, self.width} as in"
                " the first ground truth; predict at the ground truth's size"
            )

    def _check_ids(self, predicted: Labels, where: str) -> None:
        largest = int(predicted.max(initial=0))
        if largest > self.object_ids[-1]:
            raise EvaluationError(
                f"received object id {largest} in a prediction of {where}; expected at most"
                f" {self.object_ids[-1]}, the largest id in the first ground truth; write the ids"
                " of the first ground truth, or score as binary where any value is the object"
            )


def score_object(object_id: int, frames: NDArray[np.float64]) -> ObjectScore:
    """Sum up one object.

    Args:
        object_id: its id in the ground truth.
        frames: (T, 2) float64, 0-1: J and F of the scored frames; T at least 1.
    """
    region, boundary = frames.T
    return ObjectScore(object_id, Statistics.over_frames(region), Statistics.over_frames(boundary))


def score_frames(name: str, legend: Legend, frames: Iterable[NDArray[np.float64]]) -> SequenceScore:
    """Sum up a sequence from what ``Legend.score_frame`` gave for each of its scored frames."""
    stacked = np.stack(list(frames), axis=1)
    scores = tuple(map(score_object, legend.object_ids, stacked))
    return SequenceScore(name, stacked.shape[1], scores, legend.unshown)


def score_sequence(
    truth: Iterable[Labels],
    predicted: Iterable[Labels],
    *,
    name: str = "the sequence",
    binary: bool | None = None,
) -> SequenceScore:
    """Score the masks of one sequence, frame by frame as they come.

    The first ground truth says which objects there are. As the official protocol has it, the first
    and the last frame are not scored, 255 in a ground truth with ids is background, an object that
    both sides leave out scores 1, and ids that appear only later in the ground truth do not count.

    Args:
        truth: (H, W) uint8 object ids per frame, 0 is background; at least three frames.
        predicted: (H, W) uint8 object ids per frame, as many frames.
        name: of the sequence, for the score and for errors.
        binary: score all objects as one; None: if the first ground truth holds only 0 and 255.

    Raises:
        EvaluationError: too few or unequal numbers of frames, no object, unequal sizes, or a
            predicted id above the largest one in the first ground truth.
    """
    pairs = _pair_frames(truth, predicted, name)
    first = next(pairs, None)
    if first is None:
        raise too_few_frames(name)
    legend = Legend.from_first_mask(first[0], binary, name)
    frames = [
        legend.score_frame(*pair, where=f"frame {index} of {name}")
        for index, pair in enumerate(drop_first_and_last(chain([first], pairs)), start=1)
    ]
    if not frames:
        raise too_few_frames(name)
    return score_frames(name, legend, frames)


def drop_first_and_last(items: Iterable[T]) -> Iterator[T]:
    """Leave out the frames that DAVIS does not score."""
    return (item for item, _ in islice(pairwise(items), 1, None))


def too_few_frames(name: str) -> EvaluationError:
    """Make the error for a sequence that has nothing between its first and last frame."""
    return EvaluationError(
        f"received fewer than 3 frames of ground truth of {name}; expected at least 3, because the"
        " first and the last are not scored; check the ground truth's folder"
    )


def _pair_frames(
    truth: Iterable[Labels], predicted: Iterable[Labels], name: str
) -> Iterator[tuple[Labels, Labels]]:
    for index, (known, guess) in enumerate(zip_longest(truth, predicted)):
        if known is None or guess is None:
            longer, shorter = ("predictions", "ground truths")[:: 1 if known is None else -1]
            raise EvaluationError(
                f"received more {longer} than {shorter} of {name}, which end after {index} frames;"
                " expected one prediction per ground truth; pass the same frames of both"
            )
        yield known, guess
