"""The run-time part of SRNet, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from vcedge_runtime.errors import BundleError
from vcedge_runtime.frames.colour import LAB, InputColour
from vcedge_runtime.memory.local_global import LocalGlobalPolicy
from vcedge_runtime.model.composition import Memory, composition_from_json, kind_of, make_part

LOCALS = ("fam", "raw", "off")
"""What becomes of the frame before: aligned, read as it is, or not read."""


@dataclass(frozen=True)
class ObjectComposition:
    """The run-time part of a model that segments each object on its own.

    Attributes:
        stride: pixels per key cell.
        key_dim: channels of a key.
        value_dim: channels of a value.
        size: default working size, the short side in pixels.
        top_k: cells of memory that take part in a readout, or None for all.
        edges: whether masks are brought to the frame's own edges once more.
        memory: which frames the global memory reads.
        local: what becomes of the local memory, one of ``LOCALS``.
        interval: distance of the local memory's frame; 1 is the one before.
        prototypes: whether what was read follows the objects' prototypes.
        colour: what the query encoder takes.
    """

    stride: int
    key_dim: int
    value_dim: int
    size: int
    top_k: int | None = 20
    edges: bool = False
    memory: Memory = field(default_factory=LocalGlobalPolicy)
    local: str = "fam"
    interval: int = 1
    prototypes: bool = True
    colour: InputColour = LAB

    def __post_init__(self) -> None:
        if self.local not in LOCALS:
            raise BundleError(f"received local memory {self.local!r}; expected one of {LOCALS}")
        if type(self.interval) is not int or self.interval < 1:
            raise BundleError(f"received interval {self.interval}; expected frames, at least 1")
        for part in ("edges", "prototypes"):
            if not isinstance(getattr(self, part), bool):
                raise BundleError(
                    f"received {getattr(self, part)!r} for {part}; expected on or off"
                )
        if not isinstance(self.memory, Memory):
            raise BundleError(f"received {self.memory!r}, which is no memory")
        lengths = min(self.stride, self.key_dim, self.value_dim, self.top_k or 1)
        if lengths < 1 or self.size < 2 * self.stride:
            raise BundleError(
                "a composition of objects needs a stride, dimensions and top_k of at least 1, and "
                f"a size of at least two strides; received {self}"
            )

    @property
    def slots(self) -> int:
        """Frames that memory must hold; the policy's own count has the last and the current one."""
        return self.memory.slots + self.interval - 1

    @property
    def graphs(self) -> set[str]:
        """Names of the graphs that it runs."""
        own = {"query_encoder", "value_encoder", "memory_read", "readout_mix", "mask_decoder"}
        own |= {"soft_aggregation"}
        aligned = {"feature_alignment"} if self.local == "fam" else set()
        return own | aligned | ({"prototype_transformer"} if self.prototypes else set())

    def exchange(self, **parts: Any) -> ObjectComposition:
        """Return this composition with other parts; None leaves what is.

        Args:
            parts: ``memory``: the name of a kind, which comes with its default settings unless it
                is the present one, or settings; ``edges``, ``prototypes``: on or off; ``local``;
                ``interval``.

        Raises:
            BundleError: a part that such a model does not have, or a kind that there is not.
        """
        given = {part: kind for part, kind in parts.items() if kind is not None}
        foreign = sorted(set(given) - {"memory", "edges", "prototypes", "local", "interval"})
        if foreign:
            raise BundleError(
                f"received {', '.join(foreign)} for a model that segments each object on its own "
                "(SRNet), which has none; leave it out"
            )
        if isinstance(given.get("memory"), str):
            given["memory"] = make_part("memory", given["memory"], self.memory)
        return replace(self, **given)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; memory begins with its kind."""
        memory = {"kind": kind_of("memory", self.memory), **asdict(self.memory)}
        return {**asdict(self), "memory": memory}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ObjectComposition:
        """Read what ``to_json`` writes.

        Raises:
            KeyError, TypeError, AttributeError, ValueError: it is something else.
            BundleError: settings that cannot be.
        """
        # Before colour was a property of a bundle, manifests did not name it.
        colour = {name: _as_tuple(part) for name, part in value.get("colour", {}).items()}
        return composition_from_json(cls, {**value, "colour": InputColour(**colour)})


def _as_tuple(part: Any) -> Any:
    return tuple(part) if isinstance(part, list) else part
