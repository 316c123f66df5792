"""The frames with named points drawn in, as a video."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from vcedge_runtime.propagation.points import PointEstimate
from vcedge_runtime.video.overlay import write_text
from vcedge_runtime.video.points import draw_points
from vcedge_runtime.video.sinks import Sink
from vcedge_runtime.video.sources import Frame

RISE = 8
"""Pixels between a point and what is written above it (our choice)."""


class PointOverlay:
    """Draws the points of every frame into an overlay video.

    Args:
        video: an ``OverlayVideo``, which whoever opened it closes.
    """

    def __init__(self, video: Sink) -> None:
        self._video = video

    def write(self, frame: Frame, points: Mapping[str, PointEstimate]) -> None:
        """Draw the points with their names and scores, and write the frame.

        Raises:
            OutputError: it cannot be written.
        """
        picture = draw_points(frame.image, points)
        for place, (name, point) in enumerate(points.items()):
            if point.visible:
                at = point.x, point.y - RISE
                write_text(picture, f"{name}  {point.score:.2f}", at, 1 + place % 255)
        nothing = np.zeros(picture.shape[:2], np.uint8)
        self._video.write(replace(frame, image=picture), nothing, {})
