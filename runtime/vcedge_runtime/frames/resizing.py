"""From a frame of any size to the working size."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import TrackerError
from vcedge_runtime.frames.colour import LAB, InputColour

LARGEST_SIZE = 4096
"""Largest working size, the short side in pixels (our choice)."""
MOST_PIXELS = 2**25
"""Most pixels of a frame as it is encoded: about those of 8K (our choice)."""
LONGEST = 8
"""Ratio of long to short side up to which a frame is worked on at the wanted size (our choice)."""


def working_size(frame_hw: tuple[int, int], size: int, stride: int) -> tuple[int, int]:
    """Size in which a frame is encoded: its short side about ``size``, both sides whole key cells.

    A frame that is longer than ``LONGEST`` to 1 gets about as many pixels as one of that shape, so
    that time and memory have a bound; two cells remain on its short side.

    Args:
        frame_hw: the frame's height and width.
        size: wanted short side, 1 to ``LARGEST_SIZE``.
        stride: pixels per key cell.

    Returns:
        Height and width, multiples of ``stride``.

    Raises:
        TrackerError: the size is out of bounds, or the frame would have over ``MOST_PIXELS``.
    """
    scale = scale_for(frame_hw, size)
    height, width = (max(2, round(side * scale / stride)) * stride for side in frame_hw)
    check_size((height, width), size, frame_hw)
    return height, width


def scale_for(frame_hw: tuple[int, int], size: int) -> float:
    """Pixels of the working size to one of a frame, see ``working_size``.

    Raises:
        TrackerError: the size is out of bounds.
    """
    if not 1 <= size <= LARGEST_SIZE:
        raise TrackerError(f"received a working size of {size}; expected 1 to {LARGEST_SIZE}")
    short, long = sorted(frame_hw)
    return size / short * min(1.0, math.sqrt(LONGEST * short / long))


def check_size(work_hw: tuple[int, int], size: int, frame_hw: tuple[int, int]) -> None:
    """Refuse over ``MOST_PIXELS`` pixels of a frame as it is encoded.

    Raises:
        TrackerError: there are more.
    """
    height, width = work_hw
    if height * width > MOST_PIXELS:
        most = int(size * math.sqrt(MOST_PIXELS / (height * width)))
        raise TrackerError(
            f"received a working size of {size} for frames of {frame_hw[1]}x{frame_hw[0]}, which "
            f"would be encoded at {width}x{height}; expected at most {MOST_PIXELS / 1e6:.0f} "
            f"million pixels; choose a working size of about {most}"
        )


def prepare_frame(
    frame: NDArray[np.uint8], work_hw: tuple[int, int], colour: InputColour = LAB
) -> NDArray[np.float32]:
    """Resize a frame, averaging when it gets smaller, and convert it to what an encoder takes.

    One of four times the size or more is first brought to half as often as that leaves twice the
    size: four times as fast, and 0.4 of 255 levels apart on average (our choice).

    Args:
        frame: (H, W, 3) uint8 BGR; left as it is.
        work_hw: h and w.
        colour: the encoder's.

    Returns:
        (h, w, 3) float32, owned by the caller.
    """
    while _can_halve(frame, work_hw):
        half = (frame.shape[1] // 2, frame.shape[0] // 2)
        frame = np.asarray(cv2.resize(frame, half, interpolation=cv2.INTER_AREA), np.uint8)
    if frame.shape[:2] != work_hw:
        method = cv2.INTER_AREA if work_hw[0] < frame.shape[0] else cv2.INTER_LINEAR
        frame = np.asarray(cv2.resize(frame, work_hw[::-1], interpolation=method), np.uint8)
    return colour.convert(frame)


def _can_halve(frame: NDArray[np.uint8], work_hw: tuple[int, int]) -> bool:
    """Whether half a frame has whole pixels, and still twice the size or more."""
    sides = zip(frame.shape[:2], work_hw, strict=True)
    return all(side % 2 == 0 and side >= 4 * wanted for side, wanted in sides)


def check_frame(frame: NDArray[np.uint8]) -> None:
    """Refuse what is no (H, W, 3) uint8 array with a pixel at least.

    Raises:
        TrackerError: it is none.
    """
    array = isinstance(frame, np.ndarray)
    if not array or frame.dtype != np.uint8 or frame.shape[2:] != (3,) or 0 in frame.shape:
        received = f"{frame.dtype}{frame.shape}" if array else type(frame).__name__
        raise TrackerError(
            f"received a frame {received}; expected uint8 (H, W, 3), BGR, as a numpy array"
        )
