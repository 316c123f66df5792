"""XMem's memory: some frames whole, and of those before them the cells that were used most."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.memory.frames import LabelRead
from vcedge_runtime.settings import Bounds, check_settings

Rows = NDArray[np.float32]
BORN = np.float32(1e-7)
"""How long a cell is said to have been there before its first frame: nothing is divided by 0."""


@dataclass(frozen=True)
class LongTermPolicy:
    """Working memory of a few frames, and long-term memory of cells of those before them (XMem).

    Every so many frames one is remembered. Once there are ``least`` and ``batch``, those between
    the first and the latest leave, and are consolidated: of their cells those that were read most
    become prototypes, whose values are means of all cells that are like them. With a model that
    does not tell what it reads they just leave.

    Attributes:
        every: distance between remembered frames, counted from frame 0, 1 to 1,000.
        least: frames that are left, the first among them, 2 to 64.
        batch: frames that leave together, 1 to 64.
        prototypes: cells that are made of them, 1 to 4,096.
        cells: most in long-term memory, 1 to 100,000; those that were read least for their age make
            room.
    """

    every: Annotated[int, Bounds(1, 1000)] = 5
    least: Annotated[int, Bounds(2, 64)] = 5
    batch: Annotated[int, Bounds(1, 64)] = 5
    prototypes: Annotated[int, Bounds(1, 4096)] = 128
    cells: Annotated[int, Bounds(1, 100_000)] = 10_000

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def most(self) -> int:
        """Frames at which some leave."""
        return self.least + self.batch

    @property
    def references(self) -> int:
        """Most frames that are read at once.

        One that should have left may have stayed for what was drawn in it, until another is drawn.
        """
        return self.most + 1

    @property
    def slots(self) -> int:
        """Frames that memory must hold: those read, the one before, and the current one."""
        return self.references + 2

    @property
    def reads_keys(self) -> bool:
        """Frames are chosen by their numbers alone."""
        return False

    def count_slots(self, cells: int) -> int:
        """Slots that long-term memory takes, for so many cells of a frame."""
        return -(-self.cells // cells)

    def count_bytes(self, key_dim: int) -> int:
        """Nothing is kept of frames besides their keys and labels, but for what reads count."""
        return 0

    def begin(self) -> LongTermMemory:
        """Make the memory of one video."""
        return LongTermMemory(self)


class LongTermMemory:
    """The working memory of one video, as numbers of frames; see ``FrameMemory``.

    Args:
        policy: which frames are remembered, and when they leave.

    Attributes:
        leaving: frames that left with the last one that was remembered, whose slots are not taken
            before the next frame.
    """

    def __init__(self, policy: LongTermPolicy) -> None:
        self.policy = policy
        self.leaving: list[int] = []
        self._working: list[int] = []
        self._next = 0
        self._annotated = 0

    def select(self, frame: int, key: NDArray[np.float32], read: LabelRead) -> list[int]:
        """Frames to read for ``frame``, in order of time; neither key nor labels matter."""
        return sorted({*self._working, self._annotated})

    def wants(self, frame: int) -> bool:
        """Whether the current frame is remembered: every fifth is."""
        return frame % self.policy.every == 0

    def store(self, frame: int, key: NDArray[np.float32], labels: NDArray[np.float32]) -> None:
        """Note that a frame is done; where working memory is full, some leave."""
        if frame < self._next:
            return
        self._next, self.leaving = frame + 1, []
        if self.wants(frame):
            self._working.append(frame)
        if len(self._working) >= self.policy.most:
            passed = self._working[1 : 1 - self.policy.least]
            self.leaving = [past for past in passed if past != self._annotated]
            self._working = [past for past in self._working if past not in self.leaving]

    def keeps(self, stored: int) -> bool:
        """Whether a stored frame may still be read at the next frame or later."""
        return stored in (*self._working, self._annotated, self._next - 1)

    def annotate(self, frame: int) -> None:
        """Pin a frame, whose mask the user gave, in place of the former such."""
        self._annotated = frame


class Unpacked(NamedTuple):
    """What weighs the likeness of cells, see ``XMemQuery``.

    Attributes:
        key: (n, Ck).
        shrinkage: (n, 1).
        selection: (n, Ck).
    """

    key: Rows
    shrinkage: Rows
    selection: Rows


def packed_length(key_dim: int) -> int:
    """Channels of a key that is stored with its shrinkage and its selection, in this order."""
    return 2 * key_dim + 1


def unpack(rows: Rows) -> Unpacked:
    """Take (n, 2 Ck + 1) packed keys apart; views."""
    dim = rows.shape[1] // 2
    return Unpacked(rows[:, :dim], rows[:, dim : dim + 1], rows[:, dim + 1 :])


def choose_prototypes(usage: Rows, count: int) -> NDArray[np.int64]:
    """The cells that were used most for their age, the most used first; of equals the earliest."""
    return np.argsort(-usage, kind="stable")[:count]


def consolidate(keys: Rows, values: Rows, chosen: NDArray[np.int64]) -> tuple[Rows, Rows]:
    """Make prototypes of cells: each takes the mean of all cells by their likeness to it (XMem).

    Args:
        keys: (n, 2 Ck + 1) packed keys.
        values: (n, V).
        chosen: (p,) cells that become prototypes.

    Returns:
        (p, 2 Ck + 1) packed keys, whose shrinkage is such a mean too, and (p, V) values.
    """
    held, asked = unpack(keys), unpack(keys[chosen])
    dim = held.key.shape[1]
    squared = asked.selection @ held.key.T**2
    both = 2 * (asked.key * asked.selection) @ held.key.T
    own = (asked.selection * asked.key**2).sum(axis=1, keepdims=True)
    logits = (both - squared - own) * held.shrinkage.T / np.float32(math.sqrt(dim))
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    made = keys[chosen]
    made[:, dim : dim + 1] = weights @ held.shrinkage
    return made, weights @ values
