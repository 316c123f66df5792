"""OpenCV's file readers and writers, without their noise on the terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
from numpy.typing import NDArray

_SILENT = 0


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keep OpenCV's log off the terminal: what went wrong is said by our own errors.

    OpenCV's level is the process's own and is put back at the end. FFmpeg's is read once, when the
    first video opens, so it stays; whoever has set ``OPENCV_FFMPEG_LOGLEVEL`` himself keeps it.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    log = getattr(cv2.utils, "logging", cv2)  # OpenCV 5 moved the two functions there
    level = log.getLogLevel()
    log.setLogLevel(_SILENT)
    try:
        yield
    finally:
        log.setLogLevel(level)


def decode_image(data: bytes, flags: int) -> NDArray[np.generic] | None:
    """Decode an image file that is held in memory.

    Args:
        data: the file's bytes.
        flags: one of ``cv2.IMREAD_*``.

    Returns:
        (H, W) or (H, W, C) BGR, uint8 unless the flags allow more; None where OpenCV cannot read.
    """
    with quiet_opencv():
        try:
            return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error:
            return None
