"""A graph's arrays on a device, whoever holds them: the host's are copied there and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import numpy as np

from vcedge_runtime.buffers import Buffer, Device, DeviceArray
from vcedge_runtime.errors import EngineError

LEAST_BYTES = 4096
"""Of an array's memory (our choice): small ones grow, as lists of slots do, without moving."""


class Staging:
    """Device memory for arrays of one graph; it grows with the largest of each name.

    Args:
        device: whose memory.
        owns_all: arrays of the device are copied too, within it, so that a graph sees the same
            addresses in every run.
    """

    def __init__(self, device: Device, *, owns_all: bool = False) -> None:
        self._device = device
        self._owns_all = owns_all
        self._held: dict[str, DeviceArray] = {}

    @contextmanager
    def placed(
        self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]
    ) -> Iterator[dict[str, int]]:
        """Copy a run's inputs in, give the addresses of all its arrays, and copy its outputs out.

        Everything has been waited for at the end, also of a run that fails.

        Raises:
            EngineError: there is not so much memory, or the run or a copy failed.
        """
        try:
            places = {name: self._place(name, array) for name, array in {**inputs, **out}.items()}
            for name, array in inputs.items():
                if not isinstance(array, DeviceArray):
                    self._device.copy_in(array, places[name])
                elif places[name] != array.pointer:
                    self._device.copy_within(places[name], array.pointer, array.nbytes)
            yield places
            for name, array in out.items():
                if not isinstance(array, DeviceArray):
                    self._device.copy_out(places[name], array)
                elif places[name] != array.pointer:
                    self._device.copy_within(array.pointer, places[name], array.nbytes)
        except BaseException:
            # What is on its way still reads and writes the caller's arrays.
            with suppress(EngineError):
                self._device.synchronize()
            raise
        self._device.synchronize()

    def close(self) -> None:
        """Give the memory back."""
        self._held = {}

    def _place(self, name: str, array: Buffer) -> int:
        if isinstance(array, DeviceArray) and not self._owns_all:
            return array.pointer
        if name not in self._held or self._held[name].nbytes < array.nbytes:
            self._held.pop(name, None)
            self._held[name] = DeviceArray(
                self._device, (max(LEAST_BYTES, array.nbytes),), np.uint8
            )
        return self._held[name].pointer
