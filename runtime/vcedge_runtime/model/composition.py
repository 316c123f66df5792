"""The run-time part of a model, as data: which memory, sampler and fusion, each exchangeable."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Annotated, Any

from vcedge_runtime.errors import BundleError
from vcedge_runtime.frames.colour import LAB, InputColour
from vcedge_runtime.frames.following import FollowingWindow, FullWindow
from vcedge_runtime.frames.motion import FLOW_SCALES
from vcedge_runtime.frames.resizing import LARGEST_SIZE
from vcedge_runtime.memory.dynamic import DynamicPolicy
from vcedge_runtime.memory.local_global import LocalGlobalPolicy
from vcedge_runtime.memory.long_term import LongTermPolicy
from vcedge_runtime.memory.references import ReferencePolicy
from vcedge_runtime.model.presets import PRESETS
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
from vcedge_runtime.settings import (
    Bounds,
    Kind,
    check_settings,
    parse_setting,
    settings_from_mapping,
    show,
)

Memory = ReferencePolicy | DynamicPolicy | LocalGlobalPolicy | LongTermPolicy
Alignment = NoAlignment | AlignmentSettings
Window = FullWindow | FollowingWindow
Part = Memory | SamplerSettings | Fusion | Alignment | Window

KINDS: Mapping[str, Mapping[str, type[Any]]] = {
    "memory": {
        "references": ReferencePolicy,
        "dynamic": DynamicPolicy,
        "local_global": LocalGlobalPolicy,
        "long_term": LongTermPolicy,
    },
    "sampler": {"window": WindowSettings, "clusters": ClusterSettings, "regions": RegionSettings},
    "fusion": {
        "joint": JointFusion,
        "mean": MeanFusion,
        "vote": VoteFusion,
        "bidirectional": BidirectionalFusion,
    },
    "alignment": {"none": NoAlignment, "objects": AlignmentSettings},
    "window": {"full": FullWindow, "follow": FollowingWindow},
}
"""The settings of every kind of every exchangeable part."""
LABEL_PARTS = ("memory", "sampler", "fusion", "alignment")
"""Those of a model that propagates labels."""
FLAGS = ("edges", "motion", "value_extraction", "point_flow")
"""What of a composition is on or off."""
WAYS = ("flow_scale", "value_frames")
"""What of a composition is one of a few names."""
VALUE_FRAMES = ("own", "target")
STRIDES = Bounds(4, 64)
CHANNELS = Bounds(1, 1024)
SIZES = Bounds(2, LARGEST_SIZE)
"""What a composition's lengths may be: pixels of a key cell, channels, pixels of a short side."""
_SETTING = re.compile(r"(?:\[[^\]]*\]|[^,\[])+")
"""One setting: all up to a comma that stands in no list."""


@dataclass(frozen=True)
class Composition:
    """The run-time part of a model, as data.

    Attributes:
        stride: pixels per key cell, 4 to 64.
        key_dim: channels of a key, 1 to 1,024.
        size: default working size, the short side in pixels, two strides to ``LARGEST_SIZE``.
        radius: window radius in key cells, 1 to 64.
        top_k: logits that take part in a readout, 1 to the cells of a window, or None for all.
        temperature: divides the logits of a readout, 0.001 to 1,000.
        edges: whether masks are brought to the frame's own edges.
        memory: which frames are read.
        sampler: where in them a cell looks.
        fusion: how what was read becomes one label.
        alignment: whether and how windows follow the objects.
        motion: whether optical flow is estimated for an encoder that takes it (MER, eq. 5); it
            gets zeros otherwise.
        value_extraction: whether keys are refined by MER's value extraction (eqs. 6 to 12).
        flow_scale: what optical flow is measured in, as in training; see ``FlowScale``.
        value_frames: by which frame's value map a reference's key is refined: ``target``, that of
            the frame that reads it (MER, eq. 11), which refines every reference anew for every
            frame; ``own``, its own, once (our choice).
        point_flow: whether points are followed by optical flow between frames, and by labels alone
            where that loses them; see ``PointFollower`` (our choice).
        colour: what the encoder takes: Lab, of which a channel can be hidden, or what it was
            pretrained on.
    """

    stride: Annotated[int, STRIDES]
    key_dim: Annotated[int, CHANNELS]
    size: Annotated[int, SIZES]
    radius: Annotated[int, Bounds(1, 64)] = 12
    top_k: Annotated[int, Bounds(1, 129**2)] | None = None
    temperature: Annotated[float, Bounds(1e-3, 1000)] = 1.0
    edges: bool = True
    memory: Memory = field(default_factory=ReferencePolicy)
    sampler: SamplerSettings = field(default_factory=WindowSettings)
    fusion: Fusion = field(default_factory=JointFusion)
    alignment: Alignment = field(default_factory=NoAlignment)
    motion: bool = False
    value_extraction: bool = False
    flow_scale: Annotated[str, FLOW_SCALES] = "side"
    value_frames: Annotated[str, VALUE_FRAMES] = "own"
    point_flow: bool = True
    colour: InputColour = LAB

    def __post_init__(self) -> None:
        check_settings(self)
        check_strides(self.size, self.stride)
        logits = (2 * self.radius + 1) ** 2
        if self.top_k is not None and self.top_k > logits:
            raise BundleError(
                f"received top_k={self.top_k}; expected a top_k of None or 1 to the {logits} cells "
                "of a window"
            )
        if isinstance(self.memory, LocalGlobalPolicy) and self.memory.scales:
            raise BundleError(
                f"received a memory with zoom={self.memory.zoom} for a model that propagates "
                "labels, which knows one view of a frame; leave it out, or use an SRNet"
            )

    @property
    def fit(self) -> str:
        """How a frame takes whole key cells: each side is brought to them."""
        return "resize"

    @property
    def window(self) -> FullWindow:
        """What is looked at of a frame: all of it, for its samplers know places of the frame."""
        return FullWindow()

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

    def exchange(self, **parts: Any) -> Composition:
        """Return this composition with other parts; None leaves what is.

        Args:
            parts: ``memory``, ``sampler``, ``fusion``, ``alignment``, ``edges``, ``motion``,
                ``value_extraction``, ``point_flow``, ``flow_scale``, ``value_frames``; see
                ``exchange_parts``. ``preset``, a name of ``PRESETS``, stands for several, before
                which others come.

        Raises:
            BundleError: no such part or kind, or a value that cannot be.
        """
        missing = "a model that propagates labels, which has none: SRNet has"
        preset = parts.pop("preset", None)
        if preset is not None:
            given = {part: value for part, value in parts.items() if value is not None}
            parts = {**find_preset(preset), **given}
        return exchange_parts(self, parts, (*LABEL_PARTS, *FLAGS, *WAYS), missing)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; each part begins with its kind."""
        parts = {part: part_to_json(part, getattr(self, part)) for part in LABEL_PARTS}
        return {**asdict(self), **parts}

    @classmethod
    def from_json(cls, value: Any) -> Composition:
        """Read what ``to_json`` writes.

        Raises:
            BundleError: it is something else, or settings that cannot be.
        """
        if isinstance(value, Mapping):
            # Manifests of before did not name these, which there were one of each.
            colour = settings_from_mapping(InputColour, value.get("colour", {}))
            before = {"flow_scale": "side", "value_frames": "own", "point_flow": True}
            value = {**before, **value, "colour": colour}
        return composition_from_json(cls, value)


def check_strides(size: int, stride: int) -> None:
    """Refuse a working size that is smaller than two key cells.

    Raises:
        BundleError: it is.
    """
    if size < 2 * stride:
        raise BundleError(
            f"received size={size} for key cells of {stride} pixels; expected at least two cells, "
            f"{2 * stride} pixels"
        )


def find_preset(name: Any) -> Mapping[str, Any]:
    """Parts of a preset.

    Raises:
        BundleError: there is no such preset.
    """
    if not isinstance(name, str) or name not in PRESETS:
        raise BundleError(f"received preset {show(name)}; expected one of {', '.join(PRESETS)}")
    return PRESETS[name]


def exchange_parts(present: Kind, parts: Mapping[str, Any], own: Sequence[str], lacks: str) -> Kind:
    """Return a composition with other parts, whoever names them.

    Args:
        present: the composition.
        parts: by name; None leaves what is. A part of ``KINDS``: a kind's name, which comes with
            its default settings unless it is the present one; a kind with settings, as text such as
            ``dynamic:short=3`` or as ``part_from_json`` reads it; or settings. Any other: a value,
            or text such as ``off``.
        own: parts that such a composition may exchange.
        lacks: says of what model another part was asked.

    Raises:
        BundleError: no such part or kind, or a value that cannot be.
    """
    given = {part: value for part, value in parts.items() if value is not None}
    foreign = sorted(set(given) - set(own))
    if foreign:
        raise BundleError(f"received {', '.join(foreign)} for {lacks}; leave it out")
    changed = {
        part: _read_part(part, value, getattr(present, part))
        if part in KINDS
        else parse_setting(type(present), part, value)
        if isinstance(value, str)
        else value
        for part, value in given.items()
    }
    return replace(present, **changed)


def composition_from_json(kind: type[Kind], value: Any) -> Kind:
    """Read a composition of a kind; nothing may be left out.

    Raises:
        BundleError: it is something else, or settings that cannot be.
    """
    expected = {entry.name for entry in fields(kind)}
    if not isinstance(value, Mapping) or set(value) != expected:
        received = sorted(value) if isinstance(value, Mapping) else show(value)
        raise BundleError(f"received a composition of {received}; expected {sorted(expected)}")
    made = {
        part: part_from_json(part, entry) if part in KINDS else entry
        for part, entry in value.items()
    }
    return settings_from_mapping(kind, made)


def kind_of(part: str, settings: Part) -> str:
    """Name of the kind of a part that has these settings."""
    return next(name for name, kind in KINDS[part].items() if kind is type(settings))


def part_to_json(part: str, settings: Part) -> dict[str, Any]:
    """Return plain JSON values, which begin with the kind of a part."""
    return {"kind": kind_of(part, settings), **asdict(settings)}


def part_from_json(part: str, value: Any) -> Part:
    """Read one part as ``Composition.to_json`` writes it; what is left out has its default.

    Args:
        part: a key of ``KINDS``.
        value: ``kind`` and settings.

    Raises:
        BundleError: no such kind or setting, or settings that cannot be.
    """
    if not isinstance(value, Mapping) or "kind" not in value:
        raise BundleError(f"received {show(value)} for {part}; expected its kind and settings")
    settings = {name: entry for name, entry in value.items() if name != "kind"}
    made: Part = settings_from_mapping(_find_kind(part, value["kind"]), settings)
    return made


def part_from_text(part: str, text: str) -> Part:
    """Read one part as a user writes it: ``dynamic``, or ``dynamic:short=3,prune_short=fifo``.

    Args:
        part: a key of ``KINDS``.
        text: a kind and, after a colon, settings as ``parse_setting`` reads them; what is left out
            has its default.

    Raises:
        BundleError: no such kind or setting, or a value that cannot be.
    """
    name, _, given = text.partition(":")
    kind = _find_kind(part, name)
    known = [entry.name for entry in fields(kind)]
    settings = {}
    for piece in _SETTING.findall(given):
        setting, equals, value = (word.strip() for word in piece.partition("="))
        if setting not in known or not equals:
            raise BundleError(
                f"received {show(piece)} for {part} {name}; expected setting=value of "
                f"{', '.join(known) or 'none: it has no settings'}"
            )
        settings[setting] = parse_setting(kind, setting, value)
    made: Part = settings_from_mapping(kind, settings)
    return made


def _read_part(part: str, value: Any, present: Part) -> Any:
    """Settings of a part as ``exchange_parts`` takes it; what is none is left to the check."""
    if isinstance(value, str):
        kept = value in KINDS[part] and KINDS[part][value] is type(present)
        return present if kept else part_from_text(part, value)
    return part_from_json(part, value) if isinstance(value, Mapping) else value


def _find_kind(part: str, kind: Any) -> type[Any]:
    if not isinstance(kind, str) or kind not in KINDS[part]:
        raise BundleError(f"received {part} {show(kind)}; expected one of {', '.join(KINDS[part])}")
    return KINDS[part][kind]
