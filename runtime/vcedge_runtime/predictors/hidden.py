"""A state of every object that lives as long as the video (XMem)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.buffers import Buffer, Device, share_array, to_host


class HiddenStates:
    """States of all objects after a frame, after the one before, and room for the next.

    What is not finished was written to that room alone: a step that fails changes nothing.

    Args:
        shape: (K, Ch, h, w) of K objects.
        device: of the engines; None where they run on the host.

    Attributes:
        before: states before the last frame.
        last: after it.
        next: what the engines write; anything until then.
    """

    def __init__(self, shape: tuple[int, ...], device: Device | None) -> None:
        self._device = device
        self.before, self.last, self.next = (self._share(np.zeros(shape)) for _ in range(3))

    @property
    def nbytes(self) -> int:
        """Bytes of all states."""
        return self.before.nbytes + self.last.nbytes + self.next.nbytes

    def finish(self) -> None:
        """Take what was written for the states after the next frame, which becomes the last."""
        self.before, self.last, self.next = self.last, self.next, self.before

    def replace(self) -> None:
        """Take what was written for the states after the last frame, made once more."""
        self.last, self.next = self.next, self.last

    def add(self) -> None:
        """Make room for one more object, the last; nothing is known of it."""
        self._change(lambda states: np.pad(states, [(0, 1), (0, 0), (0, 0), (0, 0)]))

    def remove(self, place: int) -> None:
        """Forget an object by its place; those after it move down by one."""
        self._change(lambda states: np.delete(states, place, axis=0))

    def save(self) -> Callable[[], None]:
        """What puts everything back; what is not finished meanwhile is not in it."""
        held = (self.before, self.last, self.next)

        def restore() -> None:
            self.before, self.last, self.next = held

        return restore

    def _change(self, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
        self.before, self.last, self.next = (
            self._share(change(to_host(states))) for states in (self.before, self.last, self.next)
        )

    def _share(self, states: NDArray[np.generic]) -> Buffer:
        return share_array(np.ascontiguousarray(states, np.float32), self._device)
