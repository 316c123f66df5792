"""Video encoded by FFmpeg through PyAV, into a file that Python opened, whatever its name."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from io import SEEK_SET, BufferedWriter, FileIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import OutputError
from vcedge_runtime.video.ffmpeg import import_av, tell_reason

if TYPE_CHECKING:
    from av import VideoFrame
    from typing_extensions import Buffer

CODECS = {"libx264": {"preset": "ultrafast", "crf": "20"}, "mpeg4": {"qscale": "3"}}
"""What is taken, the first that FFmpeg has, with its options (our choice: the fastest that browsers
play); builds without GPL parts have MPEG-4 alone."""
FRAGMENTS = {"movflags": "empty_moov+default_base_moof", "frag_duration": "500000"}
"""An index every half second: one of the whole is held to the end, 70 bytes a frame, and a camera
may run for weeks. What is written of a run that is killed then plays, too."""
TICKS = 1000
"""In a second, where every frame has its time."""
_MOST_TICKS = 65_535
"""MPEG-4 has no more ticks in a second."""


class VideoEncoder:
    """Encodes frames to an MP4 file; whole once it is closed.

    Args:
        place: the file; ends in ``.mp4``.
        fps: frames a second.
        frame_hw: height and width of every frame, even.
        timed: every frame comes with its time; else they are as far apart as ``fps`` says.

    Raises:
        OSError: the file cannot be written.
        OutputError: frames of this size or rate cannot be encoded; the message is the reason alone.
        MissingExtraError: PyAV is not installed.
    """

    def __init__(
        self, place: Path, fps: float, frame_hw: tuple[int, int], *, timed: bool = False
    ) -> None:
        self._av = import_av()
        codec = next(name for name in CODECS if name in self._av.codecs_available)
        self._file = _Output(place)
        self._last_tick = -1
        try:
            self._container = self._av.open(self._file, "w", format="mp4", options=FRAGMENTS)
            self._stream = self._container.add_stream(
                codec, rate=_rate_of(fps), options=CODECS[codec]
            )
            self._stream.height, self._stream.width = frame_hw
            self._stream.pix_fmt = "yuv420p"
            if timed:
                self._stream.codec_context.time_base = Fraction(1, TICKS)
            # A thread of its own encodes no faster than frames are tracked.
            self._stream.codec_context.thread_count = 1
            self._stream.codec_context.open()
        except (self._av.FFmpegError, ValueError, OverflowError) as exc:
            self.discard()
            raise OutputError(tell_reason(exc)) from exc

    def write(self, image: NDArray[np.uint8], time_s: float | None = None) -> None:
        """Encode a frame.

        Args:
            image: (H, W, 3) uint8, BGR, 0-255.
            time_s: seconds after the first frame's, where it is ``timed``; one that is not later
                than the last is shown right after it.

        Raises:
            OSError: it cannot be written.
        """
        frame = self._av.VideoFrame.from_ndarray(image, format="bgr24")
        if time_s is not None:
            self._last_tick = max(self._last_tick + 1, round(TICKS * time_s))
            frame.pts, frame.time_base = self._last_tick, Fraction(1, TICKS)
        self._mux(frame)

    def close(self) -> None:
        """Finish the file.

        Raises:
            OSError: it cannot be written.
        """
        self._mux(None)
        self._container.close()
        self._file.require_written()
        self._file.close()

    def discard(self) -> None:
        """Give the file back as it is, after something failed."""
        self._file.give_up()
        with suppress(OSError, AttributeError):
            self._container.close()
        with suppress(OSError):
            self._file.close()

    def _mux(self, frame: VideoFrame | None) -> None:
        for packet in self._stream.encode(frame):
            self._container.mux(packet)
        self._file.require_written()


class _Output(BufferedWriter):
    """A file for FFmpeg, which takes no failure well: after one, it writes to nowhere.

    The failure is raised where FFmpeg is done.
    """

    def __init__(self, place: Path) -> None:
        super().__init__(FileIO(place, "wb"))
        self._failure: OSError | None = None

    def write(self, data: Buffer) -> int:
        if self._failure is None:
            try:
                return super().write(data)
            except OSError as exc:
                self._failure = exc
        return memoryview(data).nbytes

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        if self._failure is None:
            try:
                return super().seek(offset, whence)
            except OSError as exc:
                self._failure = exc
        return offset

    def give_up(self) -> None:
        """Write to nowhere from now on."""
        self._failure = self._failure or OSError("given up")

    def require_written(self) -> None:
        """Raise what a write or a seek failed by."""
        if self._failure is not None:
            raise self._failure


def _rate_of(fps: float) -> Fraction:
    return Fraction(fps).limit_denominator(max(1, min(1001, int(_MOST_TICKS / fps))))
