"""Where frames come from: a video file, a folder or glob of images, a camera, a stream."""

from __future__ import annotations

import math
import re
import threading
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.closing import Closing
from vcedge_runtime.errors import SourceError
from vcedge_runtime.video.opencv import decode_image, quiet_opencv

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
)
_EXPECTED = (
    "expected a video file, a folder or glob of images, a camera number, "
    'rtsp://... or gst:"pipeline"'
)
_STREAM = re.compile(r"(rtsps?|rtmps?|rtp|udp|tcp|srt|https?)://", re.IGNORECASE)
_LOGIN = re.compile(r"(?<=:/)(/?)(?:[^/\s]*@|[^/@:\s]*:(?!\d+/)[^@\s]*@)")
"""Who logs in, with a password that may hold @ or, unlike a host's port, a slash."""
_USER_OPTION = re.compile(r"(?<=\buser-(?:id|pw)=)(?:\"[^\"]*\"|'[^']*'|\S+)")
"""What GStreamer's sources call them."""
_MAX_LENGTH = 10**8
"""An announced number of frames beyond this is noise."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a source.

    Attributes:
        index: its place in the source, from 0.
        name: what its outputs are called: an image's stem, or five digits of a video's index.
        image: (H, W, 3) uint8, BGR, 0-255; the receiver's own.
    """

    index: int
    name: str
    image: NDArray[np.uint8]


class Source(Closing):
    """Frames in their order, all of one size; iterate over it, and close it by ``with``.

    Attributes:
        label: what the terminal calls it.
        fps: frames a second; None where nothing says.
        frame_hw: height and width of every frame.
        length: the announced number of frames; None where nothing says, or for a live source.
        live: whether frames are lost that are not read in time.
        ended_early: after the last frame, why there were fewer than announced; None otherwise.
    """

    label: str
    fps: float | None = None
    frame_hw: tuple[int, int]
    length: int | None = None
    live: bool = False
    ended_early: str | None = None

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames from the first on; a live source goes on where it is.

        Raises:
            SourceError: a frame cannot be read, or has another size than the first. The frames
                before it are good.
        """

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


def open_source(spec: str | Path | int) -> Source:
    """Open whatever a user may name.

    Args:
        spec: a video file, a folder of images (sorted as people count: 2 before 10), a glob of
            images, a camera number (digits count as one; a folder of that name is ``./0``), a
            stream (``rtsp://...``), or ``gst:"pipeline"`` for an OpenCV that has GStreamer.

    Returns:
        The source, its first frame already read; to be closed by the caller.

    Raises:
        SourceError: it does not exist, cannot be read, or holds no frame.
    """
    if isinstance(spec, int) or (isinstance(spec, str) and spec.isdecimal()):
        return VideoSource(int(spec), f"camera {int(spec)}", live=True)
    text, path = str(spec), Path(spec)
    if text.startswith("gst:"):
        return _open_pipeline(text[len("gst:") :].strip("\"' "))
    if _STREAM.match(text):
        return VideoSource(text, hide_secrets(text), live=not text.lower().startswith("http"))
    return _open_path(path)


def hide_secrets(text: str) -> str:
    """Take users and passwords out of an address or a pipeline, for a terminal or a log."""
    return _USER_OPTION.sub("...", _LOGIN.sub(r"\1", text))


class VideoSource(Source):
    """Frames that OpenCV decodes from a file, a device or a stream.

    Where a file's pictures change size, OpenCV 4.13 and later scale them to the first one's; until
    4.12 its FFmpeg reader repeats or mangles them, and nothing that it tells us shows it.

    Args:
        target: a file's name, a stream's address, a pipeline, or a camera's number.
        label: what the terminal and errors call it.
        live: whether frames are lost that are not read in time.
        backend: one of ``cv2.CAP_*``.

    Raises:
        SourceError: it cannot be opened, or gives no frame.
    """

    def __init__(
        self, target: str | int, label: str, *, live: bool, backend: int = cv2.CAP_ANY
    ) -> None:
        self.label = label
        self.live = live
        self._target = target
        self._backend = backend
        self._lock = threading.Lock()  # a capture that is released while it decodes crashes
        self._capture: cv2.VideoCapture | None = None
        self._first: NDArray[np.uint8] | None = self._open()
        self.frame_hw = (self._first.shape[0], self._first.shape[1])

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; a file begins anew each time, a live source goes on."""
        image = self._take_first()
        index = 0
        while image is not None:
            name = f"{index:05d}"
            self._require_size(image, name)
            yield Frame(index, name, image)
            image = self._read()
            index += 1
        self.ended_early = self._missing_frames(index)

    def close(self) -> None:
        """Give the file or device back; closing twice does no harm."""
        with self._lock:
            if self._capture is not None:
                self._capture.release()
                self._capture = None

    def _open(self) -> NDArray[np.uint8]:
        """Open the capture, learn what it says of itself, and read the first frame."""
        with quiet_opencv():
            self._capture = capture = cv2.VideoCapture(self._target, self._backend)
        if not capture.isOpened():
            self.close()
            raise SourceError(f"received {self.label}, which cannot be opened; {self._advice()}")
        self.fps = _fps_of(capture)
        self.length = None if self.live else _length_of(capture)
        first = self._read()
        if first is None:
            self.close()
            raise SourceError(f"received {self.label}, which gives no frame; {self._advice()}")
        return first

    def _take_first(self) -> NDArray[np.uint8] | None:
        if self._capture is None:
            raise SourceError(f"{self.label} is closed; open it again with open_source()")
        first, self._first = self._first, None
        if first is not None:
            return first
        if self.live:
            return self._read()
        self.close()
        return self._open()

    def _read(self) -> NDArray[np.uint8] | None:
        with self._lock, quiet_opencv():
            if self._capture is None:
                return None
            done, image = self._capture.read()
        return _bgr_from_image(np.asarray(image, np.uint8)) if done else None

    def _missing_frames(self, decoded: int) -> str | None:
        """Say that a file ended early; announced lengths may be a few frames off in sound files."""
        announced = self.length
        if announced is None or announced - decoded <= max(2, 0.02 * announced):
            return None
        return f"decoded {decoded} of {announced} frames: the file is truncated or damaged"

    def _advice(self) -> str:
        if isinstance(self._target, int):
            return "check that it is connected and that no other program holds it"
        if self.live:
            return "check the address or pipeline with another player"
        return "expected a video that OpenCV can decode; it may be truncated, damaged or no video"


class ImageSource(Source):
    """Frames from image files; gray ones and those with alpha become BGR, EXIF turns are applied.

    Args:
        paths: the images in their order, at least one.
        label: what the terminal and errors call them.

    Raises:
        SourceError: two images have one stem, or the first cannot be decoded.
    """

    def __init__(self, paths: Sequence[Path], label: str) -> None:
        _require_distinct_stems(paths)
        self.label = label
        self.length = len(paths)
        self._paths = paths
        first = _read_image(paths[0])
        self.frame_hw = (first.shape[0], first.shape[1])

    def __iter__(self) -> Iterator[Frame]:
        """Yield the images, from the first each time."""
        for index, path in enumerate(self._paths):
            image = _read_image(path)
            self._require_size(image, path.name)
            yield Frame(index, path.stem, image)

    def close(self) -> None:
        """Do nothing: no file stays open between two images."""


def _open_pipeline(pipeline: str) -> Source:
    label = f"pipeline {hide_secrets(pipeline)!r}"
    if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        raise SourceError(
            f"received the {label}; expected an OpenCV built with GStreamer, which "
            "this is not; install one (on Jetson the system's own), or name a file or rtsp:// URL"
        )
    return VideoSource(pipeline, label, live=True, backend=cv2.CAP_GSTREAMER)


def _open_path(path: Path) -> Source:
    if path.is_dir():
        return _open_images(path.iterdir(), path, "a folder without images")
    if path.exists():
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return ImageSource([path], str(path))
        return VideoSource(str(path), str(path), live=False)
    if re.search(r"[*?\[]", str(path)):
        found = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
        return _open_images(found, path, "a glob that matches no image")
    raise SourceError(f"received {hide_secrets(str(path))}, which does not exist; {_EXPECTED}")


def _open_images(found: Iterable[Path], path: Path, otherwise: str) -> Source:
    try:
        paths = [p for p in found if _is_image(p)]
    except OSError as exc:
        raise SourceError(f"received {path}, which cannot be listed: {exc.strerror}") from exc
    if not paths:
        suffixes = " ".join(sorted(IMAGE_SUFFIXES))
        raise SourceError(f"received {path}, {otherwise}; expected files of {suffixes}")
    return ImageSource(sorted(paths, key=_natural_key), str(path))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _natural_key(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Sort numbers by value: each run of digits, then each run of other characters."""
    runs = re.findall(r"([0-9]+)|([^0-9]+)", str(path))
    return [(int(digits or -1), text.lower()) for digits, text in runs], str(path)


def _require_distinct_stems(paths: Sequence[Path]) -> None:
    """Refuse images whose masks would get one name."""
    seen: dict[str, Path] = {}
    for path in paths:
        if path.stem in seen:
            raise SourceError(
                f"received both {seen[path.stem]} and {path}; expected stems that differ, because "
                "masks are named by them; rename one or narrow the glob"
            )
        seen[path.stem] = path


def _read_image(path: Path) -> NDArray[np.uint8]:
    try:
        image = decode_image(path.read_bytes(), cv2.IMREAD_COLOR)
    except OSError as exc:
        raise SourceError(f"received image {path}, which cannot be read: {exc.strerror}") from exc
    if image is None:
        raise SourceError(
            f"received image {path}, which cannot be decoded; expected a sound image; remove it"
        )
    return np.asarray(image, np.uint8)


def _bgr_from_image(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if image.ndim == 3 and image.shape[2] == 3:
        return image
    gray = image.ndim == 2 or image.shape[2] == 1
    turned = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR if gray else cv2.COLOR_BGRA2BGR)
    return np.asarray(turned, np.uint8)


def _fps_of(capture: cv2.VideoCapture) -> float | None:
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if math.isfinite(fps) and 0 < fps <= 1000 else None


def _length_of(capture: cv2.VideoCapture) -> int | None:
    length = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return int(length) if 0 < length < _MAX_LENGTH else None
