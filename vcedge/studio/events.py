"""What the page is told while it is open: threads tell, and each open page hears all of it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator
from contextlib import suppress

HEARTBEAT_SECONDS = 15.0
"""So that a page that is gone is noticed (our choice)."""
_MOST_WAITING = 1000
"""Events that a page may be behind before it is told to ask for everything again."""

Queue = asyncio.Queue[str | None]


class Events:
    """Hands events on to those who listen."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listening: dict[Queue, asyncio.AbstractEventLoop] = {}

    def publish(self, kind: str, **facts: object) -> None:
        """Tell all pages, from any thread.

        Args:
            kind: what happened.
            facts: what JSON can hold.
        """
        self._hand_on(json.dumps({"kind": kind, **facts}, separators=(",", ":")))

    def close(self) -> None:
        """End every page's stream."""
        self._hand_on(None)

    @property
    def heard(self) -> bool:
        """Whether a page is open."""
        return bool(self._listening)

    async def listen(self) -> AsyncGenerator[str, None]:
        """Yield server-sent events until the studio closes."""
        queue: Queue = asyncio.Queue()
        with self._lock:
            self._listening[queue] = asyncio.get_running_loop()
        try:
            yield "retry: 1000\n\n"
            while True:
                try:
                    told = await asyncio.wait_for(queue.get(), HEARTBEAT_SECONDS)
                except asyncio.TimeoutError:
                    yield ": still here\n\n"
                    continue
                if told is None:
                    return
                yield f"data: {told}\n\n"
        finally:
            with self._lock:
                del self._listening[queue]

    def _hand_on(self, told: str | None) -> None:
        with self._lock:
            for queue, loop in self._listening.items():
                with suppress(RuntimeError):  # the server has ended, and its loop
                    loop.call_soon_threadsafe(_put, queue, told)


def _put(queue: Queue, told: str | None) -> None:
    if queue.qsize() > _MOST_WAITING:
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait('{"kind":"state"}')
    queue.put_nowait(told)
