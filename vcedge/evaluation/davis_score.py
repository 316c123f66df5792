"""What a DAVIS evaluation found: per object, per sequence and overall, as rows or a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.files import write_whole

CSV_HEADER = (
    *("Scope", "Sequence", "Object", "Objects", "Frames"),
    *("J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay"),
)
_STATISTICS = ("mean", "recall", "decay")
ROW_HEADINGS = ("sequence", "frames", "J&F", *(f"{m} {s}" for m in "JF" for s in _STATISTICS))
"""Of what ``DavisScore.rows`` gives."""


@dataclass(frozen=True)
class Statistics:
    """One measure over the frames of an object, or the mean of that over objects.

    Attributes:
        mean: mean over the frames, 0-1.
        recall: share of the frames above 0.5, 0-1.
        decay: mean of the first quarter of the frames minus that of the last, -1 to 1.
    """

    mean: float
    recall: float
    decay: float

    @classmethod
    def over_frames(cls, values: NDArray[np.float64]) -> Statistics:
        """Sum up one measure over the scored frames of one object.

        The official code keeps the quarters' edges in uint8, which is exact up to 256 frames and
        wraps around beyond; here longer sequences have true quarters.

        Args:
            values: (T,) float64, 0-1; T at least 1.
        """
        edges = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1
        first, last = values[edges[0] : edges[1] + 1], values[edges[3] : edges[4] + 1]
        return cls(
            mean=float(values.mean()),
            recall=float((values > 0.5).mean()),
            decay=float(first.mean() - last.mean()),
        )

    @classmethod
    def over_objects(cls, statistics: Iterable[Statistics]) -> Statistics:
        """Average objects, each counting once however many frames it has."""
        rows = np.array([(s.mean, s.recall, s.decay) for s in statistics])
        mean, recall, decay = rows.mean(axis=0).tolist()
        return cls(mean, recall, decay)


@dataclass(frozen=True)
class ObjectScore:
    """How well one object of one sequence was followed.

    Attributes:
        object_id: its id in the ground truth; 1 where a sequence is scored as one object.
        region: J, the overlap of the masks.
        boundary: F, the agreement of their outlines.
    """

    object_id: int
    region: Statistics
    boundary: Statistics

    @property
    def j_and_f(self) -> float:
        """Mean of J and F over the frames."""
        return (self.region.mean + self.boundary.mean) / 2


@dataclass(frozen=True)
class SequenceScore:
    """How well the objects of one sequence were followed.

    Attributes:
        name: the sequence.
        frames: how many frames were scored; the first and the last are not.
        objects: one score per object, by rising id; at least one.
        unshown: ids among them that the first ground truth does not show; the official code counts
            them all the same, as 1 where nobody shows them.
    """

    name: str
    frames: int
    objects: tuple[ObjectScore, ...]
    unshown: tuple[int, ...] = ()

    @property
    def region(self) -> Statistics:
        """J, averaged over the sequence's objects."""
        return Statistics.over_objects(o.region for o in self.objects)

    @property
    def boundary(self) -> Statistics:
        """F, averaged over the sequence's objects."""
        return Statistics.over_objects(o.boundary for o in self.objects)

    @property
    def j_and_f(self) -> float:
        """Mean of J and F over the sequence's objects."""
        return (self.region.mean + self.boundary.mean) / 2


@dataclass(frozen=True)
class DavisScore:
    """How well the objects of a data set were followed; every object weighs the same.

    Attributes:
        sequences: one score per sequence, in the order they were scored; at least one.
    """

    sequences: tuple[SequenceScore, ...]

    @property
    def objects(self) -> tuple[ObjectScore, ...]:
        """The objects of all sequences."""
        return tuple(o for sequence in self.sequences for o in sequence.objects)

    @property
    def frames(self) -> int:
        """How many frames were scored."""
        return sum(sequence.frames for sequence in self.sequences)

    @property
    def region(self) -> Statistics:
        """J, averaged over all objects."""
        return Statistics.over_objects(o.region for o in self.objects)

    @property
    def boundary(self) -> Statistics:
        """F, averaged over all objects."""
        return Statistics.over_objects(o.boundary for o in self.objects)

    @property
    def j_and_f(self) -> float:
        """The figure that DAVIS ranks by: the mean of J and F over all objects."""
        return (self.region.mean + self.boundary.mean) / 2

    @property
    def j_and_f_shown(self) -> float | None:
        """The same over the objects that first ground truths show; None where those are all."""
        if not any(sequence.unshown for sequence in self.sequences):
            return None
        shown = [
            each.j_and_f
            for sequence in self.sequences
            for each in sequence.objects
            if each.object_id not in sequence.unshown
        ]
        return float(np.mean(shown))

    def write_csv(self, path: str | Path) -> None:
        """Write one row overall, then one per sequence and one per object, under ``CSV_HEADER``.

        The first column says which it is: ``global``, ``sequence`` or ``object``. The file appears
        whole or not at all, and replaces an older one.

        Raises:
            OutputError: the file cannot be written.
        """
        text = StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([CSV_HEADER, *self._csv_rows()])
        write_whole(Path(path), text.getvalue().encode())

    def rows(self, objects: bool = False) -> Iterator[Sequence[str]]:
        """Write the scores out, a row per sequence and one overall, as ``ROW_HEADINGS`` names them.

        Args:
            objects: give each object of a sequence with several a row of its own.
        """
        for sequence in self.sequences:
            yield (sequence.name, str(sequence.frames), *_cells(sequence, 3))
            for each in sequence.objects if objects and len(sequence.objects) > 1 else ():
                yield (f"{sequence.name}/{each.object_id}", "", *_cells(each, 3))
        count = len(self.objects)
        name = f"{count} objects" if count > 1 else "1 object"
        yield (name, str(self.frames), *_cells(self, 3))

    def _csv_rows(self) -> Iterator[Sequence[str]]:
        yield ("global", "", "", *_count_cells(self), *_cells(self, 6))
        for sequence in self.sequences:
            yield ("sequence", sequence.name, "", *_count_cells(sequence), *_cells(sequence, 6))
        for sequence in self.sequences:
            for each in sequence.objects:
                place = ("object", sequence.name, str(each.object_id), "1", str(sequence.frames))
                yield (*place, *_cells(each, 6))


def _count_cells(score: SequenceScore | DavisScore) -> tuple[str, str]:
    return str(len(score.objects)), str(score.frames)


def _cells(score: ObjectScore | SequenceScore | DavisScore, digits: int) -> list[str]:
    """Write out J&F, then mean, recall and decay of J and of F."""
    region, boundary = score.region, score.boundary
    figures = (
        *(score.j_and_f, region.mean, region.recall, region.decay),
        *(boundary.mean, boundary.recall, boundary.decay),
    )
    return [f"{figure:.{digits}f}" for figure in figures]
