"""A folder of JPEGs: frames for the tools that read pictures and no video."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import OutputError
from vcedge_runtime.files import make_folder
from vcedge_runtime.video.outputs import Output, write_noted
from vcedge_runtime.video.sources import Frame

IMAGES_NAME = "images"
LARGEST_JPEG = 65_500
"""Pixels a side that OpenCV writes."""
_QUALITY = 95


class PictureFolder:
    """Writes frames as JPEGs that are named like them.

    Args:
        folder: where they go; made where it is missing.
        output: the run's place, which records them; None to replace what has their names.

    Raises:
        OutputError: the folder cannot be made.
    """

    def __init__(self, folder: Path, output: Output | None = None) -> None:
        make_folder(folder)
        self._folder = os.fspath(folder)
        self._output = output

    def write(self, frame: Frame) -> str:
        """Write a frame; the file appears whole or not at all.

        Returns:
            The file's name.

        Raises:
            OutputError: it cannot be written.
        """
        name = f"{frame.name}.jpg"
        path = f"{self._folder}{os.sep}{name}"
        write_noted(path, encode_jpeg(frame.image, path), self._output)
        return name


def name_picture(frame: Frame) -> str:
    """Name the picture that a frame is, or that ``PictureFolder`` makes of a video's."""
    return frame.file or f"{frame.name}.jpg"


def encode_jpeg(image: NDArray[np.uint8], name: str) -> bytes:
    """Encode a picture as JPEG, of quality 95.

    Args:
        image: (H, W, 3) uint8, BGR, 0-255.
        name: what the error calls it.

    Raises:
        OutputError: it is too large for a JPEG.
    """
    height, width = image.shape[:2]
    if max(height, width) > LARGEST_JPEG:
        raise OutputError(
            f"received {name} of {height}x{width} (height x width); expected at most "
            f"{LARGEST_JPEG} a side, as JPEG holds; resize the frames"
        )
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return data.tobytes()
