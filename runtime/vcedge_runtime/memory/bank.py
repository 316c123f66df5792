"""The slots of memory: allocated once, written by the engines, never larger."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.buffers import Block, Device, zeros_for
from vcedge_runtime.errors import TrackerError

COLOURS = 3
"""Channels of a frame's colours, as the encoder takes them, before its labels."""


class MemoryBank:
    """Keys and soft labels of a fixed number of frames.

    Args:
        slots: S, frames that it holds, and the spare ones.
        grid_hw: height and width of the key grid.
        key_dim: C.
        channels: L, label channels.
        refined: keys are refined, and what they were before is kept too.
        colours: each frame's colours at the key grid are kept beside its labels.
        enhanced: keys and values are kept a second time, as regions enhance them.
        spare: how many of the slots, the last ones, are for no frame.
        device: of the engines; None where they run on the host.

    Attributes:
        key_block: (S, h, w, C), what is matched.
        raw_keys: (S, h, w, C) float32, keys as the encoder gave them, for the engines alone; those
            of ``key_block`` where nothing refines them.
        value_block: (S, h, w, V), what is read: the colours, if any, then the soft labels, whose
            channel 0 is the background.
        enhanced_key_block: (S, h, w, C), or no slot.
        enhanced_value_block: (S, h, w, V), or no slot.
    """

    def __init__(
        self,
        slots: int,
        grid_hw: tuple[int, int],
        key_dim: int,
        channels: int,
        *,
        refined: bool = False,
        colours: bool = False,
        enhanced: bool = False,
        spare: int = 0,
        device: Device | None = None,
    ) -> None:
        self._colours = COLOURS if colours else 0
        twice = slots if enhanced else 0
        keys, values = (*grid_hw, key_dim), (*grid_hw, self._colours + channels)
        self._device = device
        self.key_block = Block((slots, *keys), device)
        self.raw_keys = zeros_for((slots, *keys), device) if refined else self.key_block.shared
        self.value_block = Block((slots, *values), device)
        self.enhanced_key_block = Block((twice, *keys), device)
        self.enhanced_value_block = Block((twice, *values), device)
        self._frames: list[int | None] = [None] * (slots - spare)

    @property
    def nbytes(self) -> int:
        """Bytes of all slots, wherever they lie."""
        raw = 0 if self.raw_keys is self.key_block.shared else self.raw_keys.nbytes
        twice = self.enhanced_key_block.nbytes + self.enhanced_value_block.nbytes
        return self.key_block.nbytes + raw + self.value_block.nbytes + twice

    @property
    def keys(self) -> NDArray[np.float32]:
        """(S, h, w, C) float32 on the host, as they were last fetched."""
        return self.key_block.host

    @property
    def values(self) -> NDArray[np.float32]:
        """(S, h, w, V) float32 on the host."""
        return self.value_block.host

    @property
    def enhanced_keys(self) -> NDArray[np.float32]:
        """(S, h, w, C) float32 on the host, or no slot."""
        return self.enhanced_key_block.host

    @property
    def enhanced_values(self) -> NDArray[np.float32]:
        """(S, h, w, V) float32 on the host, or no slot."""
        return self.enhanced_value_block.host

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Height and width of the key grid."""
        return (self.keys.shape[1], self.keys.shape[2])

    @property
    def channels(self) -> int:
        """Label channels, L."""
        return int(self.values.shape[-1]) - self._colours

    @property
    def labels(self) -> NDArray[np.float32]:
        """(S, h, w, L) float32 soft labels; a view."""
        labels: NDArray[np.float32] = self.values[..., self._colours :]
        return labels

    @property
    def colours(self) -> NDArray[np.float32]:
        """(S, h, w, 3) float32 as an encoder takes it, (S, h, w, 0) where none is kept; a view."""
        colours: NDArray[np.float32] = self.values[..., : self._colours]
        return colours

    def slot_of(self, frame: int) -> int:
        """Slot in which a frame stands.

        Raises:
            TrackerError: the frame is not in memory.
        """
        try:
            return self._frames.index(frame)
        except ValueError:
            raise TrackerError(f"frame {frame} is not in memory; it holds {self._frames}") from None

    def stored(self) -> list[tuple[int, int]]:
        """Frames in memory, each with its slot."""
        return [(frame, slot) for slot, frame in enumerate(self._frames) if frame is not None]

    def claim(self, frame: int, keeps: Callable[[int], bool]) -> int:
        """Give a frame a slot: its own, a free one, or that of a frame which ``keeps`` gives up.

        Raises:
            TrackerError: every slot is still wanted.
        """
        if frame in self._frames:
            return self._frames.index(frame)
        for slot, stored in enumerate(self._frames):
            if stored is None or not keeps(stored):
                self._frames[slot] = frame
                return slot
        raise TrackerError(f"no slot is free for frame {frame}; memory holds {self._frames}")

    def widen(self, channels: int) -> None:
        """Give every slot more label channels; the new ones are 0."""
        added = [(0, 0)] * 3 + [(0, channels - self.channels)]
        self._exchange_values(np.pad(self.values, added), np.pad(self.enhanced_values, added))

    def drop(self, channel: int) -> None:
        """Take a label channel out of every slot for the background; later ones move down."""
        self.labels[..., 0] += self.labels[..., channel]
        place = self._colours + channel
        plain, enhanced = (
            np.delete(values, place, axis=-1) for values in (self.values, self.enhanced_values)
        )
        self._exchange_values(plain, enhanced)

    def save_values(self) -> Callable[[], None]:
        """What puts back all values as they are now; it takes no memory of a device."""
        plain, enhanced = self.value_block, self.enhanced_value_block
        held = [(block, block.host.copy()) for block in (plain, enhanced)]

        def restore() -> None:
            self.value_block, self.enhanced_value_block = plain, enhanced
            for block, content in held:
                block.host[...] = content
                block.push()

        return restore

    def save_key(self, slot: int) -> Callable[[], None]:
        """What puts back the key of a slot as it is now; it takes no memory of a device."""
        block = self.key_block
        block.fetch(slot)
        content = block.host[slot].copy()

        def restore() -> None:
            block.host[slot] = content
            block.push(slot)

        return restore

    def _exchange_values(self, plain: NDArray[np.float32], enhanced: NDArray[np.float32]) -> None:
        blocks = Block.of(plain, self._device), Block.of(enhanced, self._device)
        self.value_block, self.enhanced_value_block = blocks
