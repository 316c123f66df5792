"""From a camera's colours to the encoder's."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import BundleError

SPACES = ("lab", "rgb")
"""What colours are written in: CIE Lab, L 0-100 and a, b about -127 to 127; or RGB, each 0-255."""
Channels = tuple[float, float, float]


@dataclass(frozen=True)
class InputColour:
    """What an encoder takes of a colour: (c - mean) / scale of each channel c.

    Attributes:
        space: one of ``SPACES``.
        mean: of each channel.
        scale: of each channel.
    """

    space: str = "lab"
    mean: Channels = (50.0, 0.0, 0.0)
    scale: Channels = (50.0, 127.0, 127.0)

    def __post_init__(self) -> None:
        fits = all(
            isinstance(values, tuple) and len(values) == 3 and np.isfinite(values).all()
            for values in (self.mean, self.scale)
        )
        if self.space not in SPACES or not fits or min(self.scale) <= 0:
            raise BundleError(
                f"received input colour {self}; expected a space of {SPACES}, three numbers for "
                "its mean, and three above 0 for its scale"
            )

    def convert(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Convert a frame.

        Args:
            frame: (H, W, 3) uint8, BGR, 0-255.

        Returns:
            (H, W, 3) float32, each channel about [-1, 1]. Owned by the caller.
        """
        if self.space == "lab":
            planes = cv2.cvtColor(frame.astype(np.float32) / np.float32(255), cv2.COLOR_BGR2Lab)
        else:
            planes = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        scale = np.array(self.scale, np.float32)
        found = np.asarray(planes, np.float32) * (1 / scale)
        found -= np.array(self.mean, np.float32) / scale
        return np.asarray(found, np.float32)


LAB = InputColour()
"""Normalised Lab (MAST's input), in which colour can be hidden and found again."""
IMAGENET_LITE = InputColour("rgb", (127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
"""What the published weights of EfficientNet-Lite expect."""


def lab_from_bgr(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Convert a frame, (H, W, 3) uint8 BGR, to normalised Lab; see ``InputColour.convert``."""
    return LAB.convert(frame)
