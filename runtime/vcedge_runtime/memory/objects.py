"""What SRNet remembers of the objects of a fixed number of frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.buffers import Buffer, Device, DeviceArray, share_array, to_host

SIDES = 2
"""Sums that make an object's prototypes: within its mask, and outside."""


class ObjectBank:
    """Values of every object, in the slots of a ``MemoryBank``.

    Args:
        slots: S.
        grid_hw: height and width of the key grid.
        value_dim: Cv.
        objects: K.
        device: of the engines, where values are; None where they run on the host.

    Attributes:
        values: (S, h, w, K, Cv) float32, what is read.
        sums: (S, K, 2, Cv) float32, of the values within each object's mask, and outside.
        weights: (S, K, 2) float32, cells within the mask, and outside.
    """

    def __init__(
        self,
        slots: int,
        grid_hw: tuple[int, int],
        value_dim: int,
        objects: int,
        device: Device | None = None,
    ) -> None:
        self._device = device
        plain = np.zeros((slots, *grid_hw, objects, value_dim), np.float32)
        self.values: Buffer = share_array(plain, device)
        self.sums = np.zeros((slots, objects, SIDES, value_dim), np.float32)
        self.weights = np.zeros((slots, objects, SIDES), np.float32)

    @property
    def nbytes(self) -> int:
        """Bytes of all slots, wherever they lie."""
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

    def put(self, slot: int, objects: slice, value: Buffer) -> None:
        """Write (h, w, k, Cv) values of some objects into a slot."""
        if isinstance(self.values, DeviceArray):
            assert isinstance(value, DeviceArray)
            self.values[slot].put_columns(objects.start, value)
        else:
            self.values[slot, :, :, objects] = value

    def write(self, slot: int, values: NDArray[np.float32]) -> None:
        """Write the (h, w, K, Cv) values of all objects into a slot."""
        if isinstance(self.values, DeviceArray):
            self.values[slot].write(values)
        else:
            self.values[slot] = values

    def change(self, values: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
        """Exchange all values for others that are made on the host of a copy of them."""
        held = self.values
        copied = held.read() if isinstance(held, DeviceArray) else held.copy()
        self.values = share_array(values(copied), self._device)

    def save(self, slots: Sequence[int]) -> Callable[[], None]:
        """What puts everything back as it is now; it takes no memory of a device.

        Args:
            slots: the only ones that are written to meanwhile, but for ``change``.
        """
        held, sums, weights = self.values, self.sums.copy(), self.weights.copy()
        content = {slot: np.array(to_host(held[slot])) for slot in slots}

        def restore() -> None:
            self.values, self.sums, self.weights = held, sums, weights
            for slot, values in content.items():
                self.write(slot, values)

        return restore

    def add(self) -> None:
        """Make room for one more object, the last; nothing is known of it."""
        self.change(lambda values: np.pad(values, [(0, 0)] * 3 + [(0, 1), (0, 0)]))
        self.sums = np.pad(self.sums, [(0, 0), (0, 1), (0, 0), (0, 0)])
        self.weights = np.pad(self.weights, [(0, 0), (0, 1), (0, 0)])

    def remove(self, place: int) -> None:
        """Forget an object by its place; those after it move down by one."""
        self.change(lambda values: np.delete(values, place, axis=3))
        self.sums = np.delete(self.sums, place, axis=1)
        self.weights = np.delete(self.weights, place, axis=1)
