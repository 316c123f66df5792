"""The global memory of SRNet and STCN: frame 0 and every fifth, of which the latest stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.memory.frames import LabelRead
from vcedge_runtime.settings import Bounds, check_settings


@dataclass(frozen=True)
class LocalGlobalPolicy:
    """Frames of the global memory; the one before the current is the local memory's (SRNet).

    Attributes:
        every: distance between global frames, counted from frame 0, 1 to 1,000 (STCN has 5).
        capacity: most global frames, 2 to 128: frame 0 and others; when there are more, the oldest
            but frame 0 are given up (our choice: STCN keeps them all).
        include_last: whether the frame before is read besides, whatever its number (an option of
            STCN, which encodes every frame's objects for it).
    """

    every: Annotated[int, Bounds(1, 1000)] = 5
    capacity: Annotated[int, Bounds(2, 128)] = 5
    include_last: bool = False

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def references(self) -> int:
        """Most frames that are read at once."""
        return self.capacity + self.include_last

    @property
    def slots(self) -> int:
        """Frames that memory must hold: those read, the one before, and the current one."""
        return self.capacity + 2

    @property
    def reads_keys(self) -> bool:
        """Frames are chosen by their numbers alone."""
        return False

    def count_bytes(self, key_dim: int) -> int:
        """Nothing is kept of frames besides their keys and labels."""
        return 0

    def begin(self) -> LocalGlobalMemory:
        """Make the memory of one video."""
        return LocalGlobalMemory(self)


class LocalGlobalMemory:
    """The global memory of one video: two numbers are all that it knows; see ``FrameMemory``.

    Args:
        policy: which frames are read.
        lag: how long before the current one they end, in frames: 2 where the one before is the
            local memory's, 1 where there is none (STCN).
    """

    def __init__(self, policy: LocalGlobalPolicy, lag: int = 2) -> None:
        self.policy = policy
        self._lag = lag
        self._next = 0
        self._annotated = 0

    def select(self, frame: int, key: NDArray[np.float32], read: LabelRead) -> list[int]:
        """Frames to read for ``frame``, in order of time; neither key nor labels matter."""
        pinned = sorted({0, self._annotated})
        latest = self._latest(frame - self._lag, self.policy.capacity - len(pinned))
        last = {frame - 1} if self.policy.include_last else set()
        return sorted({*pinned, *latest, *last})

    def wants(self, frame: int) -> bool:
        """Whether a frame is read at any later one: every fifth, or each as the last."""
        return self.policy.include_last or frame % self.policy.every == 0

    def store(self, frame: int, key: NDArray[np.float32], labels: NDArray[np.float32]) -> None:
        """Note that a frame is done."""
        self._next = max(self._next, frame + 1)

    def keeps(self, stored: int) -> bool:
        """Whether a stored frame may still be read at the next frame or later."""
        pinned = {0, self._annotated}
        latest = self._latest(self._next - self._lag, self.policy.capacity - len(pinned))
        # The last frame is not global yet, but may become so, and is what the user may draw in.
        return stored in pinned or stored == self._next - 1 or stored in latest

    def annotate(self, frame: int) -> None:
        """Pin a frame, whose mask the user gave, beside frame 0, in place of the former such."""
        self._annotated = frame

    def _latest(self, last: int, count: int) -> list[int]:
        """The latest ``count`` global frames up to ``last``, without the pinned ones."""
        found: list[int] = []
        frame = last - last % self.policy.every
        while frame > 0 and len(found) < count:
            if frame != self._annotated:
                found.append(frame)
            frame -= self.policy.every
        return found
