"""Optical flow as an input of the encoder: OpenCV's DIS on lightness alone (MER, eq. 5)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import TrackerError
from vcedge_runtime.frames.colour import LAB, InputColour

FLOW_SCALES = ("side", "cell", "largest")
"""What motion may be measured in; see ``FlowScale``."""
FLOW_CELLS = 2.5
"""Key cells of motion that are encoded as 1 (our choice)."""
FLOW_PIXELS = 20.0
"""Likewise, pixels at a short side of ``FLOW_SIDE``, for ``side``."""
FLOW_SIDE = 256
LEAST_MOTION = 1.0
"""Pixels of a frame's largest motion at least, for ``largest``: noise is not brought up to 1."""
LUMA = np.array([0.299, 0.587, 0.114])
"""Shares of R, G and B (ITU-R BT.601)."""
DIS_SIDE = 32
"""Shortest side that DIS FAST takes: four patches; below, OpenCV reads outside its arrays."""


@dataclass(frozen=True)
class FlowScale:
    """What motion is encoded as 1.

    Attributes:
        kind: ``cell``: ``FLOW_CELLS`` key cells, so that a motion is encoded alike in a crop of
            training and in a frame of any size. ``side``: a share of the picture's short side,
            which gives a crop larger numbers than a frame: what weights from before were trained
            and are run with. ``largest``: the picture's own largest motion.
        stride: pixels of a key cell.
    """

    kind: str
    stride: int

    def per_pixel(self, lengths: NDArray[np.float32]) -> float:
        """What a motion of one pixel is encoded as.

        Args:
            lengths: (H, W) float32 pixels, of the picture's motions.
        """
        if self.kind == "cell":
            return 1 / (FLOW_CELLS * self.stride)
        if self.kind == "side":
            return float(FLOW_SIDE / (FLOW_PIXELS * min(lengths.shape)))
        return 1 / max(LEAST_MOTION, float(lengths.max(initial=0)))


class FlowEstimator:
    """Flow from each frame of a video to the one before it.

    The result does not depend on the number of OpenCV's threads. Training must use the same flow.

    Args:
        scale: of the encoding.
        colour: of the frames.
    """

    def __init__(self, scale: FlowScale, colour: InputColour = LAB) -> None:
        self._scale = scale
        self._colour = colour
        self._dis = _open_dis()
        self._previous: NDArray[np.uint8] | None = None

    def step(
        self, image: NDArray[np.float32], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Take the next frame.

        Args:
            image: (H, W, 3) float32 in the frames' colour; only its lightness is read.
            out: (3, H, W) float32, to be written.

        Returns:
            ``encode_flow`` of this frame; zeros for the first. ``out``, or owned by the caller.

        Raises:
            TrackerError: the frame is not of the size of the one before it.
        """
        grey, previous = grey_from_image(image, self._colour), self._previous
        if previous is not None and previous.shape != grey.shape:
            raise TrackerError(
                f"received a frame of {grey.shape} after one of {previous.shape}; "
                "expected frames of one size; begin a new video"
            )
        self._previous = grey
        if previous is None:
            out = np.empty((3, *grey.shape), np.float32) if out is None else out
            out[:] = 0
            return out
        return encode_flow(_calculate(self._dis, grey, previous), self._scale, out)


def grey_from_image(image: NDArray[np.float32], colour: InputColour) -> NDArray[np.uint8]:
    """Take what DIS looks at of a frame in any colour: L of Lab, luma (BT.601) of RGB.

    Args:
        image: (H, W, 3) float32 in that colour.
        colour: what it is.

    Returns:
        (H, W) uint8: 0 for black, 255 for white.
    """
    if colour == LAB:
        return grey_from_lab(image)
    shares = LUMA * colour.scale
    luma = cv2.transform(image, shares[None].astype(np.float32))
    return np.asarray(cv2.convertScaleAbs(luma, beta=float(LUMA @ np.array(colour.mean))), np.uint8)


def estimate_flow(current: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Estimate where each pixel of a frame is in another: other(x + flow(x)) = current(x).

    Args:
        current: (H, W) uint8.
        other: the same of another frame of the same size.

    Returns:
        (H, W, 2) float32 pixels, x then y.
    """
    return _calculate(_open_dis(), current, other)


def grey_from_lab(lab: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Take lightness as DIS wants it; no colour leaks into the flow.

    Args:
        lab: (H, W, 3) float32 normalised Lab; L is [-1, 1].

    Returns:
        (H, W) uint8: 0 for black, 255 for white.
    """
    lightness = cv2.extractChannel(lab, 0)
    return np.asarray(cv2.convertScaleAbs(lightness, alpha=127.5, beta=127.5), np.uint8)


def flow_from_lab(
    current: NDArray[np.float32], previous: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Estimate flow to another frame, as ``estimate_flow`` does.

    Args:
        current: (H, W, 3) float32 normalised Lab; only L is read.
        previous: the same of another frame of the same size.

    Returns:
        (H, W, 2) float32 pixels, x then y.
    """
    return estimate_flow(grey_from_lab(current), grey_from_lab(previous))


def encode_flow(
    flow: NDArray[np.float32], scale: FlowScale, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Encode flow as a picture of three channels, in which rest is exactly 0 (our choice).

    Args:
        flow: (H, W, 2) float32 pixels, x then y.
        scale: says what is encoded as 1.
        out: (3, H, W) float32, to be written.

    Returns:
        (3, H, W) float32 in [-1, 1]: x, y and length over the scale, clipped. ``out``, or owned by
        the caller.
    """
    height, width = flow.shape[:2]
    out = np.empty((3, height, width), np.float32) if out is None else out
    cv2.split(flow, [out[0], out[1]])
    # OpenCV's own magnitude differs in the last bit with the place of the array in memory.
    np.sqrt(out[0] * out[0] + out[1] * out[1], out=out[2])
    out *= np.float32(scale.per_pixel(out[2]))
    return np.clip(out, -1, 1, out=out)


def _open_dis() -> cv2.DISOpticalFlow:
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)


def _calculate(
    dis: cv2.DISOpticalFlow, current: NDArray[np.uint8], previous: NDArray[np.uint8]
) -> NDArray[np.float32]:
    height, width = current.shape
    bottom, right = max(0, DIS_SIDE - height), max(0, DIS_SIDE - width)
    if bottom or right:
        current, previous = (
            np.asarray(cv2.copyMakeBorder(g, 0, bottom, 0, right, cv2.BORDER_REPLICATE), np.uint8)
            for g in (current, previous)
        )
    # A flow that is handed in would be its start; OpenCV's stub does not know None.
    flow = dis.calc(current, previous, None)  # type: ignore[call-overload]
    return np.asarray(flow, np.float32)[:height, :width]
