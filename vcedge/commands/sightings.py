"""What a run saw of each object or point, for the summary at its end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.frames.resizing import working_size
from vcedge_runtime.propagation.points import PointEstimate
from vcedge_runtime.video.sinks import NO_STATES, Labels, Scores, Sink, States
from vcedge_runtime.video.sources import Frame

KEPT_GAPS = 5
"""Gaps that are told of one object: a camera may run for weeks."""
TOLD_OBJECTS = 20
"""Objects that have a line of their own."""


@dataclass
class _Course:
    """Whether one object was seen, frame by frame.

    Attributes:
        gaps: first and last frame of each time that it was not seen, at most ``KEPT_GAPS``.
        losses: how many there were.
        lost_since: frame from which on it is not seen; None while it is.
        lowest: the lowest score while it was seen, and its frame; None while it was only given.
        found: frames in which it was not given, but found or not.
        total: of its scores in them.
        given: whether it was in the last frame.
    """

    frames: int = 0
    seen: int = 0
    found: int = 0
    given: bool = False
    total: float = 0.0
    losses: int = 0
    lost_since: int | None = None
    lowest: tuple[float, int] | None = None
    gaps: list[tuple[int, int]] = field(default_factory=list)

    def add(self, index: int, score: float, *, given: bool) -> None:
        """Note a frame; a score of 0 says that the object is not seen."""
        self.frames, self.given = self.frames + 1, given
        if not given:
            self.found, self.total = self.found + 1, self.total + score
        if score <= 0:
            if self.lost_since is None:
                self.lost_since = index
                self.losses += 1
            return
        self.seen += 1
        if self.lost_since is not None:
            if len(self.gaps) < KEPT_GAPS:
                self.gaps.append((self.lost_since, index - 1))
            self.lost_since = None
        if not given and (self.lowest is None or score < self.lowest[0]):
            self.lowest = (score, index)

    def describe(self) -> str:
        """Say when it was seen, and how sure the model was at worst."""
        gaps = [str(a) if a == b else f"{a}-{b}" for a, b in self.gaps]
        untold = self.losses - len(gaps) - (self.lost_since is not None)
        if untold:
            gaps.append(f"{untold} times more")
        told = f"seen in {'all ' if not self.losses else f'{self.seen} of '}{self.frames} frames"
        if gaps:
            told += f", not in {', '.join(gaps)}"
        if self.lost_since is not None:
            told += f", lost in {self.lost_since} and not found again"
        lowest = self.lowest
        return told + (f"; lowest score {lowest[0]:.2f}, in {lowest[1]}" if lowest else "")


class Sightings(Sink):
    """Notes in which frames each object is drawn.

    Args:
        kind: what is followed, ``object`` or ``point``.
        warn: told of what is lost right after a frame in which it was given.
        given: ids, or names, of what the user gives, by the index of the frame.
    """

    def __init__(
        self,
        kind: str,
        warn: Callable[[str], None],
        given: Mapping[int, Collection[int | str]],
    ) -> None:
        self._kind = kind
        self._warn = warn
        self._given = given
        self._last = -1
        self._courses: dict[int | str, _Course] = {}

    def write(
        self, frame: Frame, labels: Labels, scores: Scores, states: States = NO_STATES
    ) -> None:
        """Note the objects of a frame."""
        self.note(frame.index, scores)

    def hold(self, frame: Frame, labels: NDArray[np.uint8]) -> None:
        """Note nothing: nobody looked for the objects in this frame."""

    def close(self) -> None:
        """Do nothing."""

    def note(self, index: int, scores: Mapping[int, float] | Mapping[str, float]) -> None:
        """Note a frame: the score of each object, 0 for one that is not seen."""
        # What is given of a frame that cannot be decoded is taken for the next one's.
        passed = [names for at, names in self._given.items() if self._last < at <= index]
        self._last = index
        for name, score in scores.items():
            course = self._courses.setdefault(name, _Course())
            begun = course.given
            course.add(index, score, given=any(name in names for names in passed))
            if begun and course.lost_since == index:
                self._warn(
                    f"{self._kind} {name} is lost at once, in frame {index}: look whether what was "
                    "drawn fits the frame before, or choose a larger --size"
                )

    @property
    def mean_score(self) -> float | None:
        """Of all objects and frames but those that were given; 0 counts where it is not seen."""
        frames = sum(course.found for course in self._courses.values())
        return sum(c.total for c in self._courses.values()) / frames if frames else None

    def describe_lost(self) -> list[str]:
        """What is told of each object that was lost and not found again."""
        lost = {name: c for name, c in self._courses.items() if c.lost_since is not None}
        return [f"{self._kind} {name}: {course.describe()}" for name, course in lost.items()]

    def describe(self) -> list[str]:
        """A line for each object, those that were lost first; none where nothing was noted."""
        courses = sorted(self._courses.items(), key=lambda item: -item[1].losses)
        told = [
            f"  {self._kind} {name}: {course.describe()}" for name, course in courses[:TOLD_OBJECTS]
        ]
        if len(courses) > TOLD_OBJECTS:
            told.append(f"  and {len(courses) - TOLD_OBJECTS} more, lost no more often than these")
        # A score is high on a wrong object too: nothing here knows the truth.
        heading = "what the model drew (its own belief, as its scores are; frames count from 0):"
        return [heading, *told] if told else []


class PointSightings:
    """Notes in which frames each point is visible.

    Args:
        sightings: where.
    """

    def __init__(self, sightings: Sightings) -> None:
        self._sightings = sightings

    def write(self, frame: Frame, points: Mapping[str, PointEstimate]) -> None:
        """Note the points of a frame."""
        seen = {name: point.score if point.visible else 0.0 for name, point in points.items()}
        self._sightings.note(frame.index, seen)


def find_small_objects(
    labels: NDArray[np.uint8], size: int, stride: int
) -> tuple[dict[int, int], float]:
    """Objects that cover less than one key cell, which a model can hardly tell from their ground.

    Args:
        labels: (H, W) uint8 object ids of a frame, 0 the background.
        size: working size, the short side in pixels.
        stride: pixels per key cell.

    Returns:
        The pixels of each of them, by id, and of a cell, both in the frame.
    """
    height, width = working_size((labels.shape[0], labels.shape[1]), size, stride)
    cell = stride**2 * labels.size / (height * width)
    ids, areas = np.unique(labels[labels > 0], return_counts=True)
    pixels = dict(zip(ids.tolist(), areas.tolist(), strict=True))
    return {object_id: area for object_id, area in pixels.items() if area < cell}, cell
