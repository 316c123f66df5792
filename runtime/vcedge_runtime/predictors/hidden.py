"""A state of every object that lives as long as the video (XMem)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.buffers import Buffer, Device, DeviceArray, share_array, to_host
from vcedge_runtime.frames.windows import Window, bring_over


class HiddenStates:
    """States of all objects: what a frame begins with, and what it leaves.

    What is not finished was written to room for it alone: a step that fails changes nothing.

    Args:
        shape: (K, Ch, h, w) of K objects.
        device: of the engines; None where they run on the host.
        moves: whether windows move, and the states' places with them.

    Attributes:
        before: what the last frame began with, as its window shows it.
        last: what it left.
        now: what the frame that is worked on begins with, which is one of them or moved.
        next: what the engines write; anything until then.
    """

    def __init__(
        self, shape: tuple[int, ...], device: Device | None, *, moves: bool = False
    ) -> None:
        self._device = device
        self.before, self.last, self.next, *self._spare = (
            self._share(np.zeros(shape)) for _ in range(3 + moves)
        )
        self.now = self.last

    @property
    def nbytes(self) -> int:
        """Bytes of all states."""
        return sum(each.nbytes for each in (self.before, self.last, self.next, *self._spare))

    def begin(self, former: Window, window: Window) -> None:
        """Begin the next frame.

        Args:
            former: the last frame's window.
            window: the next one's.
        """
        self.now = self._bring(self.last, former, window)

    def begin_again(self, former: Window, window: Window) -> None:
        """Begin the last frame once more, through another window or the same."""
        self.now = self._bring(self.before, former, window)

    def finish(self) -> None:
        """Take what was written, of the frame that was begun, which is now the last."""
        free = [b for b in (self.before, self.last, *self._spare) if b is not self.now]
        self.before, self.last = self.now, self.next
        self.next, *self._spare = free

    def add(self) -> None:
        """Make room for one more object, the last; nothing is known of it."""
        self._change(lambda states: np.pad(states, [(0, 1), (0, 0), (0, 0), (0, 0)]))

    def remove(self, place: int) -> None:
        """Forget an object by its place; those after it move down by one."""
        self._change(lambda states: np.delete(states, place, axis=0))

    def save(self) -> Callable[[], None]:
        """What puts everything back; what is not finished meanwhile is not in it."""
        held, spare = (self.before, self.last, self.next), self._spare

        def restore() -> None:
            (self.before, self.last, self.next), self._spare = held, spare
            self.now = self.last

        return restore

    def _bring(self, states: Buffer, former: Window, window: Window) -> Buffer:
        """The states as another window shows them, in spare room."""
        if former == window or not states.nbytes:
            return states
        cells = np.ascontiguousarray(to_host(states).transpose(2, 3, 0, 1))
        moved = np.empty_like(cells)
        bring_over(cells, former, window, moved)
        planes, room = np.ascontiguousarray(moved.transpose(2, 3, 0, 1)), self._spare[0]
        if isinstance(room, DeviceArray):
            room.write(planes)
        else:
            room[...] = planes
        return room

    def _change(self, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
        self.before, self.last, self.next, *self._spare = (
            self._share(change(to_host(states)))
            for states in (self.before, self.last, self.next, *self._spare)
        )
        self.now = self.last

    def _share(self, states: NDArray[np.generic]) -> Buffer:
        return share_array(np.ascontiguousarray(states, np.float32), self._device)
