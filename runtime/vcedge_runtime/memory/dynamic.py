"""Which frames are read: DMP's Reference Frame Memory Engine, a short and a long memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import BundleError, TrackerError
from vcedge_runtime.memory.frames import LabelRead
from vcedge_runtime.memory.frechet import FeatureFit, fit_features, frechet_distance
from vcedge_runtime.memory.positions import (
    Positions,
    measure_shift,
    position_from_key,
    positions_from_labels,
)
from vcedge_runtime.memory.pruning import RULES, choose_dropped
from vcedge_runtime.settings import Bounds, check_settings

WIDEN = 1.25
"""Factor by which an adaptive beta grows while the short memory holds one frame (our choice)."""
FARTHEST = 2**0.5
"""Largest distance of two positions."""

Labels = Callable[[], NDArray[np.float32]]
"""Soft labels, (h, w, L) float32, made when they are first wanted."""


@dataclass(frozen=True)
class DynamicPolicy:
    """Short and long memory (DMP, Reference Frame Memory Engine; capacities are our choice).

    Attributes:
        beta: a frame is in short memory while its objects stand nearer than this to their places
            now, as a share of the grid's sides, 1e-6 to 10.
        gamma: a frame enters long memory if, with it, long memory gives masks whose IoU with those
            of short memory is above this, 0 to 1.
        short: most frames of short memory, the last frame included, 1 to 32.
        long: most frames of long memory besides frame 0, 0 to 32.
        candidates: past frames that are held for short memory, and to be tried for long memory;
            more than ``short``, to 128.
        far: a frame is tried for long memory when it has left short memory, or is older than this,
            1 to 1,000.
        probe_every: a frame is tried at every so many frames, 1 to 1,000; a trial costs one read.
        prune_short: what a full short memory drops, a rule of ``pruning.RULES``.
        prune_long: what a full long memory drops, likewise; never frame 0.
        sigma: blur of the map whose peak is the position, as a share of the grid's longer side,
            1e-6 to 1.
        position: where objects are now: ``mask``: of their soft labels, read once more for it;
            ``last``: of their labels in the last frame, which costs nothing; ``feature``: of the
            key, as printed.
        long_probe: a trial reads ``union``: long memory and the frame; ``single``: the frame alone.
        fid_region: ``frame``: frames are compared as a whole; ``object``: by their objects' cells.
        adaptive: widen beta while short memory would hold the last frame alone.
        memories: ``both`` are read, or ``short`` or ``long`` alone (DMP, table 3a). Without long
            memory frame 0 is a frame like others. Long memory alone is read without the last frame;
            short memory then only judges what enters.

    A frame that shows no object is never tried for long memory, and while the current one shows
    none, short memory keeps the frames that last did (our choices: otherwise an occlusion empties
    both).
    """

    beta: Annotated[float, Bounds(1e-6, 10)] = 0.15
    gamma: Annotated[float, Bounds(0, 1)] = 0.85
    short: Annotated[int, Bounds(1, 32)] = 5
    long: Annotated[int, Bounds(0, 32)] = 3
    candidates: Annotated[int, Bounds(2, 128)] = 20
    far: Annotated[int, Bounds(1, 1000)] = 15
    probe_every: Annotated[int, Bounds(1, 1000)] = 1
    prune_short: Annotated[str, RULES] = "fid_query"
    prune_long: Annotated[str, RULES] = "fid_redundant"
    sigma: Annotated[float, Bounds(1e-6, 1)] = 0.02
    position: Annotated[str, ("mask", "last", "feature")] = "mask"
    long_probe: Annotated[str, ("union", "single")] = "union"
    fid_region: Annotated[str, ("frame", "object")] = "frame"
    adaptive: bool = False
    memories: Annotated[str, ("both", "short", "long")] = "both"

    def __post_init__(self) -> None:
        check_settings(self)
        if self.candidates <= self.short:
            raise BundleError(
                f"received candidates={self.candidates} for a short memory of {self.short}; "
                f"expected {self.short + 1} or more"
            )

    @property
    def references(self) -> int:
        """Most frames that are read at once."""
        if self.memories == "short":
            return self.short
        trial = self.long + 2 if self.long else 1
        return max(self.short + (self.long + 1 if self.memories == "both" else 0), trial)

    @property
    def slots(self) -> int:
        """Frames that memory must hold, the current one included; it never needs more."""
        return self.candidates + 1 + (0 if self.memories == "short" else self.long + 1)

    @property
    def compares(self) -> bool:
        """Whether frames are compared by Frechet distance."""
        long_rule = "fifo" if self.memories == "short" else self.prune_long
        return (self.prune_short, long_rule) != ("fifo", "fifo")

    @property
    def reads_keys(self) -> bool:
        """Fits and places are made of them."""
        return True

    def count_bytes(self, key_dim: int) -> int:
        """Most bytes of what is kept of frames besides keys and labels: the fits of their keys.

        Args:
            key_dim: C.
        """
        return 8 * self.slots * key_dim * (key_dim + 1) if self.compares else 0

    def begin(self) -> DynamicMemory:
        """Make the memory of one video."""
        return DynamicMemory(self)


@dataclass
class _Record:
    """What is known of a stored frame; one that was ``pruned`` stays out of short memory."""

    positions: Positions
    fit: FeatureFit | None
    was_short: bool = False
    pruned: bool = False
    tried: int = -1


_Selection = tuple[dict[int, _Record], list[int], list[int]]
"""All that a selection changes: what is known of frames, short memory and long memory."""


class DynamicMemory:
    """The frames of one video that are kept; their keys and labels stand in the bank.

    Args:
        policy: its settings.
    """

    def __init__(self, policy: DynamicPolicy) -> None:
        self.policy = policy
        self._records: dict[int, _Record] = {}
        self._short: list[int] = []
        self._long: list[int] = []
        self._annotated = 0
        self._fitted: tuple[int, FeatureFit] | None = None
        self._before: tuple[int, _Selection] | None = None

    @property
    def short(self) -> list[int]:
        """Frames of short memory, in order of time."""
        return list(self._short)

    @property
    def long(self) -> list[int]:
        """Frames of long memory, in order of time; the first one never leaves."""
        return list(self._long)

    def select(self, frame: int, key: NDArray[np.float32], read: LabelRead) -> list[int]:
        """Choose the frames to read for ``frame``, by at most two calls of ``read``.

        Args:
            frame: the current frame; the one before is stored.
            key: (h, w, C) float32, the current frame's.
            read: gives the current frame's soft labels, read from some stored frames.

        Returns:
            Frames in order of time, at most ``policy.references``.

        Raises:
            TrackerError: the frame before was not stored.
        """
        self._roll_back()
        self._require_stored(frame - 1)
        records = {stored: replace(record) for stored, record in self._records.items()}
        self._before = (frame, (records, self.short, self.long))
        former = sorted({*self._short, frame - 1})[-self.policy.short :]
        coarse = cache(lambda: read(former))
        self._fitted = None
        self._update_short(frame, key, coarse)
        candidate = self._choose_candidate(frame)
        if candidate is not None and self._agrees(frame, candidate, coarse, read):
            self._enter_long(candidate, self._fit(frame, key, coarse))
        short = self._short if self.policy.memories != "long" else []
        return sorted({*short, *self._long})

    def wants(self, frame: int) -> bool:
        """Whether the current frame may be read later: each may."""
        return True

    def store(self, frame: int, key: NDArray[np.float32], labels: NDArray[np.float32]) -> None:
        """Keep a frame that is done; once more if its labels were corrected.

        Args:
            frame: its number.
            key: (h, w, C) float32.
            labels: (h, w, L) float32 soft labels, rows sum to 1, channel 0 the background.
        """
        if self._before is not None and self._before[0] != frame:
            self._roll_back()
        self._before = None
        positions = self._find_positions(key, lambda: labels)
        fit = self._fit(frame, key, lambda: labels)
        known = self._records.setdefault(frame, _Record(positions, fit))
        known.positions, known.fit = positions, fit
        if not self._long and self.policy.memories != "short":
            self._long = [frame]
        waiting = self._waiting()
        if len(waiting) > self.policy.candidates:
            del self._records[min(set(waiting) - set(self._short))]

    def keeps(self, stored: int) -> bool:
        """Whether a stored frame may still be read; a selection counts once its frame is done."""
        records = self._records if self._before is None else self._before[1][0]
        return stored in records

    def annotate(self, frame: int) -> None:
        """Pin the last frame, in which the user gave a mask; the one before is pinned no longer.

        It stands in long memory, beside frame 0; where there is no place for it nothing is done.

        Raises:
            TrackerError: the frame is not the last that was stored.
        """
        self._roll_back()
        if frame != max(self._records, default=None):
            raise TrackerError(f"received frame {frame}; expected the last that was stored")
        if self.policy.memories != "short" and self.policy.long > 0:
            self._annotated = frame
            if frame not in self._long:
                self._enter_long(frame, self._records[frame].fit)

    def _roll_back(self) -> None:
        """Undo a selection for a frame that was never done: another may come in its place."""
        if self._before is not None:
            self._records, self._short, self._long = self._before[1]
        self._before = self._fitted = None

    def _require_stored(self, frame: int) -> None:
        if frame not in self._records:
            raise TrackerError(
                f"frame {frame} is not in memory, which holds {sorted(self._records)}; "
                "store every frame before the next is selected"
            )

    def _waiting(self) -> list[int]:
        """Frames that short memory may hold and long memory may try, in order of time."""
        return sorted(set(self._records) - set(self._long))

    def _update_short(self, frame: int, key: NDArray[np.float32], coarse: Labels) -> None:
        """Short memory of this frame: the last frame, and those whose objects stand near enough."""
        others = [f for f in self._waiting() if f < frame - 1 and not self._records[f].pruned]
        near: list[int] = []
        if others:
            now = self._records[frame - 1].positions
            if self.policy.position != "last":
                now = self._find_positions(key, coarse)
            if now.areas.any():
                near = self._choose_near(
                    {past: measure_shift(now, self._records[past].positions) for past in others}
                )
            else:  # What last showed an object waits for it (our choice).
                near = [past for past in self._short if past in others and self._shows(past)]
        short = sorted({*near, frame - 1})
        for past in short:
            self._records[past].was_short = True
        while len(short) > self.policy.short:
            dropped = self._choose_dropped(
                self.policy.prune_short, short, {frame - 1}, self._fit(frame, key, coarse)
            )
            self._records[dropped].pruned = True
            short.remove(dropped)
        self._short = short

    def _choose_near(self, shifts: dict[int, float]) -> list[int]:
        beta = self.policy.beta
        near = [past for past, shift in shifts.items() if shift < beta]
        while self.policy.adaptive and not near and beta < FARTHEST:
            beta *= WIDEN
            near = [past for past, shift in shifts.items() if shift < beta]
        return near

    def _choose_candidate(self, frame: int) -> int | None:
        """Frame to try for long memory: of those tried least lately, the oldest."""
        policy = self.policy
        if policy.memories == "short" or policy.long == 0 or frame % policy.probe_every:
            return None
        candidates = [
            past
            for past in self._waiting()
            if self._shows(past)
            and (
                (self._records[past].was_short and past not in self._short)
                or frame - past > policy.far
            )
        ]
        return min(candidates, key=lambda past: (self._records[past].tried, past), default=None)

    def _shows(self, stored: int) -> bool:
        """Whether any object is seen in a frame."""
        return bool(self._records[stored].positions.areas.any())

    def _agrees(self, frame: int, candidate: int, coarse: Labels, read: LabelRead) -> bool:
        """Whether long memory with the candidate sees what short memory sees (DMP, gamma)."""
        self._records[candidate].tried = frame
        winners = coarse().argmax(axis=-1)
        if not winners.any():
            return False
        union = self.policy.long_probe == "union"
        frames = sorted({*self._long, candidate}) if union else [candidate]
        return mean_iou(winners, read(frames).argmax(axis=-1)) > self.policy.gamma

    def _enter_long(self, entrant: int, current: FeatureFit | None) -> None:
        """Take a frame into long memory; if that is over-full one leaves all memory."""
        self._short = [past for past in self._short if past != entrant]
        self._long = sorted({*self._long, entrant})
        if len(self._long) > self.policy.long + 1:
            pinned = {self._long[0], self._annotated}
            dropped = self._choose_dropped(self.policy.prune_long, self._long, pinned, current)
            self._long.remove(dropped)
            self._short = [past for past in self._short if past != dropped]
            del self._records[dropped]

    def _choose_dropped(
        self, rule: str, frames: list[int], kept: set[int], current: FeatureFit | None
    ) -> int:
        def compare(one: FeatureFit | None, other: FeatureFit | None) -> float:
            return 0.0 if one is None or other is None else frechet_distance(one, other)

        fits = {past: self._records[past].fit for past in frames}
        return choose_dropped(
            rule,
            frames,
            kept,
            lambda past: compare(fits[past], current),
            lambda one, other: compare(fits[one], fits[other]),
        )

    def _find_positions(self, key: NDArray[np.float32], labels: Labels) -> Positions:
        if self.policy.position == "feature":
            return position_from_key(key, self.policy.sigma)
        return positions_from_labels(labels(), self.policy.sigma)

    def _fit(
        self,
        frame: int,
        key: NDArray[np.float32],
        labels: Labels,
    ) -> FeatureFit | None:
        """Fit a frame's key; that of a whole frame is made once."""
        if not self.policy.compares:
            return None
        if self.policy.fid_region == "object":
            return fit_features(key, labels()[..., 0] < 0.5)
        if self._fitted is None or self._fitted[0] != frame:
            self._fitted = (frame, fit_features(key))
        return self._fitted[1]


def mean_iou(one: NDArray[np.intp], other: NDArray[np.intp]) -> float:
    """Mean IoU of the objects that are in either of two maps; 1 if there is none.

    Args:
        one: (h, w) ints, the winning label channel of each cell, 0 the background.
        other: likewise.
    """
    channels = int(max(one.max(), other.max())) + 1
    common = np.bincount(one[one == other], minlength=channels)[1:]
    first, second = (np.bincount(each.ravel(), minlength=channels)[1:] for each in (one, other))
    either = first + second - common
    seen = either > 0
    return float((common[seen] / either[seen]).mean()) if seen.any() else 1.0
