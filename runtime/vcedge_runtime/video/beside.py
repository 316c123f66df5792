"""Results that are written beside the engines: one frame while the next one is tracked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from vcedge_runtime.video.frame import Frame
from vcedge_runtime.video.sinks import NO_STATES, Labels, Scores, Sink, States


class WrittenBeside(Sink):
    """Hands frames to other sinks in a thread of its own, one at a time and in order.

    Whoever writes a frame waits until the one before is written, so that one frame at most is on
    its way. What fails is raised there, or at the end. Closing waits for the last one; it closes no
    sink.

    Args:
        sinks: where results go; used by the thread alone until this is closed.
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = tuple(sinks)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="vcedge-write")
        self._pending: Future[None] | None = None

    def write(
        self, frame: Frame, labels: Labels, scores: Scores, states: States = NO_STATES
    ) -> None:
        """Let a frame be written, once the one before is."""
        self._put(lambda sink: sink.write(frame, labels, scores, states))

    def hold(self, frame: Frame, labels: Labels) -> None:
        """Let a frame that keeps the last mask be written, once the one before is."""
        self._put(lambda sink: sink.hold(frame, labels))

    def close(self) -> None:
        """Wait for the last frame, and end the thread; twice does no harm."""
        try:
            self._finish()
        finally:
            self._pool.shutdown()

    def _put(self, tell: Callable[[Sink], None]) -> None:
        self._finish()
        self._pending = self._pool.submit(self._tell_all, tell)

    def _tell_all(self, tell: Callable[[Sink], None]) -> None:
        for sink in self._sinks:
            tell(sink)

    def _finish(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()
