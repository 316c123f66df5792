"""Video encoded by FFmpeg through PyAV, into a file that Python opened, whatever its name."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from io import BufferedWriter, FileIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import OutputError
from vcedge_runtime.video.ffmpeg import import_av, tell_reason

if TYPE_CHECKING:
    from typing_extensions import Buffer

CODECS = {"libx264": {"preset": "ultrafast", "crf": "20"}, "mpeg4": {"qscale": "3"}}
"""What is taken, the first that FFmpeg has, with its options (our choice: the fastest that browsers
play); builds without GPL parts have MPEG-4 alone."""
_MOST_TICKS = 65_535
"""MPEG-4 has no more ticks in a second."""


class VideoEncoder:
    """Encodes frames to an MP4 file; whole once it is closed.

    Args:
        place: the file; ends in ``.mp4``.
        fps: frames a second.
        frame_hw: height and width of every frame, even.

    Raises:
        OSError: the file cannot be written.
        OutputError: frames of this size or rate cannot be encoded; the message is the reason alone.
        MissingExtraError: PyAV is not installed.
    """

    def __init__(self, place: Path, fps: float, frame_hw: tuple[int, int]) -> None:
        self._av = import_av()
        codec = next(name for name in CODECS if name in self._av.codecs_available)
        self._file = _Output(place)
        try:
            self._container = self._av.open(self._file, "w", format="mp4")
            self._stream = self._container.add_stream(
                codec, rate=_rate_of(fps), options=CODECS[codec]
            )
            self._stream.height, self._stream.width = frame_hw
            self._stream.pix_fmt = "yuv420p"
            # A thread of its own encodes no faster than frames are tracked.
            self._stream.codec_context.thread_count = 1
            self._stream.codec_context.open()
        except (self._av.FFmpegError, ValueError, OverflowError) as exc:
            self.discard()
            raise OutputError(tell_reason(exc)) from exc

    def write(self, image: NDArray[np.uint8]) -> None:
        """Encode a frame.

        Args:
            image: (H, W, 3) uint8, BGR, 0-255.

        Raises:
            OSError: it cannot be written.
        """
        frame = self._av.VideoFrame.from_ndarray(image, format="bgr24")
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def close(self) -> None:
        """Finish the file.

        Raises:
            OSError: it cannot be written.
        """
        for packet in self._stream.encode(None):
            self._container.mux(packet)
        self._container.close()
        self._file.close()

    def discard(self) -> None:
        """Give the file back as it is, after something failed."""
        self._file.given_up = True
        with suppress(OSError, AttributeError):
            self._container.close()
        with suppress(OSError):
            self._file.close()


class _Output(BufferedWriter):
    """A file for FFmpeg, which goes on writing what has failed.

    Attributes:
        given_up: whether nothing is written any more.
    """

    def __init__(self, place: Path) -> None:
        super().__init__(FileIO(place, "wb"))
        self.given_up = False

    def write(self, data: Buffer) -> int:
        return memoryview(data).nbytes if self.given_up else super().write(data)


def _rate_of(fps: float) -> Fraction:
    return Fraction(fps).limit_denominator(max(1, min(1001, int(_MOST_TICKS / fps))))
