"""Follows objects through video on the machine at the edge, from the mask of one frame.

``Tracker``, ``open_source``, ``mask_from_prompts`` and ``Bundle`` are all that a program needs;
each is imported when it is first asked for, so that ``import vcedge`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vcedge_runtime.model.bundle import Bundle
    from vcedge_runtime.prompts.segmenter import PromptSegmenter, mask_from_prompts
    from vcedge_runtime.tracker import Tracker
    from vcedge_runtime.video.sources import open_source

__all__ = ["Bundle", "PromptSegmenter", "Tracker", "mask_from_prompts", "open_source"]

_HOMES = {
    "Bundle": "vcedge_runtime.model.bundle",
    "PromptSegmenter": "vcedge_runtime.prompts.segmenter",
    "Tracker": "vcedge_runtime.tracker",
    "mask_from_prompts": "vcedge_runtime.prompts.segmenter",
    "open_source": "vcedge_runtime.video.sources",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
