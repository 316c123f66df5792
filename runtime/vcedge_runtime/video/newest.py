"""From one thread to others, the newest of what comes: whoever is slow misses what was before."""

from __future__ import annotations

from threading import Condition
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Newest(Generic[Item]):
    """Holds one numbered item, the newest; who takes it waits for one that is newer than his last.

    Whoever puts never waits for those who take, unless he asks for it.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._held: tuple[int, Item] | None = None
        self._taken = True
        self._finished = False

    @property
    def finished(self) -> bool:
        """Whether nothing more comes."""
        return self._finished

    def put(self, number: int, item: Item, *, wait: bool = False) -> None:
        """Replace what is held.

        Args:
            number: larger than the last one's.
            item: what is handed on.
            wait: until what is held was taken, or nothing is taken any more.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._taken or self._finished or not wait)
            self._held, self._taken = (number, item), False
            self._changed.notify_all()

    def take_after(self, number: int, timeout: float | None = None) -> tuple[int, Item] | None:
        """Wait for an item whose number is larger; any number of threads may take the same one.

        Args:
            number: of the last one that was taken; -1 for any.
            timeout: seconds; None to wait as long as it takes.

        Returns:
            The newest item and its number; None after ``finish``, or where the time is over.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._is_after(number) or self._finished, timeout)
            if not self._is_after(number):
                return None
            self._taken = True
            self._changed.notify_all()
            return self._held

    def finish(self) -> None:
        """Say that nothing more comes; what is held can still be taken."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def _is_after(self, number: int) -> bool:
        return self._held is not None and self._held[0] > number
