"""What is exported of a model that makes first masks."""

from __future__ import annotations

from vcedge.models.prompt_graph import PromptGraph
from vcedge.models.prompts import STRIDE, PromptNetwork
from vcedge_export.plan import ExportedModel, ExportOptions
from vcedge_runtime.errors import ExportError
from vcedge_runtime.model.prompt_composition import GRAPH, PromptComposition

LENGTHS = {"H": 7 * STRIDE, "W": 9 * STRIDE}
"""An example of the graph's lengths."""


def compose_prompt_model(network: PromptNetwork, options: ExportOptions) -> PromptComposition:
    """Choose the run-time part.

    Raises:
        ExportError: the options belong to models that track.
        BundleError: settings that cannot be.
    """
    asked = ("radius", "top_k", "temperature", "deform_conv")
    foreign = [name for name in asked if getattr(options, name)]
    if foreign:
        raise ExportError(
            f"received {', '.join(foreign)} for {network.profile.name}, which makes first masks; "
            "leave it out"
        )
    plain = PromptComposition(stride=STRIDE, colour=network.profile.colour)
    chosen = (
        plain
        if options.size is None
        else PromptComposition(stride=STRIDE, size=options.size, colour=network.profile.colour)
    )
    return chosen.exchange(**options.overrides)


def plan_prompt_model(network: PromptNetwork, composition: PromptComposition) -> ExportedModel:
    """Choose the graph of a network, for a run-time part that ``compose_prompt_model`` made."""
    graph = PromptGraph(network).eval()
    name = network.profile.name
    return ExportedModel(name, composition, composition, {GRAPH: graph}, LENGTHS, (GRAPH,))
