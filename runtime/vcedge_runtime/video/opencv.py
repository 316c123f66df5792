"""OpenCV's file readers and writers, without their noise on the terminal."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from threading import Lock

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

MOST_PIXELS = 2**27
"""Of a picture (our choice): a file of a few kilobytes may announce gigabytes."""
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
CUT_OFF = 2**24
"""Bytes that may be missing at the end of a PNG, which OpenCV then decodes as far as it goes."""
_SILENT = 0
_WARNINGS = Lock()


class _LogLevel:
    """OpenCV's log level, which is the process's own, while some threads want it silent."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._wanting = 0
        self._before = _SILENT

    def change(self, by: int) -> None:
        """Count who wants silence: the first one finds the level, the last one puts it back."""
        log = getattr(cv2.utils, "logging", cv2)  # OpenCV 5 moved the two functions there
        with self._lock:
            if self._wanting == 0:
                self._before = log.getLogLevel()
            self._wanting += by
            log.setLogLevel(_SILENT if self._wanting else self._before)


_LEVEL = _LogLevel()


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keep OpenCV's log off the terminal: what went wrong is said by our own errors.

    OpenCV's level is the process's own, and is put back when no thread is in here any more.
    FFmpeg's is read once, when the first video opens, so it stays; whoever has set
    ``OPENCV_FFMPEG_LOGLEVEL`` himself keeps it.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    _LEVEL.change(1)
    try:
        yield
    finally:
        _LEVEL.change(-1)


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Keep off the terminal what Pillow warns of; one thread at a time is in here.

    The filters of warnings are the process's own.
    """
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def decode_image(data: bytes, flags: int) -> NDArray[np.generic] | None:
    """Decode an image file that is held in memory.

    Args:
        data: the file's bytes.
        flags: one of ``cv2.IMREAD_*``.

    Returns:
        (H, W) or (H, W, C) BGR, uint8 unless the flags allow more; None where OpenCV cannot read,
        or where it has more than ``MOST_PIXELS``.
    """
    if count_pixels(data) > MOST_PIXELS or not _holds_its_chunks(data):
        return None
    with quiet_opencv():
        try:
            return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error:
            return None


def _holds_its_chunks(data: bytes) -> bool:
    """Whether no part of a PNG claims much more than the file holds: OpenCV takes that memory."""
    at = len(PNG_SIGNATURE)
    while data.startswith(PNG_SIGNATURE) and at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if length > len(data) + CUT_OFF:
            return False
        at += 12 + length
    return True


def count_pixels(data: bytes) -> int:
    """Pixels of an image by its header, more than any bound where Pillow shrinks back from it.

    0 where Pillow does not know it; OpenCV may.
    """
    with quiet_pillow():
        try:
            with Image.open(BytesIO(data)) as picture:
                return picture.width * picture.height
        except Image.DecompressionBombError:
            return MOST_PIXELS + 1
        # Each of its formats fails in its own way.
        except Exception:
            return 0
