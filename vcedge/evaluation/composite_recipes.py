"""Which sequences make which composite, and how composites are drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vcedge_runtime.errors import EvaluationError

MAX_OBJECTS = 254
"""The id 255 is void in DAVIS."""


@dataclass(frozen=True)
class CompositeSettings:
    """How a composite is drawn; every number is our choice. Ranges are drawn from evenly.

    Attributes:
        length: frames of a clip; shorter sequences run forward and back.
        size: longer side of a pasted object, the median over its frames, in frame heights.
        enlargement: how much larger than in its own sequence a pasted object may be.
        drift: length of its way from the first frame to the last, in frame heights.
        sway: amplitude of the sine on that way, in frame heights.
        waves: periods of the sine.
        meeting: when it is at the middle of another object, as a share of the clip.
        border: share of the frame on each side that its middle keeps clear of.
        visible: share of the frame that each object shows at least in the first frame.
        uncovered: share of itself that each object shows at least in the first frame.
        attempts: draws of a path, and of all paths, in search of that.
    """

    length: int = 40
    size: tuple[float, float] = (0.3, 0.6)
    enlargement: float = 1.3
    drift: tuple[float, float] = (0.6, 1.3)
    sway: tuple[float, float] = (0.02, 0.08)
    waves: tuple[float, float] = (0.5, 1.5)
    meeting: tuple[float, float] = (0.3, 0.7)
    border: float = 0.1
    visible: float = 0.003
    uncovered: float = 0.8
    attempts: int = 200

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.length < 3 or self.attempts < 1:
            raise EvaluationError(
                f"received {self}; expected a length of at least 3, because the first and the last"
                " frame are not scored, and at least 1 attempt"
            )
        for low, high in (self.size, self.drift, self.sway, self.waves, self.meeting):
            if not 0 <= low <= high < math.inf:
                raise EvaluationError(f"received {self}; expected ranges that grow from 0 or more")
        if self.size[0] <= 0 or self.enlargement <= 0 or not 0 <= self.border < 0.5:
            raise EvaluationError(
                f"received {self}; expected sizes and an enlargement above 0, a border below 0.5"
            )
        shares = (*self.meeting, self.visible, self.uncovered)
        if not 0 <= min(shares) <= max(shares) <= 1:
            raise EvaluationError(f"received {self}; expected shares from 0 to 1")


@dataclass(frozen=True)
class CompositeRecipe:
    """Which sequences make a composite.

    Attributes:
        names: of the sequences, all different, by rising object id; the first is the scene.
        seed: of everything that is drawn for it.
    """

    names: tuple[str, ...]
    seed: int

    def __post_init__(self) -> None:
        """Check the names."""
        if not 2 <= len(set(self.names)) == len(self.names) <= MAX_OBJECTS:
            raise EvaluationError(
                f"received {list(self.names)} for a composite; expected 2 to {MAX_OBJECTS}"
                " different sequences, one an object"
            )


def composite_set(
    names: Sequence[str], objects: int, count: int, seed: int
) -> list[CompositeRecipe]:
    """Choose the sequences of some composites, each sequence about as often as any other.

    Args:
        names: of the sequences to choose from.
        objects: K, at least 2.
        count: composites, at least 1.
        seed: whole number from 0.

    Raises:
        EvaluationError: there are fewer different names than objects, or nothing is asked for.
    """
    names = list(dict.fromkeys(names))
    if not 2 <= objects <= min(len(names), MAX_OBJECTS) or count < 1 or seed < 0:
        raise EvaluationError(
            f"received {len(names)} sequences for {count} composites of {objects} objects with"
            f" seed {seed}; expected 2 objects or more, as many sequences, and 1 composite or more"
        )
    rng = np.random.default_rng((seed, objects))
    used = dict.fromkeys(names, 0)
    recipes = []
    for _ in range(count):
        rank = dict(zip(names, rng.permutation(len(names)).tolist(), strict=True))
        chosen = sorted(names, key=lambda name: (used[name], rank[name]))[:objects]
        for name in chosen:
            used[name] += 1
        # Those that were used least come first; the scene is to be any of them.
        shuffled = tuple(chosen[place] for place in rng.permutation(objects))
        recipes.append(CompositeRecipe(shuffled, int(rng.integers(2**31))))
    return recipes
