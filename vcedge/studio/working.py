"""One piece of work at a time, in a thread of its own, that can be stopped between two steps."""

from __future__ import annotations

import threading
from collections.abc import Callable

from vcedge_runtime.closing import Closing
from vcedge_runtime.errors import VcedgeError
from vcedge_runtime.telling import tell_cause

Stop = Callable[[], bool]
Work = Callable[[Stop], None]
"""Asked between two steps, the argument says whether to stop."""


class Worker(Closing):
    """Does one piece of work at a time.

    Args:
        on_end: told when work has ended, in its thread: what went wrong, or None.
    """

    def __init__(self, on_end: Callable[[str | None], None]) -> None:
        self._on_end = on_end
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def busy(self) -> bool:
        """Whether something is being done."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, work: Work) -> None:
        """Begin a piece of work, in place of what is being done."""
        with self._lock:
            self._end()
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, args=(work,), name="vcedge-studio")
            self._thread.start()

    def stop(self) -> None:
        """Stop what is being done, and wait for its last step; none is no fault."""
        with self._lock:
            self._end()

    def close(self) -> None:
        """Stop."""
        self.stop()

    def _end(self) -> None:
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self, work: Work) -> None:
        told: str | None = None
        try:
            work(self._stop.is_set)
        except VcedgeError as exc:
            told = str(exc)
        # Whatever it is, the page is told, and the studio goes on.
        except Exception as exc:
            told = f"this is a fault of vcedge: {tell_cause(exc)}"
        self._on_end(told)
