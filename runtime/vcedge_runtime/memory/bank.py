"""The slots of memory: allocated once, written by the engines, never larger."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vcedge_runtime.errors import TrackerError


class MemoryBank:
    """Keys and soft labels of a fixed number of frames.

    Attributes:
        keys: (S, h, w, C) float32.
        labels: (S, h, w, L) float32 soft labels, channel 0 the background.
    """

    def __init__(self, slots: int, grid_hw: tuple[int, int], key_dim: int, channels: int) -> None:
        self.keys = np.zeros((slots, *grid_hw, key_dim), np.float32)
        self.labels = np.zeros((slots, *grid_hw, channels), np.float32)
        self._frames: list[int | None] = [None] * slots

    @property
    def nbytes(self) -> int:
        """Bytes of all slots."""
        return self.keys.nbytes + self.labels.nbytes

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Height and width of the key grid."""
        return (self.keys.shape[1], self.keys.shape[2])

    @property
    def channels(self) -> int:
        """Label channels, L."""
        return int(self.labels.shape[-1])

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
        """Give a frame a slot: a free one, or that of a frame which ``keeps`` no longer wants.

        Raises:
            TrackerError: every slot is still wanted.
        """
        for slot, stored in enumerate(self._frames):
            if stored is None or not keeps(stored):
                self._frames[slot] = frame
                return slot
        raise TrackerError(f"no slot is free for frame {frame}; memory holds {self._frames}")

    def widen(self, channels: int) -> None:
        """Give every slot more label channels; the new ones are 0."""
        added = channels - self.labels.shape[-1]
        self.labels = np.pad(self.labels, [(0, 0)] * 3 + [(0, added)])
