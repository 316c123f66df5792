"""What a composition asks of a model's graphs."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from vcedge_runtime.engines.base import Engine
from vcedge_runtime.errors import TrackerError
from vcedge_runtime.model.bundle import AnyComposition, Bundle
from vcedge_runtime.model.composition import Composition
from vcedge_runtime.model.spec import GraphSpec
from vcedge_runtime.predictors.reader import JOINT_READOUT
from vcedge_runtime.propagation.fusion import JointFusion
from vcedge_runtime.sampling.clusters import ClusterSettings
from vcedge_runtime.sampling.sampling import WindowSettings

KEYS = ("key", "query", "keys")
"""Tensors of graphs whose last axis is a key's channels."""


def choose_graphs(parts: AnyComposition, there: Collection[str]) -> set[str]:
    """Names of the graphs that a composition runs, of those that there are.

    Where labels are merged by one softmax in plain windows, the graph that does so takes the place
    of the one that reads each reference alone; bundles that were exported before lack it.
    """
    wanted = set(parts.graphs)
    if isinstance(parts, Composition) and JOINT_READOUT in there:
        plain = isinstance(parts.sampler, WindowSettings)
        if plain and parts.fusion == JointFusion():
            return (wanted - {"label_readout"}) | {JOINT_READOUT}
    return wanted


def require_graphs(bundle: Bundle, specs: Mapping[str, GraphSpec]) -> None:
    """Refuse a composition that asks for what the model's graphs, by name, do not give.

    Raises:
        TrackerError: the composition needs another graph, or keys of another length, or the
            encoder's takes no flow.
    """
    parts = bundle.tracking
    labels = parts if isinstance(parts, Composition) else None
    if labels and labels.value_extraction and "value_extraction" not in specs:
        raise TrackerError(
            f"model {bundle.name} has no value extraction; leave --values out, or use a model that "
            "was trained with it"
        )
    if labels and labels.value_extraction and labels.value_frames == "target":
        require_input(bundle, specs["value_extraction"], "target", "--value-frames own")
    missing = choose_graphs(parts, specs) - set(specs)
    if missing:
        raise TrackerError(
            f"bundle {bundle.folder} gives the graphs {sorted(specs)}; expected also "
            f"{sorted(missing)}; export the bundle again"
        )
    keys = {
        tensor.shape[-1]
        for spec in specs.values()
        for tensor in spec.tensors
        if tensor.name in KEYS
    }
    if keys - {parts.key_dim}:
        raise TrackerError(
            f"bundle {bundle.folder} says that keys have {parts.key_dim} channels, and its graphs "
            f"have {', '.join(map(str, sorted(keys, key=str)))}; export the bundle again"
        )
    if labels and labels.motion and not takes_flow(specs["encoder"]):
        raise TrackerError(
            f"the encoder of model {bundle.name} takes no optical flow; leave --motion out, or use "
            "a model that was trained with it"
        )


def require_input(bundle: Bundle, spec: GraphSpec, name: str, instead: str) -> None:
    """Refuse a graph that was exported before it knew an input.

    Args:
        bundle: the model's.
        spec: the graph's.
        name: of the input.
        instead: what the user can pass to do without.

    Raises:
        TrackerError: it lacks the input.
    """
    if all(tensor.name != name for tensor in spec.inputs):
        raise TrackerError(
            f"received a graph {spec.name} of bundle {bundle.folder} without the input {name}; "
            f"export the bundle again, or pass {instead}"
        )


def takes_flow(encoder: GraphSpec) -> bool:
    """Tell whether an encoder wants encoded optical flow beside the frame."""
    return any(tensor.name == "flow" for tensor in encoder.inputs)


def count_reach(parts: Composition, engines: Mapping[str, Engine]) -> int:
    """Cells that a window may reach; what a graph knows nothing of, no table need hold."""
    if not isinstance(parts.sampler, ClusterSettings):
        return parts.radius
    known = {tensor.name for tensor in engines["cluster_readout"].spec.inputs}
    return max(parts.radius, parts.sampler.reach if "reach" in known else 0)
