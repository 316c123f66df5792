"""What the studio looks at: a recorded video, any frame of it, or the last minutes of a camera."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.closing import Closing
from vcedge_runtime.errors import SourceError
from vcedge_runtime.video.frame import Frame, Source
from vcedge_runtime.video.pictures import ImageSource
from vcedge_runtime.video.seeking import FrameReader
from vcedge_runtime.video.sources import open_source

VIEW_SIDE = 1600
"""Longest side of a frame as the page shows it, in pixels (our choice)."""
KEPT_BYTES = 2**27
"""Of decoded frames that are kept for the page, and as much for the tracker (our choice)."""
RING_BYTES = 2**28
"""Of a camera's frames that stay, as JPEG (our choice): the last minutes."""
_VIEW_QUALITY, _RING_QUALITY = 88, 94
WAIT_SECONDS = 20.0
"""What a camera may take to give another frame."""


class Footage(Closing):
    """Frames by their number.

    Attributes:
        label: what the page calls it.
        name: what exported files are called.
        frame_hw: height and width of every frame.
        fps: frames a second; None where nothing says.
        live: whether it grows, and loses its oldest frames.
    """

    label: str
    name: str
    frame_hw: tuple[int, int]
    fps: float | None
    live = False

    @property
    @abstractmethod
    def span(self) -> range:
        """Numbers of the frames that are there."""

    @abstractmethod
    def read(self, index: int) -> Frame:
        """Read a frame for the tracker; its image is only read.

        Raises:
            SourceError: it is not there, or cannot be decoded.
        """

    @abstractmethod
    def show(self, index: int) -> Frame:
        """Read a frame for the page, which looks here and there; as ``read``."""

    def name_frame(self, index: int) -> Frame:
        """A frame by its number and name, without a pixel."""
        return Frame(index, f"{index:05d}", np.zeros((0, 0, 3), np.uint8))

    @property
    def view_hw(self) -> tuple[int, int]:
        """Height and width in which the page shows a frame."""
        height, width = self.frame_hw
        scale = min(1.0, VIEW_SIDE / max(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))

    def view(self, index: int) -> bytes:
        """Encode a frame as the page shows it, a JPEG."""
        return encode_jpeg(shrink(self.show(index).image, self.view_hw), _VIEW_QUALITY)


class RecordedFootage(Footage):
    """A recorded video.

    Args:
        source: opened; closed with the footage.
        reopen: opens it once more: the tracker reads at another place than the page.
        label: what the page calls it; the source's own label when None.
    """

    def __init__(
        self, source: Source, reopen: Callable[[], Source], label: str | None = None
    ) -> None:
        self.label = Path(source.label).name if label is None else label
        self.name = name_files(self.label)
        self.frame_hw, self.fps = source.frame_hw, source.fps
        self._shown = FrameReader(source, most_bytes=KEPT_BYTES)
        self._reopen = reopen
        self._read: FrameReader | None = None
        self._lock = threading.Lock()

    @property
    def span(self) -> range:
        """Every frame."""
        return range(self._shown.length)

    def read(self, index: int) -> Frame:
        """Read a frame for the tracker."""
        with self._lock:
            if self._read is None:
                self._read = FrameReader(
                    self._reopen(), most_bytes=KEPT_BYTES, length=self._shown.length
                )
            reader = self._read
        return reader.read(index)

    def name_frame(self, index: int) -> Frame:
        """A frame by its number and name; images are called as their files."""
        source = self._shown.source
        if isinstance(source, ImageSource):
            return Frame(index, source.name_frame(index), np.zeros((0, 0, 3), np.uint8))
        return super().name_frame(index)

    def show(self, index: int) -> Frame:
        """Read a frame for the page; what the tracker has just read is not decoded again."""
        found = self._read.find(index) if self._read is not None else None
        return found or self._shown.read(index)

    def close(self) -> None:
        """Give the files back."""
        self._shown.close()
        if self._read is not None:
            self._read.close()


class LiveFootage(Footage):
    """A camera or a stream: a thread keeps the newest frame; those that were taken stay a while.

    Args:
        source: opened; closed with the footage.
        most_bytes: of the frames that stay.
    """

    live = True

    def __init__(self, source: Source, *, most_bytes: int = RING_BYTES) -> None:
        self.label = source.label
        self.name = name_files(source.label)
        self.frame_hw, self.fps = source.frame_hw, source.fps
        self._source = source
        self._most = most_bytes
        self._bytes = 0
        self._ring: OrderedDict[int, bytes] = OrderedDict()
        self._count = 0
        self._newest: NDArray[np.uint8] | None = None
        self._ended: str | None = None
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._keep_newest, daemon=True, name="vcedge-camera")
        self._reader.start()
        self.take()

    @property
    def span(self) -> range:
        """The frames that were taken and are still there."""
        with self._changed:
            return range(next(iter(self._ring), self._count), self._count)

    def take(self) -> Frame:
        """Take the newest frame that nobody has taken; waits for it.

        Raises:
            SourceError: none came.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._ended, WAIT_SECONDS)
            image, self._newest = self._newest, None
            if image is None:
                reason = self._ended or f"no frame came in {WAIT_SECONDS:.0f} s"
                raise SourceError(f"{self.label}: {reason}; check that it is connected")
            index, self._count = self._count, self._count + 1
        data = encode_jpeg(image, _RING_QUALITY)
        with self._changed:
            self._ring[index] = data
            self._bytes += len(data)
            while self._bytes > self._most and len(self._ring) > 1:
                self._bytes -= len(self._ring.popitem(last=False)[1])
        return Frame(index, f"{index:05d}", image)

    def read(self, index: int) -> Frame:
        """Read a frame that was taken."""
        with self._changed:
            data = self._ring.get(index)
        if data is None:
            raise SourceError(
                f"received frame {index} of {self.label}; expected one of those that are still "
                "there; go to a later one"
            )
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        return Frame(index, f"{index:05d}", np.asarray(image, np.uint8))

    show = read

    def close(self) -> None:
        """Give the camera back."""
        self._source.close()
        self._reader.join(timeout=2.0)

    def _keep_newest(self) -> None:
        try:
            for frame in self._source:
                self._tell(frame.image, None)
            self._tell(None, self._source.ended_early or "it gives no more frames")
        except SourceError as exc:
            self._tell(None, str(exc))

    def _tell(self, image: NDArray[np.uint8] | None, ended: str | None) -> None:
        with self._changed:
            self._newest = self._newest if image is None else image
            self._ended = ended
            self._changed.notify_all()


def open_footage(spec: str) -> Footage:
    """Open what the user named: see ``open_source``.

    Raises:
        SourceError: it cannot be opened.
    """
    source = open_source(spec)
    if source.live:
        return LiveFootage(source)
    return RecordedFootage(source, lambda: open_source(spec))


def name_files(label: str) -> str:
    """A name for files of what has a label."""
    name = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in label)
    return Path(name.strip("._")).stem or "video"


def shrink(image: NDArray[np.uint8], to_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Bring an image to a smaller size; one that has it already stays as it is."""
    if image.shape[:2] == to_hw:
        return image
    return np.asarray(cv2.resize(image, to_hw[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def encode_jpeg(image: NDArray[np.uint8], quality: int) -> bytes:
    """Encode (H, W, 3) uint8 BGR as a JPEG."""
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise SourceError(f"received a frame of {image.shape[:2]}, which JPEG cannot hold")
    return bytes(data)
