"""What a tracker last showed: it stays where a model gives nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.propagation.labels import Decision
from vcedge_runtime.propagation.points import PointEstimate


class Shown:
    """The last frame's mask and points.

    Args:
        mask: (H, W) uint8 object ids, in the frame's own pixels; copied.
        points: x and y of each, in the frame's own pixels, if the video begins with points.
    """

    def __init__(
        self, mask: NDArray[np.uint8], points: Mapping[str, tuple[float, float]] | None = None
    ) -> None:
        self._mask = mask.copy()
        places = (points or {}).items()
        self._points = {name: PointEstimate(*place, True, 1.0) for name, place in places}

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return self._mask.nbytes

    def keep(self, decision: Decision) -> None:
        """Take what is shown of the next frame."""
        self._mask[...] = decision.mask
        self._points = decision.points

    def draw(self, object_id: int, mask: NDArray[np.uint8]) -> None:
        """Take the (H, W) mask of an object, not 0 where it is; elsewhere it is no more."""
        self.forget(object_id)
        self._mask[mask > 0] = object_id

    def forget(self, object_id: int) -> None:
        """Make an object background."""
        self._mask[self._mask == object_id] = 0

    def show_again(self, objects: Sequence[int]) -> Decision:
        """Show it for a frame in which nothing was found: no score, and no point is visible.

        Args:
            objects: ids that are followed.
        """
        points = {
            name: replace(point, visible=False, score=0.0) for name, point in self._points.items()
        }
        return Decision(self._mask.copy(), dict.fromkeys(objects, 0.0), points)
