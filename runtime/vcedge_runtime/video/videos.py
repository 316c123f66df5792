"""Frames that come one after the other: from files and streams by PyAV, from cameras by OpenCV."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import SourceError
from vcedge_runtime.video.decoding import Decoded, VideoDecoder
from vcedge_runtime.video.frame import Frame, Source
from vcedge_runtime.video.opencv import quiet_opencv

_MOST_FPS = 1000
NO_MORE = "it gives no more frames"
"""A camera or a pipeline says no more than that."""


class VideoSource(Source):
    """Frames of a video file or of a stream, as its own decoder gives them.

    A frame that cannot be decoded is passed over and keeps its number; what the rest refers to it
    for may look damaged until the next key frame.

    Args:
        target: a file, or a stream's address.
        label: what the terminal and errors call it.
        live: whether frames are lost that are not read in time; None to take an address that
            announces no length for such a stream.

    Attributes:
        target: as given.

    Raises:
        SourceError: it cannot be opened, or gives no frame.
        MissingExtraError: PyAV is not installed.
    """

    def __init__(self, target: Path | str, label: str, *, live: bool | None = False) -> None:
        self.label = label
        self._announced_live = live
        self.target = target
        self._lock = threading.Lock()  # a container that is closed while it decodes crashes
        self._decoder: VideoDecoder | None = None
        self._frames: Iterator[Decoded] = iter(())
        self._first: Decoded | None = self._open()
        self.frame_hw = (self._first.image.shape[0], self._first.image.shape[1])

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; a file begins anew each time, a live source goes on."""
        decoded, expected = self._take_first(), 0
        began_s = None if decoded is None else decoded.time_s
        while decoded is not None:
            name = f"{decoded.number:05d}"
            self._require_size(decoded.image, name)
            lost = decoded.number - expected
            time_s = _seconds_since(began_s, decoded.time_s)
            yield Frame(decoded.number, name, decoded.image, lost, time_s=time_s)
            expected = decoded.number + 1
            decoded = self._read()
        if self._decoder is not None:
            self.ended_early = self._decoder.damage
            if not self.live:
                self.doubts = tuple(self._decoder.list_doubts())

    def close(self) -> None:
        """Give the file or stream back; closing twice does no harm."""
        with self._lock:
            if self._decoder is not None:
                self._decoder.close()
                self._decoder = None

    def _open(self) -> Decoded:
        """Open the decoder, learn what the container says of itself, and read the first frame."""
        try:
            self._decoder = VideoDecoder(self.target)
        except SourceError as exc:
            raise self._refuse("cannot be opened", str(exc)) from exc
        self._frames = iter(self._decoder)
        self.fps = self._decoder.fps
        given = self._announced_live
        self.live = self._decoder.length is None if given is None else given
        self.length = None if self.live else self._decoder.length
        first = self._read()
        if first is None:
            reason = self._decoder.damage or "it may be truncated, damaged or no video"
            self.close()
            raise self._refuse("gives no frame", reason)
        return first

    def _take_first(self) -> Decoded | None:
        if self._decoder is None:
            raise SourceError(f"{self.label} is closed; open it again with open_source()")
        first, self._first = self._first, None
        if first is not None:
            return first
        if self.live:
            return self._read()
        self.close()
        return self._open()

    def _read(self) -> Decoded | None:
        with self._lock, quiet_opencv():
            if self._decoder is None:
                return None
            try:
                return next(self._frames, None)
            except SourceError as exc:
                raise self._refuse("cannot be decoded on", str(exc)) from exc
            finally:
                self.lost = len(self._decoder.lost)

    def _refuse(self, what: str, reason: str) -> SourceError:
        advice = (
            "check the address with another player"
            if isinstance(self.target, str)
            else "expected a video that FFmpeg can decode"
        )
        return SourceError(f"received {self.label}, which {what} ({reason}); {advice}")


class CameraSource(Source):
    """Frames of a camera or of a GStreamer pipeline, through OpenCV.

    Args:
        target: a camera's number, or a pipeline.
        label: what the terminal and errors call it.
        backend: one of ``cv2.CAP_*``.

    Raises:
        SourceError: it cannot be opened, or gives no frame.
    """

    live = True

    def __init__(self, target: str | int, label: str, backend: int = cv2.CAP_ANY) -> None:
        self.label = label
        self._target = target
        self._lock = threading.Lock()  # a capture that is released while it reads crashes
        with quiet_opencv():
            self._capture: cv2.VideoCapture | None = cv2.VideoCapture(target, backend)
        if not self._capture.isOpened():
            raise self._refuse("cannot be opened")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if math.isfinite(fps) and 0 < fps <= _MOST_FPS else None
        self._first = self._read()
        if self._first is None:
            raise self._refuse("gives no frame")
        self.frame_hw = (self._first.shape[0], self._first.shape[1])
        self._index = 0

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; it goes on where it is."""
        if self._capture is None:
            raise SourceError(f"{self.label} is closed; open it again with open_source()")
        first, self._first = self._first, None
        image = self._read() if first is None else first
        while image is not None:
            name = f"{self._index:05d}"
            self._require_size(image, name)
            self._index += 1
            yield Frame(self._index - 1, name, image)
            image = self._read()
        self.ended_early = None if self._capture is None else NO_MORE

    def close(self) -> None:
        """Give the device back; closing twice does no harm."""
        with self._lock:
            if self._capture is not None:
                self._capture.release()
                self._capture = None

    def _read(self) -> NDArray[np.uint8] | None:
        with self._lock, quiet_opencv():
            if self._capture is None:
                return None
            done, image = self._capture.read()
        return _bgr_from_image(np.asarray(image, np.uint8)) if done else None

    def _refuse(self, what: str) -> SourceError:
        self.close()
        advice = (
            "check that it is connected and that no other program holds it"
            if isinstance(self._target, int)
            else "check the pipeline with gst-launch-1.0"
        )
        return SourceError(f"received {self.label}, which {what}; {advice}")


def _seconds_since(began_s: float | None, time_s: float | None) -> float | None:
    return None if began_s is None or time_s is None else time_s - began_s


def _bgr_from_image(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if image.ndim == 3 and image.shape[2] == 3:
        return image
    gray = image.ndim == 2 or image.shape[2] == 1
    turned = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR if gray else cv2.COLOR_BGRA2BGR)
    return np.asarray(turned, np.uint8)
