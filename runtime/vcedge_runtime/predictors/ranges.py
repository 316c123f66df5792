"""Which lengths of a graph differ from run to run of one video, and how far."""

from __future__ import annotations

from collections.abc import Mapping

from vcedge_runtime.engines.plans import Span
from vcedge_runtime.memory.bank import COLOURS
from vcedge_runtime.model.bundle import AnyComposition
from vcedge_runtime.model.object_composition import ObjectComposition
from vcedge_runtime.model.prompt_composition import LONGEST, PromptComposition
from vcedge_runtime.predictors.labels import count_channels
from vcedge_runtime.predictors.object_frames import TOGETHER
from vcedge_runtime.predictors.reader import DEVICE_LOGIT_BYTES, TILE, count_together
from vcedge_runtime.sampling.windows import count_tiles

OBJECTS = 8
"""Objects that an engine is built for at least (our choice); more make another engine."""
GROWING = ("references", "tiles")
"""Lengths that are mostly at their most; all others are mostly as they were at first."""


def find_spans(parts: AnyComposition, lengths: Mapping[str, int]) -> dict[str, Span]:
    """How far every length goes that is not the same in each run.

    Args:
        parts: the composition.
        lengths: all named lengths of one run.
    """
    if isinstance(parts, PromptComposition):
        # Views of a frame have any shape.
        return dict.fromkeys("HW", Span(2 * parts.stride, parts.size, LONGEST * parts.size))
    mosts = {"references": parts.memory.references}
    if isinstance(parts, ObjectComposition):
        # Global memory is read whole, local memory alone; labels are read as values are, and
        # together with them where an object is drawn in mid-video.
        reserved = parts.reserved(lengths["h"] * lengths["w"]) if "slots" in lengths else 0
        mosts["references"] += reserved
        slots = parts.slots + parts.spare + reserved
        mosts |= {"slots": slots, "channels": parts.value_dim + 1}
        # What is read for all objects at once is encoded and decoded in groups of them.
        grouped = "H" in lengths and "labels" not in lengths
        mosts["objects"] = TOGETHER if grouped else OBJECTS
        mosts["labels"] = OBJECTS + 1
    else:
        mosts["channels"] = COLOURS + count_channels(OBJECTS)
    if "tiles" in lengths:
        rows = lengths["queries"] if "queries" in lengths else lengths["columns"]
        tiles = count_tiles((lengths["h"], lengths["w"]), TILE)
        mosts["tiles"] = count_together(
            tiles, rows, lengths["patch"], parts.memory.references, DEVICE_LOGIT_BYTES
        )
    return {name: _reach(name, most, lengths) for name, most in mosts.items() if name in lengths}


def _reach(name: str, most: int, lengths: Mapping[str, int]) -> Span:
    most = max(most, lengths[name])
    return Span(1, most if name in GROWING else lengths[name], most)
