"""The mask that boxes and clicks mean: the studio asks here."""

from __future__ import annotations

from vcedge_runtime.prompts.segmenter import PromptSegmenter

Box = tuple[float, float, float, float]
"""Left, top, width, height, in the frame's pixels."""
Click = tuple[float, float, bool]
"""x, y in the frame's pixels, and whether it is on the object."""
Segmenter = PromptSegmenter


def open_segmenter(threads: int = 0) -> Segmenter:
    """Open the network of first masks; see ``PromptSegmenter.open``.

    Args:
        threads: of its engine; 0 lets it choose.
    """
    return Segmenter.open(threads=threads)
