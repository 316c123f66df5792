"""What memory learns of an object that is drawn in mid-video: it is read from the last frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.buffers import Buffer
from vcedge_runtime.memory.bank import MemoryBank
from vcedge_runtime.memory.objects import ObjectBank
from vcedge_runtime.propagation.labels import assign_share

Planes = NDArray[np.float32]


class Attend(Protocol):
    """Reads values of some slots into ``out``, as ``run_memory_read`` does."""

    def __call__(
        self, query: Buffer, keys: Buffer, values: Buffer, slots: Sequence[int], out: Buffer
    ) -> Any:
        """Read."""


def read_object_back(
    values: Planes,
    bank: MemoryBank,
    objects: ObjectBank,
    place: int,
    last: int,
    slots: Sequence[int],
    attend: Attend,
) -> Planes:
    """Give an object values and labels in some slots, read from that of the last frame.

    Args:
        values: (S, h, w, K, Cv) of all objects; changed, and returned.
        bank: keys, and labels, which are changed.
        objects: its sums and weights are changed.
        place: the object's.
        last: the last frame's slot.
        slots: the others.
        attend: reads.
    """
    labels, keys = bank.labels, bank.key_block.shared
    both = np.concatenate([values[last, ..., place, :], labels[last, ..., 1 + place, None]], -1)
    found = np.empty((1, both.shape[-1], *bank.grid_hw), np.float32)
    for slot in slots:
        attend(keys[slot], keys[last][None], both[None, ..., None, :], [0], found)
        value, share = found[0, :-1], found[0, -1]
        values[slot, ..., place, :] = np.moveaxis(value, 0, -1)
        assign_share(labels[slot], 1 + place, share)
        shares = np.stack([share, 1 - share])
        objects.weights[slot, place] = shares.sum(axis=(1, 2))
        objects.sums[slot, place] = np.tensordot(shares, value, axes=((1, 2), (1, 2)))
    return values
