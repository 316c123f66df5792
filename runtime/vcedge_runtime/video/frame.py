"""What a source is: frames in their order, all of one size."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.closing import Closing
from vcedge_runtime.errors import SourceError


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a source.

    Attributes:
        index: its place in the source, from 0; a frame that cannot be decoded keeps its place.
        name: what its outputs are called: an image's stem, or five digits of a video's index.
        image: (H, W, 3) uint8, BGR, 0-255; the receiver's own.
        lost: how many frames right before it could not be decoded.
        file: name of the picture that it is; empty for a frame of a video.
        time_s: seconds since the source's first frame, by the source's own clock where it has one;
            None where nothing says.
        arrived_s: when it was there, by ``time.monotonic``; None for one that waited to be read.
        dropped: how many frames of a live source right before it came too late to be handed on.
        age_ms: milliseconds from when it was there to its result; None before that.
    """

    index: int
    name: str
    image: NDArray[np.uint8]
    lost: int = 0
    file: str = ""
    time_s: float | None = None
    arrived_s: float | None = None
    dropped: int = 0
    age_ms: float | None = None


class Source(Closing):
    """Frames in their order, all of one size; iterate over it, and close it by ``with``.

    Attributes:
        label: what the terminal calls it.
        fps: frames a second; None where nothing says.
        frame_hw: height and width of every frame.
        length: the announced number of frames, an estimate; None where nothing says, or for a live
            source.
        live: whether frames are lost that are not read in time.
        dropped: frames that were lost so.
        reopened: how many times it stopped and was opened again.
        connected: whether it is open, and does not wait to be opened again.
        lost: frames that could not be decoded so far.
        left_out: names of files in a folder that are no frames of it.
        narrow: lowest and highest value of the first image of 16 bits, where they are so close that
            ``depth_range`` would show more; None otherwise.
        ended_early: after the last frame, why there should be more; None otherwise.
        doubts: after the last frame, what the times of the frames say of a file that may be
            damaged, each for people.
    """

    label: str
    fps: float | None = None
    frame_hw: tuple[int, int]
    length: int | None = None
    live: bool = False
    dropped: int = 0
    reopened: int = 0
    connected: bool = True
    lost: int = 0
    left_out: tuple[str, ...] = ()
    narrow: tuple[int, int] | None = None
    ended_early: str | None = None
    doubts: tuple[str, ...] = ()

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames from the first on; a live source goes on where it is.

        Raises:
            SourceError: a frame cannot be read, or has another size than the first. The frames
                before it are good.
        """

    def read_span(self, start: int, stop: int) -> list[Frame]:
        """Read the frames from an index to before another, from the beginning; no live source can.

        Those that are not there, or cannot be decoded, are left out.

        Raises:
            SourceError: a frame cannot be read.
        """
        before = takewhile(lambda frame: frame.index < stop, self)
        return [frame for frame in before if frame.index >= start]

    @abstractmethod
    def close(self) -> None:
        """Give the file or device back; closing twice does no harm."""

    def _require_size(self, image: NDArray[np.uint8], name: str) -> None:
        (height, width), (first_height, first_width) = image.shape[:2], self.frame_hw
        if (height, width) != self.frame_hw:
            raise SourceError(
                f"received frame {name} of {height}x{width} (height x width) in {self.label}; "
                f"expected {first_height}x{first_width} like the first; bring them to one size"
            )
