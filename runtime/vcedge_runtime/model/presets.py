"""Whole run-time parts by name: MER and DMP as their papers print them, without what is ours."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from vcedge_runtime.memory.dynamic import DynamicPolicy
from vcedge_runtime.memory.references import ReferencePolicy
from vcedge_runtime.propagation.fusion import BidirectionalFusion, VoteFusion
from vcedge_runtime.sampling.alignment import NoAlignment
from vcedge_runtime.sampling.clusters import ClusterSettings
from vcedge_runtime.sampling.regions import RegionSettings

PRINTED_REACH = 24
"""Cells within which A+ (MER, eq. 15) holds what is of the same cluster (our value)."""
_PLAIN = {"alignment": NoAlignment(), "edges": False, "point_flow": False}
"""No window follows an object, no mask is brought to the frame's edges, no point follows the flow:
these are ours."""
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "mer-as-printed": {
            **_PLAIN,
            "memory": ReferencePolicy(),
            "sampler": ClusterSettings(reach=PRINTED_REACH),
            "fusion": VoteFusion(),
            "motion": True,
            "value_extraction": True,
            "value_frames": "target",
        },
        "dmp-as-printed": {
            **_PLAIN,
            "memory": DynamicPolicy(position="feature"),
            "sampler": RegionSettings(),
            "fusion": BidirectionalFusion(backward="plain", candidates="regions", enhanced="query"),
        },
    }
)
"""Parts of a composition that propagates labels, by preset. Their stride, 4, is that of weights of
the profile ``paper``, and their temperature, 1, that of graphs: see ``vcedge export --preset``."""
PRESET_SIZE, PRESET_TEMPERATURE = 480, 1.0
"""Working size, and what divides the logits, of a bundle that is exported as a preset."""
