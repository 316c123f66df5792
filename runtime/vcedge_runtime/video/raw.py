"""Frames without any container, as another program pipes them: bytes alone, all of one size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from io import FileIO
from types import MappingProxyType
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import SourceError
from vcedge_runtime.video.frame import Frame, Source
from vcedge_runtime.video.opencv import MOST_PIXELS

STANDARD_INPUT = 0
"""Its handle."""


class _Layout(NamedTuple):
    """How a pixel format lies in memory.

    Attributes:
        rows: rows of bytes for each row of the frame; planes of colour lie below the first one.
        channels: bytes of a pixel in a row.
        code: OpenCV's conversion to BGR; None where it is that.
        even: whether height and width must be even.
    """

    rows: Fraction
    channels: int
    code: int | None
    even: tuple[bool, bool] = (False, False)


_ONE, _PLANES = Fraction(1), Fraction(3, 2)
PIXEL_FORMATS = MappingProxyType(
    {
        "bgr24": _Layout(_ONE, 3, None),
        "rgb24": _Layout(_ONE, 3, cv2.COLOR_RGB2BGR),
        "bgra": _Layout(_ONE, 4, cv2.COLOR_BGRA2BGR),
        "rgba": _Layout(_ONE, 4, cv2.COLOR_RGBA2BGR),
        "gray": _Layout(_ONE, 1, cv2.COLOR_GRAY2BGR),
        "yuyv422": _Layout(_ONE, 2, cv2.COLOR_YUV2BGR_YUY2, (False, True)),
        "uyvy422": _Layout(_ONE, 2, cv2.COLOR_YUV2BGR_UYVY, (False, True)),
        "nv12": _Layout(_PLANES, 1, cv2.COLOR_YUV2BGR_NV12, (True, True)),
        "yuv420p": _Layout(_PLANES, 1, cv2.COLOR_YUV2BGR_I420, (True, True)),
    }
)
"""By FFmpeg's names; YUV is of the limited range and BT.601, as OpenCV takes it."""


@dataclass(frozen=True)
class RawFormat:
    """What a stream of frames without a container holds.

    Attributes:
        frame_hw: height and width of every frame.
        pixels: a key of ``PIXEL_FORMATS``.
        fps: frames a second; None where nobody says.

    Raises:
        SourceError: there are no such frames.
    """

    frame_hw: tuple[int, int]
    pixels: str = "bgr24"
    fps: float | None = None

    def __post_init__(self) -> None:
        height, width = self.frame_hw
        layout = PIXEL_FORMATS.get(self.pixels)
        if layout is None:
            known = ", ".join(PIXEL_FORMATS)
            raise SourceError(f"received the pixel format {self.pixels!r}; expected one of {known}")
        if not (height > 0 < width and height * width <= MOST_PIXELS):
            raise SourceError(
                f"received raw frames of {width}x{height} (width x height); expected at least one "
                f"pixel and at most {MOST_PIXELS}"
            )
        odd = (layout.even[0] and height % 2) or (layout.even[1] and width % 2)
        if odd:
            raise SourceError(
                f"received raw frames of {width}x{height} (width x height) in {self.pixels}; "
                "expected even sides, since two pixels share a colour"
            )
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise SourceError(f"received {self.fps:g} raw frames a second; expected 0 to 1000")

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame."""
        height, width = self.frame_hw
        layout = PIXEL_FORMATS[self.pixels]
        return int(layout.rows * height) * width * layout.channels

    def image_from_bytes(self, data: bytearray) -> NDArray[np.uint8]:
        """Make BGR of a frame's bytes.

        Args:
            data: ``frame_bytes`` of them.

        Returns:
            (H, W, 3) uint8, BGR, 0-255; over the same memory where that is BGR already.
        """
        height, width = self.frame_hw
        layout = PIXEL_FORMATS[self.pixels]
        array = np.frombuffer(data, np.uint8)
        given = array.reshape(int(layout.rows * height), width, layout.channels)
        return given if layout.code is None else np.asarray(cv2.cvtColor(given, layout.code))


class RawSource(Source):
    """Frames of bytes alone from standard input, or from another handle.

    It ends where the other program closes it; within a frame, ``ended_early`` says so.

    Args:
        form: what the frames are.
        handle: read from where it is; left open.
        label: what the terminal and errors call it.

    Raises:
        SourceError: there is no frame.
    """

    live = True

    def __init__(
        self, form: RawFormat, handle: int = STANDARD_INPUT, label: str = "standard input"
    ) -> None:
        self.label, self.fps, self.frame_hw = label, form.fps, form.frame_hw
        self._form = form
        # Without Python's buffer, whose lock a thread that waits for bytes would hold at the end.
        self._file = FileIO(handle, closefd=False)
        self._index = 0
        self._first = self._read()
        if self._first is None:
            raise SourceError(
                f"received {label} without a whole frame of {form.frame_bytes} bytes; expected "
                f"frames of {form.pixels}; look at what the other program says"
            )

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; it goes on where it is."""
        first, self._first = self._first, None
        image = self._read() if first is None else first
        while image is not None:
            index, self._index = self._index, self._index + 1
            time_s = None if self.fps is None else index / self.fps
            yield Frame(index, f"{index:05d}", image, time_s=time_s)
            image = self._read()

    def close(self) -> None:
        """Read no more; what is read stays open."""
        self._file.close()

    def _read(self) -> NDArray[np.uint8] | None:
        data = bytearray(self._form.frame_bytes)
        rest = memoryview(data)
        while rest:
            try:
                read = self._file.readinto(rest) or 0
            except (OSError, ValueError) as exc:
                raise SourceError(
                    f"received {self.label}, which cannot be read ({exc}); expected raw frames"
                ) from exc
            if not read:
                held = len(data) - len(rest)
                if held:
                    self.ended_early = f"it ended after {held} of the {len(data)} bytes of a frame"
                return None
            rest = rest[read:]
        return self._form.image_from_bytes(data)
