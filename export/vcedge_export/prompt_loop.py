"""A loop over a clip in which each frame's mask is made anew, of what its truth would have said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.closing import Closing
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.followed import StepResult
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.prompts.asking import Boxes, Clicks
from vcedge_runtime.prompts.drawing import box_of, find_middle
from vcedge_runtime.prompts.segmenter import PromptSegmenter


class PromptLoop(Closing):
    """Goes through a clip as a tracker does; boxes and clicks take turns, frame by frame.

    Args:
        bundle: of a model that makes first masks.
        engines: an engine for its graph; closed by this.
        masks: (H, W) uint8 object ids of every frame.
    """

    def __init__(
        self, bundle: Bundle, engines: Mapping[str, Engine], masks: Sequence[NDArray[np.uint8]]
    ) -> None:
        self._segmenter = PromptSegmenter(bundle, engines)
        self._said: Iterator[tuple[Boxes, Clicks]] = (
            say_objects(mask, boxed=number % 2 == 1) for number, mask in enumerate(masks)
        )

    def start(self, frame: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
        """Pass over the first frame, whose mask is given."""
        next(self._said)

    def step(self, frame: NDArray[np.uint8]) -> StepResult:
        """Make the mask of the next frame; where nothing was there, it is empty."""
        boxes, clicks = next(self._said)
        if not boxes and not clicks:
            return StepResult(np.zeros(frame.shape[:2], np.uint8), {}, {})
        return StepResult(self._segmenter.segment(frame, boxes, clicks, required=False), {}, {})

    def close(self) -> None:
        """Close the engine."""
        self._segmenter.close()


def say_objects(mask: NDArray[np.uint8], *, boxed: bool) -> tuple[Boxes, Clicks]:
    """A box about each object of a mask, or a click on its middle."""
    ids = np.unique(mask[mask > 0]).tolist()
    objects = {object_id: np.asarray(mask == object_id, np.uint8) for object_id in ids}
    if boxed:
        corners = {each: box_of(shape) for each, shape in objects.items()}
        return {i: (x, y, right - x, low - y) for i, (x, y, right, low) in corners.items()}, {}
    middles = {each: find_middle(shape > 0) for each, shape in objects.items()}
    return {}, {each: [middle] for each, middle in middles.items() if middle is not None}
