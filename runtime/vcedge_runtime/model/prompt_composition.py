"""The run-time part of a model of first masks, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from vcedge_runtime.errors import BundleError
from vcedge_runtime.frames.colour import IMAGENET_LITE, InputColour
from vcedge_runtime.model.composition import (
    SIZES,
    STRIDES,
    check_strides,
    composition_from_json,
    exchange_parts,
)
from vcedge_runtime.settings import Bounds, check_settings, settings_from_mapping

PLANES = ("box", "positive", "negative", "prior")
"""What a network is told beside the picture, in order, each a plane of numbers from 0 to 1: what
lies in the box, discs about the clicks on the object and off it, the mask found before."""
LONGEST = 2
"""Ratio of a view's long to its short side up to which the short one has the network's size; of
longer ones the long side has as many times that size (our choice)."""
GRAPH = "prompt_segmenter"
"""The one graph of such a bundle."""


@dataclass(frozen=True)
class PromptComposition:
    """The run-time part of a model that makes the mask of one object from what is said of it.

    Attributes:
        stride: pixels per cell of the deepest features, 4 to 64.
        size: short side of a window as the network sees it, in pixels.
        disc: radius of a click's disc there, in pixels.
        margin: how much of a box's longer side a window has beyond it, on each side.
        colour: what the network takes.
    """

    stride: Annotated[int, STRIDES] = 16
    size: Annotated[int, SIZES] = 256
    disc: Annotated[int, Bounds(1, 64)] = 4
    margin: Annotated[float, Bounds(0, 4)] = 0.15
    colour: InputColour = IMAGENET_LITE

    def __post_init__(self) -> None:
        check_settings(self)
        check_strides(self.size, self.stride)

    @property
    def graphs(self) -> set[str]:
        """Names of the graphs that it runs."""
        return {GRAPH}

    def exchange(self, **parts: Any) -> PromptComposition:
        """Return this composition; None leaves what is.

        Raises:
            BundleError: a part is named: such a model has none to exchange.
        """
        return exchange_parts(self, parts, (), "a model of first masks, which has none")

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> PromptComposition:
        """Read what ``to_json`` writes.

        Raises:
            BundleError: it is something else, or settings that cannot be.
        """
        if not isinstance(value, Mapping):
            raise BundleError(f"received {value!r}; expected a composition")
        colour = settings_from_mapping(InputColour, value.get("colour", {}))
        return composition_from_json(cls, {**value, "colour": colour})
