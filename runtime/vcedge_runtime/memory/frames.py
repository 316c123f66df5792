"""What every memory policy is: settings, and the state of one video that chooses its frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

LabelRead = Callable[[Sequence[int]], NDArray[np.float32]]
"""Soft labels of the current frame, (h, w, L) float32, read plainly from some stored frames."""


class FrameMemory(Protocol):
    """Chooses the frames of one video that are read; their keys and labels stand in the bank."""

    def select(self, frame: int, key: NDArray[np.float32], read: LabelRead) -> list[int]:
        """Choose the frames to read for ``frame``; asked again, it answers again.

        Args:
            frame: the current frame; the one before is stored.
            key: (h, w, C) float32, the current frame's.
            read: gives the current frame's soft labels, read from some stored frames.

        Returns:
            Frames in order of time, at most as many as the policy's ``references``.
        """

    def wants(self, frame: int) -> bool:
        """Whether the current frame may be read later, unless a mask is drawn in it.

        Of others nothing but the key need be known.
        """

    def store(self, frame: int, key: NDArray[np.float32], labels: NDArray[np.float32]) -> None:
        """Keep a frame that is done; once more if its labels were corrected.

        Args:
            frame: its number.
            key: (h, w, C) float32.
            labels: (h, w, L) float32 soft labels, rows sum to 1, channel 0 the background.
        """

    def keeps(self, stored: int) -> bool:
        """Whether a stored frame may still be read."""

    def annotate(self, frame: int) -> None:
        """Pin the last stored frame, whose mask the user gave, in place of the former such."""


class MemoryPolicy(Protocol):
    """Settings of a memory: a frozen dataclass of plain values."""

    @property
    def references(self) -> int:
        """Most frames that are read at once."""

    @property
    def slots(self) -> int:
        """Frames that memory must hold, the current one included; it never needs more."""

    @property
    def reads_keys(self) -> bool:
        """Whether it looks at keys; where not, those that it is given may be anything."""

    def count_bytes(self, key_dim: int) -> int:
        """Most bytes of what is kept of frames besides their keys and labels."""

    def begin(self) -> FrameMemory:
        """Make the memory of one video."""
