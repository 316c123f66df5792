"""What of a frame's result is measured when somebody asks for it, and costs nothing before."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.video.polygons import Polygon, find_polygons
from vcedge_runtime.video.regions import Box, Region, measure_regions
from vcedge_runtime.video.supervision import make_detections

if TYPE_CHECKING:
    from supervision import Detections


class Measured:
    """Measures the objects of a result; an object that is not seen is in none of these.

    What was measured stays, so that the mask must not be changed between two questions.

    Attributes:
        mask: (H, W) uint8 object ids in the frame's own pixels, 0 the background.
        scores: how sure the tracker is of each object, 0 to 1.
    """

    mask: NDArray[np.uint8]
    scores: dict[int, float]

    @property
    def areas(self) -> dict[int, int]:
        """Pixels of each object, by id."""
        return {object_id: region.area for object_id, region in self._regions.items()}

    @property
    def boxes(self) -> dict[int, Box]:
        """Left, top, width and height of each object: the pixel x, y is the box x, y, 1, 1."""
        return {object_id: region.box for object_id, region in self._regions.items()}

    @property
    def centroids(self) -> dict[int, tuple[float, float]]:
        """Middle x, y of each object, whole numbers being pixel centres."""
        return {object_id: region.centroid for object_id, region in self._regions.items()}

    @cached_property
    def polygons(self) -> dict[int, list[Polygon]]:
        """Outlines of each object, with holes, the largest part first, exact.

        They run along the edges of pixels, as boxes do; ``find_polygons`` gives smoother ones.
        """
        return {object_id: find_polygons(self.mask == object_id) for object_id in self._regions}

    def to_supervision(self, names: Mapping[int, str] | None = None) -> Detections:
        """Make ``supervision.Detections`` of the objects.

        Args:
            names: of the objects, by id; several may have one. The others are ``object``.

        Raises:
            MissingExtraError: supervision is not installed.
            OutputError: a name is none.
        """
        return make_detections(self.mask, self._regions, self.scores, names)

    @cached_property
    def _regions(self) -> dict[int, Region]:
        return measure_regions(self.mask)
