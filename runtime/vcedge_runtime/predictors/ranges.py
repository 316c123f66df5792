"""Which lengths of a graph differ from run to run of one video, and how far."""

from __future__ import annotations

from collections.abc import Mapping

from vcedge_runtime.model.composition import Composition
from vcedge_runtime.model.object_composition import ObjectComposition
from vcedge_runtime.predictors.objects import TOGETHER
from vcedge_runtime.propagation.reader import DEVICE_LOGIT_BYTES, TILE
from vcedge_runtime.sampling.windows import count_tiles

OBJECTS = 8
"""Objects that an engine is built for at least (our choice); more make another engine."""
GROWING = ("references", "tiles")
"""Lengths that are mostly at their most; all others are mostly as they were at first."""


def find_ranges(
    parts: Composition | ObjectComposition, lengths: Mapping[str, int]
) -> dict[str, tuple[int, int]]:
    """The least and the most of every length that is not the same in each run.

    Args:
        parts: the composition.
        lengths: all named lengths of one run.
    """
    ranges = {"references": (1, max(parts.memory.references, lengths.get("references", 1)))}
    if isinstance(parts, ObjectComposition):
        # Global memory is read whole, local memory alone; labels are read as values are, and
        # together with them where an object is drawn in mid-video.
        ranges["slots"] = (1, max(parts.slots, lengths.get("slots", 1)))
        ranges["channels"] = (1, max(parts.value_dim + 1, lengths.get("channels", 1)))
        # What is read for all objects at once is encoded and decoded in groups of them.
        grouped = "H" in lengths and "labels" not in lengths
        most = TOGETHER if grouped else OBJECTS
        ranges["objects"] = (1, max(most, lengths.get("objects", 1)))
        ranges["labels"] = (2, ranges["objects"][1] + 1)
    if "tiles" in lengths:
        rows = lengths["queries"] if "queries" in lengths else lengths["columns"]
        together = max(1, DEVICE_LOGIT_BYTES // (4 * rows * lengths["patch"]))
        tiles = min(count_tiles((lengths["h"], lengths["w"]), TILE), together)
        ranges["tiles"] = (1, max(tiles, lengths["tiles"]))
    return ranges
