"""No more frames than are wanted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from time import monotonic, sleep

from vcedge_runtime.video.frame import Frame


def pace(frames: Iterable[Frame], most_fps: float | None) -> Iterator[Frame]:
    """Take frames no faster than so many a second.

    The wait comes before a frame is asked for: of a live source, it is the newest one then.

    Args:
        frames: a source, or what hands on its frames.
        most_fps: frames a second; None for as many as come.

    Yields:
        The frames in their order; none of a file is left out.
    """
    iterator, due_s = iter(frames), float("-inf")
    while True:
        wait_s = due_s - monotonic()
        if wait_s > 0:
            sleep(wait_s)
        taken = next(iterator, None)
        if taken is None:
            return
        due_s = monotonic() + (1 / most_fps if most_fps else 0)
        yield taken
