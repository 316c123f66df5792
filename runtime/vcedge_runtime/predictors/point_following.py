"""Points from frame to frame: flow says finely how far each went, labels say where it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.frames.colour import InputColour
from vcedge_runtime.frames.motion import estimate_flow, grey_from_image
from vcedge_runtime.propagation.points import (
    PointEstimate,
    bring_place,
    lies_within,
    points_from_labels,
)

SPREAD = 1.0
"""Standard deviation in key cells of where labels see a point (our choice)."""
DRIFT = 0.015
"""That of what flow adds in a frame (our choice, measured: docs/results.md)."""
DOUBT = 2.0
"""Standard deviations that it has besides, of the way by which a point that follows the flow and
the flow back misses its beginning (our choice, likewise)."""
GATE = 3.0
"""Key cells between both beyond which labels alone count (our choice, likewise)."""


class PointFollower:
    """Places of points as a Kalman filter has them (Kalman 1960), of one variance a point.

    Optical flow predicts, labels correct. Labels are as coarse as key cells and do not drift; flow
    is fine and drifts, most where it does not find back. So a point rides on flow that is steady,
    and is where labels see it where flow loses it. A step that is not kept is made on a copy.

    Args:
        names: of the points.
        colour: of the frames.
        cell: pixels of a key cell.
        flow: whether there is flow; labels alone say where points are otherwise.
    """

    def __init__(self, names: Sequence[str], colour: InputColour, cell: int, *, flow: bool) -> None:
        self.names = names
        self._colour = colour
        self._cell = cell
        self._flow = flow
        self._grey = np.zeros((0, 0), np.uint8)
        self._places = np.zeros((0, 2))
        self._variances = np.zeros(0)

    @property
    def nbytes(self) -> int:
        """Bytes of what it keeps."""
        return self._grey.nbytes + self._places.nbytes + self._variances.nbytes

    def start(
        self,
        image: NDArray[np.float32],
        points: Mapping[str, tuple[float, float]],
        frame_hw: tuple[int, int],
    ) -> None:
        """Take the first frame; see ``PointPredictor.start_points``."""
        if self._flow:
            self._grey = grey_from_image(image, self._colour)
            work_hw = (image.shape[0], image.shape[1])
            places = [bring_place(place, frame_hw, work_hw) for place in points.values()]
            self._places = np.array(places, np.float64)
            self._variances = np.zeros(len(places))

    def step(self, image: NDArray[np.float32], labels: NDArray[np.float32]) -> None:
        """Take the next frame, of the same size.

        Args:
            image: (H, W, 3) float32 in the frames' colour.
            labels: (h, w, L) float32 soft labels of it, as ``labels_from_points`` draws them.
        """
        if not self._flow:
            return
        seen = self._see(labels, (image.shape[0], image.shape[1]))
        grey = grey_from_image(image, self._colour)
        ahead = _look_up(estimate_flow(self._grey, grey), self._places)
        predicted = self._places + ahead
        missed = ahead + _look_up(estimate_flow(grey, self._grey), predicted)
        doubt = DOUBT / self._cell * np.sqrt((missed**2).sum(1))
        variances = self._variances + DRIFT**2 + doubt**2
        away = np.array([(point.x, point.y) for point in seen]) - predicted
        unseen = np.isnan(away).any(1)
        away[unseen] = 0
        far = (away**2).sum(1) > (GATE * self._cell) ** 2
        gain = np.where(unseen, 0, np.where(far, 1, variances / (variances + SPREAD**2)))
        self._places = predicted + gain[:, None] * away
        self._variances = np.where(far, SPREAD**2, (1 - gain) * variances)
        self._grey = grey

    def find(
        self, labels: NDArray[np.float32], frame_hw: tuple[int, int]
    ) -> dict[str, PointEstimate]:
        """Where each point is; what labels do not see at all is nowhere.

        Args:
            labels: of the last frame, as for ``step``.
            frame_hw: height and width of the frame in whose pixels places are wanted.
        """
        found = self._see(labels, frame_hw)
        if self._flow:
            work_hw = (self._grey.shape[0], self._grey.shape[1])
            places = [bring_place((x, y), work_hw, frame_hw) for x, y in self._places.tolist()]
            found = [
                point if np.isnan(point.x) else _put(point, place, frame_hw)
                for point, place in zip(found, places, strict=True)
            ]
        return dict(zip(self.names, found, strict=True))

    def _see(self, labels: NDArray[np.float32], frame_hw: tuple[int, int]) -> list[PointEstimate]:
        return points_from_labels(labels[..., : 1 + len(self.names)], frame_hw)


def _put(
    point: PointEstimate, place: tuple[float, float], frame_hw: tuple[int, int]
) -> PointEstimate:
    visible = point.visible and lies_within(place, frame_hw)
    return replace(point, x=place[0], y=place[1], visible=visible)


def _look_up(flow: NDArray[np.float32], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P, 2) flow at places, at the nearest of those that lie outside."""
    height, width = flow.shape[:2]
    x, y = np.clip(places, 0, (width - 1, height - 1)).astype(np.float32).T
    found = cv2.remap(flow, x[:, None], y[:, None], cv2.INTER_LINEAR)
    return np.asarray(found[:, 0], np.float64)
