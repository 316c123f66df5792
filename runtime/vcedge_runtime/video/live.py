"""Live sources: the newest frame is handed on, and a stream that stops is opened again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice, repeat
from threading import Event, Thread
from time import monotonic

from vcedge_runtime.errors import SourceError, StreamLostError
from vcedge_runtime.video.frame import Frame, Source
from vcedge_runtime.video.newest import Newest
from vcedge_runtime.video.raw import RawFormat

CLOSING_S = 2.0
"""What a read that is under way may take when a source is closed; it ends with the process."""


def growing_pauses() -> Iterator[float]:
    """Seconds before each attempt in a row: 1, 2, 4, 8, 16, and 30 from then on (our choice)."""
    return chain((1.0, 2.0, 4.0, 8.0, 16.0), repeat(30.0))


@dataclass(frozen=True)
class LiveOptions:
    """How live sources are read.

    Attributes:
        reconnect: attempts in a row to open a stream that stopped again; None for ever.
        drop: hand on the newest frame and drop those before it; else each of them, and whatever
            sends them waits or loses them.
        raw: what standard input holds where it is frames alone; None where FFmpeg reads it.
    """

    reconnect: int | None = 0
    drop: bool = True
    raw: RawFormat | None = None

    def __post_init__(self) -> None:
        if self.reconnect is not None and self.reconnect < 0:
            raise SourceError(
                f"received {self.reconnect} attempts to reconnect; expected 0 or more, or None"
            )


class LiveSource(Source):
    """A source whose frames come when they come, read by a thread of its own from the beginning.

    Frames are numbered as they come, also over an interruption; one that was dropped keeps its
    number. The first one is never dropped, since the first mask is its.

    Args:
        source: what is read, its first frame read already; it is closed here.
        reopen: opens it again; None where that cannot be.
        options: what happens to frames that are too many, and when it stops.
        tell: told of each stop and each attempt, by another thread.

    Raises:
        SourceError: the first frame cannot be read.
    """

    live = True

    def __init__(
        self,
        source: Source,
        reopen: Callable[[], Source] | None = None,
        options: LiveOptions | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.label, self.fps, self.frame_hw = source.label, source.fps, source.frame_hw
        self._source, self._reopen, self._tell = source, reopen, tell
        self._options = options or LiveOptions()
        self._closing = Event()
        self._began_s: float | None = None
        self._offset_s: float | None = None
        self._count = self._lost_before = 0
        self._failure: Exception | None = None
        self._newest: Newest[Frame] = Newest()
        self._last = -1
        frames = iter(source)
        self._first: Frame | None = self._receive(next(frames))
        self._thread = Thread(target=self._run, args=(frames,), name="vcedge-live", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the first frame, then always the newest; it goes on where it is.

        Raises:
            StreamLostError: it broke off, and did not come back; after the last frame.
        """
        if self._closing.is_set():
            raise SourceError(f"{self.label} is closed; open it again with open_source()")
        first, self._first = self._first, None
        if first is not None:
            self._last = first.index
            yield first
        while (newer := self._newest.take_after(self._last)) is not None:
            number, frame = newer
            dropped = number - self._last - 1
            self._last = number
            self.dropped += dropped
            yield replace(frame, dropped=dropped)
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Stop reading; a read that is under way ends by itself."""
        self._closing.set()
        self._newest.finish()
        self._thread.join(CLOSING_S)

    def _run(self, frames: Iterable[Frame]) -> None:
        """Read until it is closed or lost; nobody but this thread touches what is read."""
        try:
            opened: Iterable[Frame] | None = frames
            while opened is not None:
                reason = self._read_on(opened)
                self._lost_before = self.lost
                self._source.close()
                opened = None if self._closing.is_set() else self._open_again(reason)
        except Exception as exc:  # raised where frames are taken
            self._failure = exc
        finally:
            self._source.close()
            self._newest.finish()

    def _read_on(self, frames: Iterable[Frame]) -> str | None:
        """Hand frames on until there are no more; say why, None where it ended in order."""
        try:
            for frame in frames:
                if self._closing.is_set():
                    return None
                received = self._receive(frame)
                self._newest.put(received.index, received, wait=not self._options.drop)
                self.lost = self._lost_before + self._source.lost
        except SourceError as exc:
            return str(exc)
        return self._source.ended_early

    def _receive(self, frame: Frame) -> Frame:
        """Number a frame, and note when it came by our clock and by the source's."""
        now = monotonic()
        self._began_s = now if self._began_s is None else self._began_s
        since_s = now - self._began_s
        if frame.time_s is not None:
            if self._offset_s is None:
                self._offset_s = since_s - frame.time_s
            since_s = self._offset_s + frame.time_s
        index, self._count = self._count, self._count + 1
        name = f"{index:05d}"
        return replace(frame, index=index, name=name, lost=0, time_s=since_s, arrived_s=now)

    def _open_again(self, reason: str | None) -> Iterable[Frame] | None:
        """Open it after growing pauses; None where it ended or is given up, and why is noted."""
        attempts, pauses = self._options.reconnect, growing_pauses()
        if self._reopen is None or attempts == 0:
            self._failure = None if reason is None else self._lose(reason)
            return None
        told = reason or "it ended"
        self.connected = False
        for pause_s in islice(pauses, attempts):
            self._tell(f"{self.label} stopped ({told}); it is opened again in {pause_s:g} s")
            if self._closing.wait(pause_s):
                return None
            try:
                return self._take_over(self._reopen())
            except SourceError as exc:
                # The reason alone, where the label would stand in it once more.
                told = str(exc.__cause__ if isinstance(exc.__cause__, SourceError) else exc)
        self._failure = self._lose(told)
        return None

    def _take_over(self, source: Source) -> Iterable[Frame]:
        if source.frame_hw != self.frame_hw:
            source.close()
            (height, width), (first_height, first_width) = source.frame_hw, self.frame_hw
            raise SourceError(
                f"it came back in {height}x{width} (height x width) instead of "
                f"{first_height}x{first_width}"
            )
        self._source, self._offset_s = source, None
        self.reopened += 1
        self.connected = True
        self._tell(f"{self.label} is there again")
        return source

    def _lose(self, reason: str) -> StreamLostError:
        return StreamLostError(
            f"received {self.label}, which broke off ({reason}) and did not come back; what came "
            "before is tracked; pass --reconnect to wait longer"
        )
