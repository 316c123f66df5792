"""What real cameras do to a picture: blur, exposure, noise, compression."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import TrainingError

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class CameraRange:
    """How bad a clip's pictures may be; each number is drawn uniformly up to its end (our choice).

    Attributes:
        blur: longest smear of a moving camera, as a share of the picture's side.
        defocus: largest standard deviation of a blur without direction, likewise.
        exposure: largest change of the logarithm of the brightness, between frames too.
        noise: largest standard deviation of the noise, in grey levels.
        quality: lowest JPEG quality; the highest is 95.
        share: share of the clips that each of these befalls.
    """

    blur: float = 0.04
    defocus: float = 0.01
    exposure: float = 0.4
    noise: float = 12.0
    quality: int = 15
    share: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if min(self.blur, self.defocus, self.exposure, self.noise) < 0 or not 0 <= self.share <= 1:
            raise TrainingError(f"received {self}; expected no negative value and a share up to 1")
        if not 1 <= self.quality <= 95:
            raise TrainingError(f"received a JPEG quality of {self.quality}; expected 1 to 95")


class Camera:
    """One clip's camera: what it does to every frame alike is drawn at once.

    Args:
        rng: all draws come from it.
        ranges: how bad it may be.
    """

    def __init__(self, rng: np.random.Generator, ranges: CameraRange) -> None:
        self._rng = rng
        moves, defocused, exposed, noisy, compressed = rng.random(5) < ranges.share
        self._blur = ranges.blur * moves
        self._defocus = float(rng.uniform(0, ranges.defocus)) * defocused
        self._exposure = ranges.exposure * exposed
        self._noise = float(rng.uniform(0, ranges.noise)) * noisy
        self._quality = int(rng.integers(ranges.quality, 96)) if compressed else None

    def take(self, picture: Picture) -> Picture:
        """See a frame through the camera.

        Args:
            picture: (S, S, 3) uint8 BGR.

        Returns:
            (S, S, 3) uint8 BGR, a new array where anything is changed.
        """
        side = len(picture)
        if self._blur:
            picture = self._smear(picture, side)
        if self._defocus * side > 0.3:
            picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), self._defocus * side), np.uint8)
        if self._exposure or self._noise:
            gain = math.exp(self._rng.uniform(-self._exposure, self._exposure))
            levels = picture.astype(np.float32) * np.float32(gain)
            if self._noise:
                grain = self._rng.standard_normal(picture.shape, np.float32)
                levels += np.float32(self._noise) * grain
            picture = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
        if self._quality is not None:
            _, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, self._quality])
            picture = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
        return picture

    def _smear(self, picture: Picture, side: int) -> Picture:
        """Average along a line, as long as drawn for this frame."""
        length = self._rng.uniform(0, self._blur) * side
        angle = self._rng.uniform(0, math.pi)
        reach = math.ceil(length / 2)
        if reach < 1:
            return picture
        kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
        for along in np.linspace(-length / 2, length / 2, 4 * reach + 1):
            x, y = along * math.cos(angle), along * math.sin(angle)
            kernel[round(reach + y), round(reach + x)] += 1
        return np.asarray(cv2.filter2D(picture, -1, kernel / kernel.sum()), np.uint8)
