"""The run-time part of SRNet, STCN and XMem, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from vcedge_runtime.errors import BundleError
from vcedge_runtime.frames.colour import LAB, InputColour
from vcedge_runtime.frames.fitting import FITS
from vcedge_runtime.frames.following import FullWindow
from vcedge_runtime.memory.frames import FrameMemory
from vcedge_runtime.memory.local_global import LocalGlobalMemory, LocalGlobalPolicy
from vcedge_runtime.memory.long_term import LongTermPolicy
from vcedge_runtime.model.composition import (
    CHANNELS,
    SIZES,
    STRIDES,
    Memory,
    Window,
    check_strides,
    composition_from_json,
    exchange_parts,
    part_to_json,
)
from vcedge_runtime.settings import Bounds, check_settings, settings_from_mapping

LOCALS = ("fam", "raw", "off")
"""What becomes of the frame before: aligned, read as it is, or not read."""
MOST_GATHERED = 64
"""Largest ``top_k`` of which a readout gathers the values of the nearest; else it weighs all."""
SPARE = 8
"""Cells that it gathers beyond them: as many may be just as near as the last."""


@dataclass(frozen=True)
class ObjectComposition:
    """The run-time part of a model that segments each object on its own.

    Attributes:
        stride: pixels per key cell, 4 to 64.
        key_dim: channels of a key, 1 to 1,024.
        value_dim: channels of a value, 1 to 1,024.
        size: default working size, the short side in pixels, two strides to ``LARGEST_SIZE``.
        top_k: cells of memory that take part in a readout, 1 to 16,384, or None for all.
        edges: whether masks are brought to the frame's own edges once more.
        memory: which frames the global memory reads.
        local: what becomes of the local memory, one of ``LOCALS``.
        interval: distance of the local memory's frame, 1 to 64; 1 is the one before.
        prototypes: whether what was read follows the objects' prototypes.
        colour: what the query encoder takes.
        window: what is looked at of each frame.
        doubt: score below which an object that was nowhere in the frame before is not taken back,
            0 to 1; 0 takes any.
        fit: how a frame takes whole key cells, one of ``FITS``; a window that moves lies in them.
        mixes: whether what was read is joined with the local memory (SRNet); where not, there is
            none, and no prototypes (STCN).
        hidden_dim: channels of a state that each object has, 0 to 1,024; with one (XMem), keys hold
            what weighs them, and readouts tell which cells were read.
    """

    stride: Annotated[int, STRIDES]
    key_dim: Annotated[int, CHANNELS]
    value_dim: Annotated[int, CHANNELS]
    size: Annotated[int, SIZES]
    top_k: Annotated[int, Bounds(1, 2**14)] | None = 20
    edges: bool = False
    memory: Memory = field(default_factory=LocalGlobalPolicy)
    local: Annotated[str, LOCALS] = "fam"
    interval: Annotated[int, Bounds(1, 64)] = 1
    prototypes: bool = True
    colour: InputColour = LAB
    window: Window = field(default_factory=FullWindow)
    doubt: Annotated[float, Bounds(0, 1)] = 0.0
    fit: Annotated[str, FITS] = "resize"
    mixes: bool = True
    hidden_dim: Annotated[int, Bounds(0, 1024)] = 0

    def __post_init__(self) -> None:
        check_settings(self)
        check_strides(self.size, self.stride)
        if self.hidden_dim and self.doubt:
            raise BundleError(
                f"received doubt={self.doubt} for a model whose objects have a state, which would "
                "keep what is doubted (XMem); leave it out"
            )
        if self.hidden_dim and self.scales:
            raise BundleError(
                "received a memory with zoom for a model whose objects have a state, which is of "
                "one view (XMem); leave it out"
            )
        if not self.mixes and (self.local != "off" or self.prototypes):
            raise BundleError(
                f"received local={self.local}, prototypes={self.prototypes} for a model that has "
                "no local memory and no prototypes; leave them out, or use an SRNet"
            )

    @property
    def slots(self) -> int:
        """Frames that memory must hold; the policy's own count has the last and the current one."""
        return self.memory.slots + self.interval - 1

    def reserved(self, cells: int) -> int:
        """Slots behind those that are for long-term memory, for so many cells of a frame."""
        if not isinstance(self.memory, LongTermPolicy) or not self.hidden_dim:
            return 0
        return self.memory.count_slots(cells)

    @property
    def spare(self) -> int:
        """Slots beyond them: one for the local memory as another window shows it, then views."""
        return int(self.window.moves) + len(self.scales)

    @property
    def scales(self) -> tuple[float, ...]:
        """How large each further view of the frame is whose mask was given."""
        return self.memory.scales if isinstance(self.memory, LocalGlobalPolicy) else ()

    @property
    def graphs(self) -> set[str]:
        """Names of the graphs that it runs."""
        own = {"query_encoder", "value_encoder", "memory_read", "mask_decoder", "soft_aggregation"}
        own |= {"readout_mix"} if self.mixes else set()
        aligned = {"feature_alignment"} if self.local == "fam" else set()
        return own | aligned | ({"prototype_transformer"} if self.prototypes else set())

    def begin_memory(self) -> FrameMemory:
        """Make the memory of one video; the frame before is global where there is no local one."""
        if isinstance(self.memory, LocalGlobalPolicy) and not self.mixes:
            return LocalGlobalMemory(self.memory, lag=1)
        return self.memory.begin()

    @property
    def reads_last(self) -> bool:
        """Whether the frame before is read, whatever its number."""
        return self.local != "off" or self.prototypes

    def count_readout(self, cells: int, frames: int, objects: int) -> int:
        """Multiply-accumulates of one readout: likeness of all cells, values of those summed up.

        Args:
            cells: of a frame.
            frames: that are read.
            objects: that have values.
        """
        memory = cells * frames
        summed = memory if self.top_k is None or self.top_k > MOST_GATHERED else self.top_k + SPARE
        return cells * (memory * self.key_dim + summed * objects * self.value_dim)

    def exchange(self, **parts: Any) -> ObjectComposition:
        """Return this composition with other parts; None leaves what is.

        Args:
            parts: ``memory``, ``window``, ``fit``, ``doubt``, ``edges``, ``prototypes``, ``local``,
                ``interval``; see ``exchange_parts``.

        Raises:
            BundleError: a part that such a model does not have, or a value that cannot be.
        """
        own = ("memory", "window", "fit", "doubt", "edges", "prototypes", "local", "interval")
        lacks = "a model that segments each object on its own (SRNet), which has none"
        return exchange_parts(self, parts, own, lacks)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; memory begins with its kind."""
        parts = {part: part_to_json(part, getattr(self, part)) for part in ("memory", "window")}
        return {**asdict(self), **parts}

    @classmethod
    def from_json(cls, value: Any) -> ObjectComposition:
        """Read what ``to_json`` writes.

        Raises:
            BundleError: it is something else, or settings that cannot be.
        """
        if isinstance(value, Mapping):
            # Manifests of before did not name these, which there were one of each.
            colour = settings_from_mapping(InputColour, value.get("colour", {}))
            before = {"window": {"kind": "full"}, "doubt": 0.0}
            before |= {"fit": "resize", "mixes": True, "hidden_dim": 0}
            value = {**before, **value, "colour": colour}
        return composition_from_json(cls, value)
