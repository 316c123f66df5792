"""The global memory of SRNet and STCN: frame 0 and every fifth, of which some stay.

Those stay that show the objects last. Were it the latest, an object that is away for some time
would be known by frame 0 alone when it comes back (our choice).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.memory.frames import LabelRead
from vcedge_runtime.settings import Bounds, check_settings

SHOWN = 0.05
"""Share of a key cell that an object covers in a frame that shows it (our choice)."""


@dataclass(frozen=True)
class LocalGlobalPolicy:
    """Frames of the global memory; the one before the current is the local memory's (SRNet).

    Attributes:
        every: distance between global frames, counted from frame 0, 1 to 1,000 (STCN has 5).
        capacity: most global frames, 2 to 128: frame 0 and others; when there are more, the oldest
            but frame 0 are given up (our choice: STCN keeps them all).
        include_last: whether the frame before is read besides, whatever its number (an option of
            STCN, which encodes every frame's objects for it).
        zoom: the frame whose mask was given is read besides as it looks this much larger, and as
            much smaller, 1 to 4 (our choice); 1 for as it is alone. Of SRNet and STCN alone.
    """

    every: Annotated[int, Bounds(1, 1000)] = 5
    capacity: Annotated[int, Bounds(2, 128)] = 5
    include_last: bool = False
    zoom: Annotated[float, Bounds(1, 4)] = 1.0

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def references(self) -> int:
        """Most frames that are read at once, views among them."""
        return self.capacity + self.include_last + len(self.scales)

    @property
    def scales(self) -> tuple[float, ...]:
        """How large each further view of the frame is whose mask was given."""
        return () if self.zoom == 1 else (self.zoom, 1 / self.zoom)

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
    """The global memory of one video: which frames there are, and what they show.

    See ``FrameMemory``.

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
        self._shown: dict[int, list[int]] = {}

    def select(self, frame: int, key: NDArray[np.float32], read: LabelRead) -> list[int]:
        """Frames to read for ``frame``, in order of time; neither key nor labels matter."""
        last = {frame - 1} if self.policy.include_last else set()
        return sorted({*self._pinned, *self._choose(frame - self._lag), *last})

    def wants(self, frame: int) -> bool:
        """Whether a frame is read at any later one: every fifth, or each as the last."""
        return self.policy.include_last or self._is_global(frame)

    def store(self, frame: int, key: NDArray[np.float32], labels: NDArray[np.float32]) -> None:
        """Note that a frame is done, and which objects it shows."""
        self._next = max(self._next, frame + 1)
        if self._is_global(frame):
            self._shown[frame] = np.flatnonzero(labels[..., 1:].max((0, 1)) >= SHOWN).tolist()
        self._give_up()

    def keeps(self, stored: int) -> bool:
        """Whether a stored frame may still be read at the next frame or later."""
        # The last frame is not global yet, but may become so, and is what the user may draw in.
        return stored in self._shown or stored in self._pinned or stored == self._next - 1

    def annotate(self, frame: int) -> None:
        """Pin a frame, whose mask the user gave, beside frame 0, in place of the former such."""
        self._annotated = frame
        self._give_up()

    def _give_up(self) -> None:
        """Forget the frames that will not be read again."""
        last = self._next - self._lag
        kept = {*self._pinned, *self._choose(last)}
        self._shown = {f: shown for f, shown in self._shown.items() if f > last or f in kept}

    @property
    def _pinned(self) -> set[int]:
        return {0, self._annotated}

    def _is_global(self, frame: int) -> bool:
        return frame % self.policy.every == 0

    def _choose(self, last: int) -> list[int]:
        """Choose global frames up to ``last``, without the pinned ones.

        The latest is, whatever it shows; then of each object in turn the latest that shows it; then
        the latest of the others.
        """
        count = self.policy.capacity - len(self._pinned)
        latest = sorted({f for f in self._shown if f <= last} - self._pinned, reverse=True)
        objects = {each for frame in latest for each in self._shown[frame]}
        views = [[f for f in latest if each in self._shown[f]] for each in sorted(objects)]
        in_turn = chain(latest[:1], *zip_longest(*views), latest)
        return list(dict.fromkeys(frame for frame in in_turn if frame is not None))[:count]
