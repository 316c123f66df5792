"""The baseline for points: each one carried from frame to frame by optical flow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import EvaluationError

PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


def chain_points(
    frames: Iterable[NDArray[np.uint8]],
    points: NDArray[np.float64],
    preset: str = "medium",
) -> Iterator[NDArray[np.float64]]:
    """Carry points through a video with OpenCV's DIS flow between neighbouring frames.

    A point that leaves the frame goes on with the flow at the nearest border pixel (our choice).

    Args:
        frames: (H, W, 3) uint8, BGR, all of one size.
        points: (N, 2) float64 x, y in the first frame's pixels, whole numbers being pixel centres.
        preset: ultrafast, fast or medium.

    Yields:
        (N, 2) float64 for every frame, the first included; owned by the caller.

    Raises:
        EvaluationError: no such preset, or a frame of another size.
    """
    if preset not in PRESETS:
        raise EvaluationError(f"received preset {preset!r}; expected one of {', '.join(PRESETS)}")
    dis = cv2.DISOpticalFlow.create(PRESETS[preset])
    previous: NDArray[np.uint8] | None = None
    for frame in frames:
        grey = np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8)
        if previous is not None:
            if grey.shape != previous.shape:
                raise EvaluationError(
                    f"received a frame of {grey.shape} after one of {previous.shape}; expected"
                    " frames of one size"
                )
            # OpenCV's stub does not know None, which lets the flow begin at zero.
            flow = dis.calc(previous, grey, None)  # type: ignore[call-overload]
            points = points + _sample_flow(np.asarray(flow, np.float32), points)
        previous = grey
        yield points.copy()


def _sample_flow(flow: NDArray[np.float32], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interpolate (H, W, 2) flow at (N, 2) points."""
    places = points.astype(np.float32)[:, None]
    sampled = cv2.remap(
        flow, places[..., 0], places[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(sampled, np.float64).reshape(-1, 2)
