"""What supervision (Roboflow) draws, counts and filters, made of a frame's result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import MissingExtraError
from vcedge_runtime.installing import how_to_install
from vcedge_runtime.video.categories import Categories
from vcedge_runtime.video.regions import Region

if TYPE_CHECKING:
    from supervision import Detections


def make_detections(
    labels: NDArray[np.uint8],
    regions: Mapping[int, Region],
    scores: Mapping[int, float],
    names: Mapping[int, str] | None = None,
) -> Detections:
    """Make supervision's detections of the objects that are seen in a frame.

    Args:
        labels: (H, W) uint8 object ids, 0 the background.
        regions: of each object that is seen.
        scores: how sure the tracker is of each, 0 to 1.
        names: of the objects, by id; several may have one. The others are ``object``.

    Returns:
        ``supervision.Detections``, in the order of the ids: boxes, masks, confidence, the id as
        ``tracker_id``, the name's number as ``class_id``, and the name in ``data["class_name"]``.

    Raises:
        MissingExtraError: supervision is not installed.
        OutputError: a name is none.
    """
    try:
        from supervision import Detections
    except ImportError as exc:
        raise MissingExtraError(
            f"supervision is not installed; run: {how_to_install('supervision')}"
        ) from exc
    categories, ids = Categories(names), list(regions)
    boxes = np.array([region.box for region in regions.values()], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return Detections(
        xyxy=boxes,
        mask=labels == np.array(ids, np.uint8)[:, None, None],
        confidence=np.array([scores.get(i, 0.0) for i in ids], np.float32),
        class_id=np.array([categories.place_of(i) for i in ids], int),
        tracker_id=np.array(ids, int),
        data={"class_name": np.array([categories.name_of(i) for i in ids], str)},
    )
