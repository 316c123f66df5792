"""From a camera's colours to the encoder's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.settings import Bounds, check_settings

SPACES = ("lab", "rgb")
"""What colours are written in: CIE Lab, L 0-100 and a, b about -127 to 127; or RGB, each 0-255."""
CHANNELS = Bounds(3, 3)
Mean = Annotated[float, Bounds(-1000, 1000)]
Scale = Annotated[float, Bounds(0.01, 1000)]


@dataclass(frozen=True)
class InputColour:
    """What an encoder takes of a colour: (c - mean) / scale of each channel c.

    Attributes:
        space: one of ``SPACES``.
        mean: of each channel, -1000 to 1000.
        scale: of each channel, 0.01 to 1000.
    """

    space: Annotated[str, SPACES] = "lab"
    mean: Annotated[tuple[Mean, ...], CHANNELS] = (50.0, 0.0, 0.0)
    scale: Annotated[tuple[Scale, ...], CHANNELS] = (50.0, 127.0, 127.0)

    def __post_init__(self) -> None:
        check_settings(self)

    def convert(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Convert a frame.

        Args:
            frame: (H, W, 3) uint8, BGR, 0-255.

        Returns:
            (H, W, 3) float32, each channel about [-1, 1]. Owned by the caller.
        """
        factor = 1 / np.array(self.scale, np.float32)
        offset = np.array(self.mean, np.float32) / np.array(self.scale, np.float32)
        if self.space == "rgb":
            # Each channel has 256 values: a table takes a tenth of the time.
            table: NDArray[Any] = np.arange(256, dtype=np.float32)[:, None] * factor - offset
            found = cv2.LUT(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), table[None])
            return np.asarray(found, np.float32)
        planes = cv2.cvtColor(frame.astype(np.float32) / np.float32(255), cv2.COLOR_BGR2Lab)
        # A row at a time: three channels are too few for a vector unit.
        rows, width = planes.reshape(len(planes), -1), frame.shape[1]
        rows *= np.tile(factor, width)
        rows -= np.tile(offset, width)
        return np.asarray(planes, np.float32)


LAB = InputColour()
"""Normalised Lab (MAST's input), in which colour can be hidden and found again."""
IMAGENET = InputColour("rgb", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""What the published weights of ResNets expect, and of all that began with them."""
IMAGENET_LITE = InputColour("rgb", (127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
"""What the published weights of EfficientNet-Lite expect."""


def lab_from_bgr(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Convert a frame, (H, W, 3) uint8 BGR, to normalised Lab; see ``InputColour.convert``."""
    return LAB.convert(frame)
