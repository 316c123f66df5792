"""The proof of a bundle: against PyTorch, or against another bundle of the same model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from vcedge.models.network import KeyNetwork
from vcedge.models.srnet import SRNet
from vcedge.models.weights import Weights
from vcedge_export.label_model import compose_label_model, plan_label_model
from vcedge_export.object_model import compose_object_model, plan_object_model
from vcedge_export.plan import ExportedModel, ExportOptions
from vcedge_export.precision import open_engines
from vcedge_export.torch_engine import TorchEngine
from vcedge_export.verify import BOUNDS, OnRun, TruthClip, verify_bundle
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.errors import ExportError
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.model.composition import Composition
from vcedge_runtime.model.object_composition import ObjectComposition
from vcedge_runtime.predictors.labels import takes_flow


def compose(weights: Weights, options: ExportOptions) -> Composition | ObjectComposition:
    """Choose the run-time part of a model: the user's choice, else its method's, else its kind's.

    Raises:
        ExportError: the network lacks what the options ask for.
        BundleError: settings that cannot be.
    """
    if isinstance(weights.network, KeyNetwork):
        return compose_label_model(weights.network, weights.composition, options)
    return compose_object_model(weights.network, weights.composition, options)


def plan_export(weights: Weights, options: ExportOptions) -> ExportedModel:
    """Choose the run-time part and the graphs of a model.

    Raises:
        ExportError: the network lacks what the options ask for.
        BundleError: settings that cannot be.
    """
    network, composition = weights.network, compose(weights, options)
    if isinstance(composition, Composition):
        assert isinstance(network, KeyNetwork)
        return plan_label_model(network, composition, options)
    assert isinstance(network, SRNet)
    return plan_object_model(network, composition, options)


def plan_bundle(weights: Weights, bundle: Bundle) -> ExportedModel:
    """Choose the graphs and the run-time part that a bundle of a model has.

    Raises:
        ExportError: the bundle is of another network.
    """
    parts = bundle.composition
    options = ExportOptions(size=parts.size, top_k=parts.top_k)
    if isinstance(parts, Composition) and isinstance(weights.network, KeyNetwork):
        options = replace(options, radius=parts.radius, temperature=parts.temperature)
    model = plan_export(weights, options)
    specs = {name: module.spec for name, module in model.modules.items()}
    if specs != {name: graph.spec for name, graph in bundle.graphs.items()}:
        raise ExportError(
            f"the graphs of {bundle.folder} ({bundle.profile}) are not those of such a network "
            f"({model.profile}); pass the weights that it was exported from"
        )
    return model


def switch_on(bundle: Bundle) -> Bundle:
    """The bundle with optical flow and value extraction where it has them, as export proves it."""
    parts = bundle.composition
    if not isinstance(parts, Composition):
        return bundle
    whole = parts.exchange(
        motion=takes_flow(bundle.graphs["encoder"].spec),
        value_extraction="value_extraction" in bundle.graphs,
    )
    return replace(bundle, composition=whole)


def open_modules(model: ExportedModel) -> dict[str, Engine]:
    """Open every graph of a model in PyTorch."""
    return {name: TorchEngine(module, module.spec) for name, module in model.modules.items()}


def prove(
    bundle: Bundle,
    open_source: Callable[[], Mapping[str, Engine]],
    clip: TruthClip,
    *,
    max_drop: float = BOUNDS["int8"].score,
    on_run: OnRun | None = None,
    open_exported: Callable[[], Mapping[str, Engine]] | None = None,
) -> dict[str, Any]:
    """Compare a bundle with its source; where layers are in FP16, as a GPU rounds them too.

    Args:
        bundle: whose files, and with whose run-time part.
        open_source: an engine for each of its graphs, of what it must be equal to.
        clip: frames with truth.
        max_drop: most J&F that INT8 may lose.
        on_run: told each run; see ``verify_bundle``.
        open_exported: an engine for each graph, on what shall be proven; ONNX Runtime's on the CPU
            when None.

    Returns:
        Plain JSON values, for the manifest; in FP16 on the CPU those of the rounded graphs, and
        under ``unrounded`` those of the files as ONNX Runtime runs them there.

    Raises:
        ExportError: the clip is too short.
        EngineError: an engine cannot be built or opened.
    """

    def verify(exported: Mapping[str, Engine]) -> dict[str, Any]:
        found = verify_bundle(
            bundle, exported, open_source(), clip, max_drop=max_drop, on_run=on_run
        )
        return found.to_json()

    if open_exported is not None:
        return verify(open_exported())
    found = verify(open_engines(bundle, bundle.graphs))
    if any(graph.half for graph in bundle.graphs.values()):
        unrounded, found = found, verify(open_engines(bundle, bundle.graphs, rounded=True))
        found |= {"passes": found["passes"] and unrounded["passes"], "unrounded": unrounded}
    return found
