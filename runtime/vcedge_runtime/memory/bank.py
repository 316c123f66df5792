"""The slots of memory: allocated once, written by the engines, never larger."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import TrackerError

COLOURS = 3
"""Channels of a frame's colours, normalised Lab, before its labels."""


class MemoryBank:
    """Keys and soft labels of a fixed number of frames.

    Args:
        slots: S, frames that it holds.
        grid_hw: height and width of the key grid.
        key_dim: C.
        channels: L, label channels.
        refined: keys are refined, and what they were before is kept too.
        colours: each frame's colours at the key grid are kept beside its labels.
        enhanced: keys and values are kept a second time, as regions enhance them.

    Attributes:
        keys: (S, h, w, C) float32, what is matched.
        raw_keys: (S, h, w, C) float32, as the encoder gave them; the same array as ``keys`` where
            nothing refines them.
        values: (S, h, w, V) float32, what is read: the colours, if any, then the soft labels, whose
            channel 0 is the background.
        enhanced_keys: (S, h, w, C) float32, or no slot.
        enhanced_values: (S, h, w, V) float32, or no slot.
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
    ) -> None:
        self._colours = COLOURS if colours else 0
        twice = slots if enhanced else 0
        self.keys = np.zeros((slots, *grid_hw, key_dim), np.float32)
        self.raw_keys = np.zeros_like(self.keys) if refined else self.keys
        self.values = np.zeros((slots, *grid_hw, self._colours + channels), np.float32)
        self.enhanced_keys = np.zeros((twice, *grid_hw, key_dim), np.float32)
        self.enhanced_values = np.zeros((twice, *self.values.shape[1:]), np.float32)
        self._frames: list[int | None] = [None] * slots

    @property
    def nbytes(self) -> int:
        """Bytes of all slots."""
        raw = 0 if self.raw_keys is self.keys else self.raw_keys.nbytes
        twice = self.enhanced_keys.nbytes + self.enhanced_values.nbytes
        return self.keys.nbytes + raw + self.values.nbytes + twice

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
        """(S, h, w, 3) float32 normalised Lab, or (S, h, w, 0) where it is not kept; a view."""
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
        self.values = np.pad(self.values, added)
        self.enhanced_values = np.pad(self.enhanced_values, added)

    def drop(self, channel: int) -> None:
        """Take a label channel out of every slot for the background; later ones move down."""
        self.labels[..., 0] += self.labels[..., channel]
        self.values = np.delete(self.values, self._colours + channel, axis=-1)
        self.enhanced_values = np.delete(self.enhanced_values, self._colours + channel, axis=-1)
