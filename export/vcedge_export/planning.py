"""What is exported of weights, and the same in PyTorch."""

from __future__ import annotations

from dataclasses import replace

from vcedge.models.network import KeyNetwork
from vcedge.models.prompts import PromptNetwork
from vcedge.models.weights import Weights
from vcedge_export.label_model import compose_label_model, plan_label_model
from vcedge_export.object_model import compose_object_model, plan_object_model
from vcedge_export.plan import ExportedModel, ExportOptions
from vcedge_export.prompt_model import compose_prompt_model, plan_prompt_model
from vcedge_export.torch_engine import TorchEngine
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.errors import ExportError
from vcedge_runtime.model.bundle import AnyComposition, Bundle
from vcedge_runtime.model.composition import Composition
from vcedge_runtime.model.prompt_composition import PromptComposition


def compose(weights: Weights, options: ExportOptions) -> AnyComposition:
    """Choose the run-time part of a model: the user's choice, else its method's, else its kind's.

    Raises:
        ExportError: the network lacks what the options ask for.
        BundleError: settings that cannot be.
    """
    if isinstance(weights.network, KeyNetwork):
        return compose_label_model(weights.network, weights.composition, options)
    if isinstance(weights.network, PromptNetwork):
        return compose_prompt_model(weights.network, options)
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
    if isinstance(composition, PromptComposition):
        assert isinstance(network, PromptNetwork)
        return plan_prompt_model(network, composition)
    assert not isinstance(network, KeyNetwork | PromptNetwork)
    return plan_object_model(network, composition, options)


def plan_bundle(weights: Weights, bundle: Bundle) -> ExportedModel:
    """Choose the graphs and the run-time part that a bundle of a model has.

    Raises:
        ExportError: the bundle is of another network.
    """
    parts = bundle.composition
    options = ExportOptions(size=parts.size)
    if not isinstance(parts, PromptComposition):
        options = replace(options, top_k=parts.top_k)
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


def open_modules(model: ExportedModel) -> dict[str, Engine]:
    """Open every graph of a model in PyTorch."""
    return {name: TorchEngine(module, module.spec) for name, module in model.modules.items()}
