"""What is exported of a model that segments each object on its own: SRNet, STCN, XMem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vcedge.models.srnet import SRNet
from vcedge.models.srnet_graphs import AlignmentGraph, srnet_graphs, stcn_graphs
from vcedge.models.stcn import STCN
from vcedge.models.xmem import XMem
from vcedge.models.xmem_graphs import xmem_graphs
from vcedge_export.plan import ExportedModel, ExportOptions
from vcedge_runtime.errors import ExportError
from vcedge_runtime.frames.following import FollowingWindow, FullWindow
from vcedge_runtime.model.object_composition import ObjectComposition

ObjectNetwork = SRNet | STCN | XMem
SIZE = 480
"""Default working size."""
CELLS = 7 * 9
"""Of the example's grid."""
COUNTED = (
    "query_encoder",
    "value_encoder",
    "feature_alignment",
    "readout_mix",
    "prototype_transformer",
    "mask_decoder",
)
"""Graphs whose work grows as the image does, or as image and objects do, whatever the memory."""


def compose_object_model(
    network: ObjectNetwork, own: Mapping[str, Any], options: ExportOptions
) -> ObjectComposition:
    """Choose the run-time part.

    Args:
        network: the network.
        own: what its method chooses, as ``Weights.composition``.
        options: what the user chose, which comes before it.

    Raises:
        ExportError: the options belong to models that propagate labels.
        BundleError: settings that cannot be, or that belong to models that propagate labels.
    """
    if options.radius is not None or options.temperature is not None:
        raise ExportError(
            f"received a radius or a temperature for {type(network).__name__}, which reads all of "
            "memory and was trained with its own scale; leave it out"
        )
    profile = network.profile
    plain = ObjectComposition(
        stride=profile.stride,
        key_dim=profile.key_dim,
        value_dim=profile.value_dim,
        size=options.size or SIZE,
        top_k=options.top_k or network.top_k,
        local=network.local,
        prototypes=network.uses_prototypes,
        colour=profile.colour,
        window=FollowingWindow() if profile.follows else FullWindow(),
        doubt=profile.doubt,
        **{"memory": profile.memory, **network.composition},
    )
    composition = plain.exchange(**own).exchange(**options.overrides)
    for part, asked in (("local", composition.local), ("prototypes", composition.prototypes)):
        trained = getattr(plain, part)
        if asked != trained and asked in ("fam", True):
            raise ExportError(
                f"received {part} {asked} for a network that was trained with {trained}; leave it "
                "out"
            )
    return composition


def plan_object_model(
    network: ObjectNetwork, composition: ObjectComposition, options: ExportOptions
) -> ExportedModel:
    """Choose the graphs of a network, for a run-time part that ``compose_object_model`` made."""
    stride = composition.stride
    # More cells than a readout takes, whatever it takes.
    references = 3 + (composition.top_k or 0) // CELLS
    lengths = {"slots": 8 + references, "references": references, "objects": 2}
    lengths |= {"labels": lengths["objects"] + 1, "channels": 5}
    for axis, cells in (("h", 7), ("w", 9)):
        at8, at4 = cells * stride // 8, cells * stride // 4
        lengths |= {axis: cells, f"{axis}8": at8, f"{axis}4": at4, axis.upper(): cells * stride}
    whole = composition.exchange(local=network.local, prototypes=network.uses_prototypes)
    written = {}
    if not isinstance(network, SRNet):
        if options.deform_conv:
            raise ExportError(
                "received deform_conv for a model without one; SRNet has; leave it out"
            )
        modules = (
            xmem_graphs(network, composition.top_k)
            if isinstance(network, XMem)
            else stcn_graphs(network, composition.top_k)
        )
    else:
        modules = srnet_graphs(network, composition.top_k)
        if options.deform_conv:
            native = AlignmentGraph(network, native=True)
            written = {native.spec.name: native}
    return ExportedModel(
        network.profile.name, composition, whole, modules, lengths, COUNTED, written
    )
