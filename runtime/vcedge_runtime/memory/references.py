"""Which frames are read: MER's references, {0, 5, t-5, t-3, t-1}."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import BundleError
from vcedge_runtime.memory.frames import LabelRead
from vcedge_runtime.settings import Bounds, check_settings


@dataclass(frozen=True)
class ReferencePolicy:
    """Fixed long-term frames and short-term distances (MER, section 3.5; the index rule is MAST's).

    Attributes:
        long: 1 to 32 frame numbers, to 1,000,000, that are read once they are past; the first is 0.
        short: 1 to 32 distances to the current frame, 1 to 128, that are read, 1 among them; the
            result must be above 0.
    """

    long: Annotated[tuple[Annotated[int, Bounds(0, 1_000_000)], ...], Bounds(1, 32)] = (0, 5)
    short: Annotated[tuple[Annotated[int, Bounds(1, 128)], ...], Bounds(1, 32)] = (5, 3, 1)

    def __post_init__(self) -> None:
        check_settings(self)
        if self.long[0] != 0 or 1 not in self.short:
            raise BundleError(
                "references must begin with frame 0 and hold distance 1; "
                f"received long={self.long}, short={self.short}"
            )

    @property
    def references(self) -> int:
        """Most frames that are read at once."""
        return len(self.long) + len(self.short)

    @property
    def slots(self) -> int:
        """Frames that memory must hold, the current one included; it never needs more."""
        return len(self.long) + max(self.short) + 1

    def pinned(self, annotated: int) -> set[int]:
        """Long-term frames; the last frame with a mask from the user takes the last one's place.

        Args:
            annotated: number of the last frame for which a mask was given, 0 for the first.
        """
        if annotated == 0:
            return set(self.long)
        return {*self.long[:-1], annotated} if len(self.long) > 1 else {0}

    def read(self, frame: int, annotated: int = 0) -> list[int]:
        """Frames to read for ``frame``, in order of time, never more than ``references``."""
        long = {past for past in self.pinned(annotated) if past < frame}
        short = {frame - distance for distance in self.short if frame - distance > 0}
        return sorted(long | short)

    def keeps(self, stored: int, frame: int, annotated: int = 0) -> bool:
        """Whether ``stored`` may still be read at ``frame`` or later."""
        return stored in self.pinned(annotated) or stored >= frame - max(self.short)

    @property
    def reads_keys(self) -> bool:
        """Frames are chosen by their numbers alone."""
        return False

    def count_bytes(self, key_dim: int) -> int:
        """Nothing is kept of frames besides their keys and labels."""
        return 0

    def begin(self) -> ReferenceMemory:
        """Make the memory of one video."""
        return ReferenceMemory(self)


class ReferenceMemory:
    """The references of one video: two numbers are all that it knows; see ``FrameMemory``.

    Args:
        policy: which frames are read.
    """

    def __init__(self, policy: ReferencePolicy) -> None:
        self.policy = policy
        self._next = 0
        self._annotated = 0

    def select(self, frame: int, key: NDArray[np.float32], read: LabelRead) -> list[int]:
        """Frames to read for ``frame``, in order of time; neither key nor labels matter."""
        return self.policy.read(frame, self._annotated)

    def wants(self, frame: int) -> bool:
        """Whether the current frame may be read later: each may."""
        return True

    def store(self, frame: int, key: NDArray[np.float32], labels: NDArray[np.float32]) -> None:
        """Note that a frame is done."""
        self._next = max(self._next, frame + 1)

    def keeps(self, stored: int) -> bool:
        """Whether a stored frame may still be read at the next frame or later."""
        return self.policy.keeps(stored, self._next, self._annotated)

    def annotate(self, frame: int) -> None:
        """Read a frame, whose mask the user gave, in place of the last long-term one."""
        self._annotated = frame
