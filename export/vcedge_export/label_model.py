"""What is exported of a model that propagates labels: MER, DMP and their base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vcedge.models.encoder import FrameEncoder
from vcedge.models.graph import GraphModule
from vcedge.models.network import KeyNetwork
from vcedge.models.readout import ColumnTotal, JointReadout, LabelReadout
from vcedge.models.value_extraction import FrameValues
from vcedge_export.plan import RADIUS, TEMPERATURE, ExportedModel, ExportOptions
from vcedge_runtime.errors import ExportError
from vcedge_runtime.model.composition import Composition
from vcedge_runtime.model.presets import PRESET_SIZE, PRESET_TEMPERATURE
from vcedge_runtime.predictors.reader import JOINT_READOUT
from vcedge_runtime.predictors.refining import VALUE_REFERENCES
from vcedge_runtime.sampling.alignment import AlignmentSettings

DEFAULT_SIZES = {"edge": 480, "paper": 240, "lite": 480}
"""Default working size of a profile; docs/results.md has the reason."""


def plan_label_model(
    network: KeyNetwork, composition: Composition, options: ExportOptions
) -> ExportedModel:
    """Choose the graphs of a network, for a run-time part that ``compose_label_model`` made.

    Raises:
        ExportError: the options belong to SRNet.
    """
    if options.deform_conv:
        raise ExportError("received deform_conv for a model without one; SRNet has; leave it out")
    modules = _modules(network, composition)
    encoder = modules["encoder"]
    assert isinstance(encoder, FrameEncoder)
    stride = composition.stride
    lengths = {
        "H": 7 * stride,
        "W": 9 * stride,
        "h": 7,
        "w": 9,
        "slots": 8,
        "channels": 4,
        "references": 2,
        "tiles": 3,
        "queries": 12,
        "columns": 12,
        "patch": max(40, composition.top_k or 0),
    }
    # Flow and value extraction are proven also where the bundle has them switched off.
    whole = composition.exchange(
        motion=encoder.motion, value_extraction="value_extraction" in modules
    )
    return ExportedModel(
        network.profile.name,
        composition,
        whole,
        modules,
        lengths,
        tuple(name for name in ("encoder", "value_extraction") if name in modules),
    )


def compose_label_model(
    network: KeyNetwork, own: Mapping[str, Any], options: ExportOptions
) -> Composition:
    """Choose the run-time part.

    Windows follow the objects unless the options say otherwise (measured: 3 points on the
    development sequences).

    Args:
        network: the network.
        own: what its method chooses, as ``Weights.composition``.
        options: what the user chose, which comes before it.

    Raises:
        ExportError: the network lacks what the options ask for.
        BundleError: settings that cannot be, or that belong to SRNet.
    """
    profile = network.profile
    size, temperature = DEFAULT_SIZES[profile.name], TEMPERATURE
    if "preset" in options.overrides:
        size, temperature = PRESET_SIZE, PRESET_TEMPERATURE
    plain = Composition(
        stride=profile.stride,
        key_dim=profile.key_dim,
        size=options.size or size,
        radius=options.radius or RADIUS,
        top_k=options.top_k,
        temperature=options.temperature or temperature,
        alignment=AlignmentSettings(),
        colour=profile.colour,
    )
    there = {
        "motion": network.encoder.alpha is not None,
        "value_extraction": network.values is not None,
    }
    composition = plain.exchange(**own).exchange(**there).exchange(**options.overrides)
    for part, trained in there.items():
        if getattr(composition, part) and not trained:
            raise ExportError(
                f"the network was trained without {part}; leave it out or switch it off"
            )
    return composition


def _modules(network: KeyNetwork, composition: Composition) -> dict[str, GraphModule]:
    """Every graph that the model needs, and what any sampler and fusion may ask for."""
    key_dim, temperature = composition.key_dim, composition.temperature
    modules: dict[str, GraphModule] = {
        "encoder": FrameEncoder(network.encoder),
        "label_readout": LabelReadout(key_dim, composition.top_k, temperature).eval(),
        "cluster_readout": LabelReadout(
            key_dim, composition.top_k, temperature, second_window=True
        ).eval(),
        "column_total": ColumnTotal(key_dim, temperature).eval(),
        JOINT_READOUT: JointReadout(key_dim, composition.top_k, temperature).eval(),
    }
    if network.values is not None:
        references = VALUE_REFERENCES.references
        modules["value_extraction"] = FrameValues(network.values, references)
    return modules
