"""The frame whose mask was given, as it would look larger and smaller."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.predictors.object_frames import EncodedFrame, FoundObjects
from vcedge_runtime.predictors.object_graphs import ObjectGraphs

Planes = NDArray[np.float32]


class ZoomedViews:
    """Views of one frame in slots of their own, which global memory is read with.

    An object that comes nearer or goes is so known at sizes at which no frame has shown it (our
    choice). They are made when the next frame comes: until then its masks may change.

    Args:
        scales: how large each is; 1 is as the frame is.
        slots: where each goes.
        graphs: that encode them.

    Attributes:
        slots: as given.
        frame: number of the frame that they are of, made or not; -1 before there is one.
    """

    def __init__(self, scales: Sequence[float], slots: Sequence[int], graphs: ObjectGraphs) -> None:
        self._scales = scales
        self.slots = list(slots)
        self._graphs = graphs
        self.frame = -1
        self._due = False

    def ask(self, frame: int) -> None:
        """Have views of the last frame, by its number, in place of those that there are."""
        self.frame, self._due = frame, bool(self.slots)

    def make(self, encoded: EncodedFrame, scratch: EncodedFrame, found: FoundObjects) -> None:
        """Make the views that were asked for, if they are not made yet.

        Args:
            encoded: the last frame's picture, and its shares on the host.
            scratch: of the same lengths; what it holds is lost.
            found: room for values of objects that are encoded together.

        Raises:
            NotFiniteError: what is encoded is not finite.
        """
        if not self._due:
            return
        image = np.ascontiguousarray(encoded.image.host[0].transpose(1, 2, 0))
        shares = encoded.shares.host[1:]
        middle = _find_middle(shares.sum(axis=0))
        for slot, scale in zip(self.slots, self._scales, strict=True):
            view = _zoom(image, scale, middle)
            self._graphs.encode(slot, view, scratch, {})
            seen = scratch.shares
            for plane, share in zip(seen.host[1:], shares, strict=True):
                plane[...] = _zoom(share, scale, middle)
            seen.host[0] = 1 - seen.host[1:].sum(axis=0)
            seen.push()
            self._graphs.write(slot, scratch, found)
        self._due = False


def _find_middle(share: Planes) -> tuple[float, float]:
    """Column and row of the middle of what (H, W) shares cover; of the plane, if nothing."""
    height, width = share.shape
    total = float(share.sum())
    if total == 0:
        return (width - 1) / 2, (height - 1) / 2
    column = float(share.sum(axis=0) @ np.arange(width)) / total
    return column, float(share.sum(axis=1) @ np.arange(height)) / total


def _zoom(plane: Planes, scale: float, middle: tuple[float, float]) -> Planes:
    """Enlarge (H, W) or (H, W, 3) about a middle; beyond its border it is mirrored."""
    moved = cv2.getRotationMatrix2D(middle, 0, scale)
    size = plane.shape[1::-1]
    return np.asarray(cv2.warpAffine(plane, moved, size, borderMode=cv2.BORDER_REFLECT), np.float32)
