"""A graph's arrays on a device, whoever holds them: the host's are copied there and back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vcedge_runtime.buffers import Buffer, Device, DeviceArray


class Staging:
    """Device memory for the host arrays of one graph.

    Args:
        device: whose memory.
        room: bytes of tensors at their largest, by name; others grow as they must.
    """

    def __init__(self, device: Device, room: Mapping[str, int] | None = None) -> None:
        self._device = device
        self._room = room or {}
        self._held: dict[str, DeviceArray] = {}

    def place(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> dict[str, int]:
        """Copy a run's inputs in where they are the host's.

        Returns:
            Addresses by name, of inputs and outputs.

        Raises:
            EngineError: there is not so much memory, or a copy failed.
        """
        places = {name: self._place(name, array) for name, array in {**inputs, **out}.items()}
        for name, array in inputs.items():
            if not isinstance(array, DeviceArray):
                self._device.copy_in(array, places[name])
        return places

    def collect(self, out: Mapping[str, Buffer]) -> None:
        """Copy a run's outputs to the host where they are the host's, and wait for everything.

        Raises:
            EngineError: the run or a copy failed.
        """
        for name, array in out.items():
            if not isinstance(array, DeviceArray):
                self._device.copy_out(self._held[name].pointer, array)
        self._device.synchronize()

    def close(self) -> None:
        """Give the memory back."""
        self._held = {}

    def _place(self, name: str, array: Buffer) -> int:
        if isinstance(array, DeviceArray):
            return array.pointer
        if name not in self._held or self._held[name].nbytes < array.nbytes:
            size = max(array.nbytes, self._room.get(name, 0), 1)
            self._held.pop(name, None)
            self._held[name] = DeviceArray(self._device, (size,), np.uint8)
        return self._held[name].pointer
