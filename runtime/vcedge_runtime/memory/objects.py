"""What SRNet remembers of the objects of a fixed number of frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SIDES = 2
"""Sums that make an object's prototypes: within its mask, and outside."""


class ObjectBank:
    """Values of every object, in the slots of a ``MemoryBank``.

    Args:
        slots: S.
        grid_hw: height and width of the key grid.
        value_dim: Cv.
        objects: K.

    Attributes:
        values: (S, h, w, K, Cv) float32, what is read.
        sums: (S, K, 2, Cv) float32, of the values within each object's mask, and outside.
        weights: (S, K, 2) float32, cells within the mask, and outside.
    """

    def __init__(self, slots: int, grid_hw: tuple[int, int], value_dim: int, objects: int) -> None:
        self.values = np.zeros((slots, *grid_hw, objects, value_dim), np.float32)
        self.sums = np.zeros((slots, objects, SIDES, value_dim), np.float32)
        self.weights = np.zeros((slots, objects, SIDES), np.float32)

    @property
    def nbytes(self) -> int:
        """Bytes of all slots."""
        return self.values.nbytes + self.sums.nbytes + self.weights.nbytes

    @property
    def objects(self) -> int:
        """K."""
        return int(self.weights.shape[1])

    def sum_slots(self, slots: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Add up what makes prototypes: (K, 2, Cv) sums and (K, 2) weights of some slots."""
        chosen = sorted(set(slots))
        sums, weights = self.sums[chosen].sum(axis=0), self.weights[chosen].sum(axis=0)
        return np.ascontiguousarray(sums), np.ascontiguousarray(weights)

    def add(self) -> None:
        """Make room for one more object, the last; nothing is known of it."""
        self.values = np.pad(self.values, [(0, 0)] * 3 + [(0, 1), (0, 0)])
        self.sums = np.pad(self.sums, [(0, 0), (0, 1), (0, 0), (0, 0)])
        self.weights = np.pad(self.weights, [(0, 0), (0, 1), (0, 0)])

    def remove(self, place: int) -> None:
        """Forget an object by its place; those after it move down by one."""
        self.values = np.delete(self.values, place, axis=3)
        self.sums = np.delete(self.sums, place, axis=1)
        self.weights = np.delete(self.weights, place, axis=1)
