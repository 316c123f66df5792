"""The run-time part of a model, as data: which memory, sampler and fusion, each exchangeable."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from vcedge_runtime.errors import BundleError
from vcedge_runtime.frames.colour import LAB, InputColour
from vcedge_runtime.memory.dynamic import DynamicPolicy
from vcedge_runtime.memory.local_global import LocalGlobalPolicy
from vcedge_runtime.memory.references import ReferencePolicy
from vcedge_runtime.propagation.fusion import (
    BidirectionalFusion,
    Fusion,
    JointFusion,
    MeanFusion,
    VoteFusion,
    reads_columns,
)
from vcedge_runtime.sampling.alignment import AlignmentSettings, NoAlignment
from vcedge_runtime.sampling.clusters import ClusterSettings
from vcedge_runtime.sampling.regions import RegionSettings
from vcedge_runtime.sampling.sampling import SamplerSettings, WindowSettings

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Memory = ReferencePolicy | DynamicPolicy | LocalGlobalPolicy
Alignment = NoAlignment | AlignmentSettings
Kind = TypeVar("Kind", bound="DataclassInstance")
Part = Memory | SamplerSettings | Fusion | Alignment

KINDS: Mapping[str, Mapping[str, type[Any]]] = {
    "memory": {
        "references": ReferencePolicy,
        "dynamic": DynamicPolicy,
        "local_global": LocalGlobalPolicy,
    },
    "sampler": {"window": WindowSettings, "clusters": ClusterSettings, "regions": RegionSettings},
    "fusion": {
        "joint": JointFusion,
        "mean": MeanFusion,
        "vote": VoteFusion,
        "bidirectional": BidirectionalFusion,
    },
    "alignment": {"none": NoAlignment, "objects": AlignmentSettings},
}
"""The settings of every kind of every exchangeable part."""
FLAGS = ("edges", "motion", "value_extraction")
"""What of a composition is on or off."""
_SETTING = re.compile(r"(?:\[[^\]]*\]|[^,\[])+")
"""One setting: all up to a comma that stands in no list."""


@dataclass(frozen=True)
class Composition:
    """The run-time part of a model, as data.

    Attributes:
        stride: pixels per key cell.
        key_dim: channels of a key.
        size: default working size, the short side in pixels.
        radius: window radius in key cells.
        top_k: logits that take part in a readout, or None for all.
        temperature: divides the logits of a readout.
        edges: whether masks are brought to the frame's own edges.
        memory: which frames are read.
        sampler: where in them a cell looks.
        fusion: how what was read becomes one label.
        alignment: whether and how windows follow the objects.
        motion: whether optical flow is estimated for an encoder that takes it (MER, eq. 5); it
            gets zeros otherwise.
        value_extraction: whether keys are refined by MER's value extraction (eqs. 6 to 12).
    """

    stride: int
    key_dim: int
    size: int
    radius: int = 12
    top_k: int | None = None
    temperature: float = 1.0
    edges: bool = True
    memory: Memory = field(default_factory=ReferencePolicy)
    sampler: SamplerSettings = field(default_factory=WindowSettings)
    fusion: Fusion = field(default_factory=JointFusion)
    alignment: Alignment = field(default_factory=NoAlignment)
    motion: bool = False
    value_extraction: bool = False

    def __post_init__(self) -> None:
        logits = (2 * self.radius + 1) ** 2
        fits = self.top_k is None or 1 <= self.top_k <= logits
        lengths = min(self.stride, self.key_dim, self.radius)
        if lengths < 1 or self.size < 2 * self.stride or not fits or self.temperature <= 0:
            raise BundleError(
                "a composition needs a stride, key_dim and radius of at least 1, a size of at "
                f"least two strides, a top_k of None or 1 to the {logits} cells of a window, and a "
                f"temperature above 0; received {self}"
            )

    @property
    def colour(self) -> InputColour:
        """What the encoder takes: Lab, of which a channel can be hidden."""
        return LAB

    @property
    def slots(self) -> int:
        """Frames that memory must hold, the current one included."""
        return self.memory.slots

    @property
    def graphs(self) -> set[str]:
        """Names of the graphs that it runs."""
        refines = {"value_extraction"} if self.value_extraction else set()
        columns = {"column_total"} if reads_columns(self.fusion) else set()
        clusters = {"cluster_readout"} if isinstance(self.sampler, ClusterSettings) else set()
        return {"encoder", "label_readout"} | refines | columns | clusters

    def exchange(self, **parts: str | Part | bool | int | None) -> Composition:
        """Return this composition with other parts; None leaves what is.

        Args:
            parts: ``memory``, ``sampler``, ``fusion``, ``alignment``: the name of a kind, which
                comes with its default settings unless it is the present one, or settings;
                ``edges``, ``motion``, ``value_extraction``: on or off.

        Raises:
            BundleError: no such kind, or on and off for what has kinds, or the reverse.
        """
        given = {part: kind for part, kind in parts.items() if kind is not None}
        foreign = sorted(set(given) - {*KINDS, *FLAGS})
        if foreign:
            raise BundleError(
                f"received {', '.join(foreign)} for a model that propagates labels, which has "
                "none: SRNet has; leave it out"
            )
        for part, kind in given.items():
            if (part in KINDS) is isinstance(kind, bool):
                raise BundleError(f"received {kind!r} for {part}, which no {part} can be")
        changed = {
            part: make_part(part, kind, getattr(self, part)) if isinstance(kind, str) else kind
            for part, kind in given.items()
        }
        return replace(self, **changed)  # type: ignore[arg-type]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; each part begins with its kind."""
        parts = {
            p: {"kind": kind_of(p, getattr(self, p)), **asdict(getattr(self, p))} for p in KINDS
        }
        return {**asdict(self), **parts}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Composition:
        """Read what ``to_json`` writes.

        Raises:
            KeyError, TypeError, AttributeError, ValueError: it is something else.
            BundleError: settings that cannot be.
        """
        return composition_from_json(cls, value)


def composition_from_json(kind: type[Kind], value: Mapping[str, Any]) -> Kind:
    """Read a composition of a kind; nothing may be left out; raises what ``from_json`` tells."""
    expected = {entry.name for entry in fields(kind)}
    if set(value) != expected:
        raise KeyError(f"a composition of {sorted(value)} instead of {sorted(expected)}")
    return kind(**parts_from_json(value))


def kind_of(part: str, settings: Part) -> str:
    """Name of the kind of a part that has these settings."""
    return next(name for name, kind in KINDS[part].items() if kind is type(settings))


def make_part(part: str, kind: str, present: Part) -> Any:
    """Default settings of a kind; the present ones where they are of it.

    Raises:
        BundleError: no such kind.
    """
    made: Part = _find_kind(part, kind)()
    return present if type(present) is type(made) else made


def part_from_json(part: str, value: Mapping[str, Any]) -> Part:
    """Read one part as ``Composition.to_json`` writes it; what is left out has its default.

    Args:
        part: a key of ``KINDS``.
        value: ``kind`` and settings.

    Raises:
        KeyError, TypeError: no such kind or setting.
        BundleError: settings that cannot be.
    """
    settings = {
        name: tuple(entry) if isinstance(entry, list) else entry
        for name, entry in value.items()
        if name != "kind"
    }
    made: Part = KINDS[part][value["kind"]](**settings)
    return made


def parts_from_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """Read several parts by their names, see ``part_from_json``; what has no kinds stays."""
    return {
        part: part_from_json(part, settings) if part in KINDS else settings
        for part, settings in value.items()
    }


def part_from_text(part: str, text: str) -> str | Part:
    """Read one part as a user writes it: ``dynamic``, or ``dynamic:short=3,prune_short=fifo``.

    Args:
        part: a key of ``KINDS``.
        text: a kind and, after a colon, settings with JSON values; a word needs no quotes.

    Returns:
        The name of the kind where there is no colon, otherwise settings; see ``exchange``.

    Raises:
        BundleError: no such kind or setting, or a value that cannot be.
    """
    kind, colon, given = text.partition(":")
    known = [entry.name for entry in fields(_find_kind(part, kind))]
    if not colon:
        return kind
    settings: dict[str, Any] = {}
    for name, equals, value in (piece.partition("=") for piece in _SETTING.findall(given)):
        if name not in known or not equals:
            raise BundleError(
                f"received {name + equals + value!r} for {part} {kind}; expected setting=value of "
                f"{', '.join(known) or 'none: it has no settings'}"
            )
        settings[name] = _read_value(value)
    try:
        return part_from_json(part, {"kind": kind, **settings})
    except TypeError as exc:
        raise BundleError(f"received {part} {text!r}, of which a value is of a wrong type") from exc


def _find_kind(part: str, kind: str) -> type[Any]:
    if kind not in KINDS[part]:
        raise BundleError(f"received {part} {kind!r}; expected one of {', '.join(KINDS[part])}")
    return KINDS[part][kind]


def _read_value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
