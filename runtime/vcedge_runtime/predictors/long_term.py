"""Long-term memory in the slots behind those of frames: what was read is counted, and thinned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.buffers import to_host
from vcedge_runtime.memory.bank import MemoryBank
from vcedge_runtime.memory.long_term import (
    BORN,
    LongTermMemory,
    LongTermPolicy,
    Rows,
    choose_prototypes,
    consolidate,
)
from vcedge_runtime.memory.objects import ObjectBank


class LongTerm:
    """The cells of one video's long-term memory, and how much every cell was read.

    Args:
        policy: how it is thinned.
        bank: keys.
        values: of the objects, in the same slots.
        reserved: how many of the slots, the last ones, hold the cells.

    Attributes:
        size: cells in long-term memory.
        use: (S, h, w) how much was read of each cell of each slot, in cells of a frame.
        life: (S, h, w) for how many frames.
    """

    def __init__(
        self, policy: LongTermPolicy, bank: MemoryBank, values: ObjectBank, reserved: int
    ) -> None:
        self._policy = policy
        self._bank = bank
        self._values = values
        self.size = 0
        slots = len(bank.keys)
        self.use = np.zeros((slots, *bank.grid_hw), np.float32)
        self.life = np.full_like(self.use, BORN)
        self._reserved = range(slots - reserved, slots)
        self._pending: tuple[list[int], NDArray[np.float32]] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the counters."""
        return self.use.nbytes + self.life.nbytes

    @property
    def slots(self) -> list[int]:
        """Those that hold cells."""
        return list(self._reserved[: -(-self.size // self._cells)])

    def find_valid(self, slots: Sequence[int]) -> NDArray[np.float32]:
        """(R, h, w) float32, 1 for each cell of some slots that is there."""
        valid = np.ones((len(slots), *self._bank.grid_hw), np.float32)
        for place, slot in enumerate(slots):
            if slot in self._reserved:
                there = self.size - self._cells * self._reserved.index(slot)
                valid[place].reshape(-1)[max(0, there) :] = 0
        return valid

    def note(self, slots: Sequence[int], usage: NDArray[np.float32]) -> None:
        """Keep what the next frame read, (R, h, w), until that frame is done."""
        self._pending = (list(slots), usage)

    def finish(self, frame: int, memory: LongTermMemory) -> None:
        """Count what was read; make prototypes of frames that leave.

        Args:
            frame: that is done, and stored.
            memory: which frames are remembered.
        """
        if self._pending is not None:
            slots, usage = self._pending
            self.use[slots] += usage
            self.life[slots] += 1
            self._pending = None
        slot = self._bank.slot_of(frame)
        self.use[slot], self.life[slot] = 0, BORN
        if memory.leaving:
            self._consolidate([self._bank.slot_of(past) for past in memory.leaving])

    @property
    def _cells(self) -> int:
        return int(np.prod(self._bank.grid_hw))

    def _consolidate(self, slots: Sequence[int]) -> None:
        """Make prototypes of the cells of some frames, behind the cells that are kept."""
        keys, values, usage = self._gather(slots)
        chosen = choose_prototypes(usage, min(self._policy.prototypes, self._policy.cells))
        made = consolidate(keys, values, chosen)
        self._forget(self._policy.cells - len(chosen))
        born = np.zeros(len(chosen), np.float32)
        self._append(*made, born, born + BORN)

    def _forget(self, most: int) -> None:
        """Leave at most so many cells: those that were used more for their age than others."""
        if self.size <= most:
            return
        keys, values, usage = (rows[: self.size] for rows in self._gather(self.slots))
        use, life = (each[self.slots].reshape(-1)[: self.size] for each in (self.use, self.life))
        kept = usage > np.sort(usage)[self.size - most - 1]
        self.size = 0
        self._append(*(rows[kept] for rows in (keys, values, use, life)))

    def _append(self, keys: Rows, values: Rows, use: Rows, life: Rows) -> None:
        """Write cells behind those that there are.

        Args:
            keys: (p, C) packed.
            values: (p, K * Cv).
            use: (p,).
            life: (p,).
        """
        written = 0
        while written < len(keys):
            full, start = divmod(self.size, self._cells)
            some = slice(written, written + self._cells - start)
            count = len(keys[some])
            slot, at = self._reserved[full], slice(start, start + count)
            self._write(slot, at, keys[some], values[some])
            self.use[slot].reshape(-1)[at] = use[some]
            self.life[slot].reshape(-1)[at] = life[some]
            written, self.size = written + count, self.size + count

    def _write(self, slot: int, at: slice, keys: Rows, values: Rows) -> None:
        """Write some cells of a slot, wherever it is."""
        held = self._bank.key_block
        held.fetch(slot)
        held.host[slot].reshape(self._cells, -1)[at] = keys
        held.push(slot)
        content = to_host(self._values.values[slot])
        content.reshape(self._cells, -1)[at] = values
        self._values.write(slot, content)

    def _gather(self, slots: Sequence[int]) -> tuple[Rows, Rows, Rows]:
        """Cells of some slots: (n, C) keys, (n, K * Cv) values and (n,) usage for their age."""
        keys = [to_host(self._bank.key_block.shared[slot]) for slot in slots]
        values = [to_host(self._values.values[slot]) for slot in slots]
        usage = self.use[list(slots)] / self.life[list(slots)]
        count = len(slots) * self._cells
        return (
            np.concatenate(keys).reshape(count, -1),
            np.concatenate(values).reshape(count, -1),
            usage.reshape(-1),
        )
