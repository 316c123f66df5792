"""From weights to a bundle: graphs, what is known of them, and the proof against PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vcedge.models.graph import GraphModule
from vcedge.models.weights import Weights
from vcedge_export.onnx import export_onnx
from vcedge_export.plan import ExportedModel, ExportOptions
from vcedge_export.planning import compose, open_modules, plan_export
from vcedge_export.verify import TruthClip
from vcedge_export.writing import OnStage, UnprovenBundle, ignore_stage, write_bundle
from vcedge_runtime.frames.resizing import working_size
from vcedge_runtime.model.bundle import (
    AnyComposition,
    Bundle,
    GraphFile,
    name_after,
)
from vcedge_runtime.reading import sha256_of

COUNTED_HW = (480, 854)
"""Frame whose work is counted, in the bundle's working size: 16 to 9."""


def export_bundle(
    weights: Weights,
    folder: Path,
    clip: TruthClip,
    options: ExportOptions,
    on_stage: OnStage = ignore_stage,
) -> Bundle:
    """Export a model to a folder and prove it.

    Args:
        weights: the trained network.
        folder: the bundle's folder.
        clip: what to verify on.
        options: the run-time choices.
        on_stage: told what begins, and how far it is.

    Raises:
        OutputError: the folder exists and may not be overwritten, is no bundle, or cannot be
            written.
        ExportError: a graph cannot be exported, the network lacks what the options ask for, or INT8
            loses more than they allow.
        EngineError: an engine cannot be built; the bundle stands.
        BundleError: the options cannot be.
    """

    def draft(partial: Path) -> UnprovenBundle:
        model = plan_export(weights, options)
        facts = facts_as_exported(weights, model.composition, options)
        bundle = _write_graphs(model, partial, name_after(folder), facts, on_stage)
        whole = replace(bundle, composition=model.whole)
        return UnprovenBundle(bundle, whole, lambda: open_modules(model))

    return write_bundle(folder, draft, clip, options, on_stage)


def facts_as_exported(
    weights: Weights, composition: AnyComposition, options: ExportOptions
) -> dict[str, Any]:
    """What is known of a model, for its bundle: its accuracy, where what was measured is exported.

    FP16 is proven to keep it. A composition that the options changed may not, nor does INT8.
    """
    facts = dict(weights.facts)
    if options.int8 or composition != compose(weights, ExportOptions()):
        facts.pop("accuracy", None)
    return facts


def _write_graphs(
    model: ExportedModel,
    folder: Path,
    name: str,
    facts: Mapping[str, Any],
    on_stage: OnStage,
) -> Bundle:
    graphs = {}
    for graph, module in model.modules.items():
        on_stage(graph)
        path = folder / f"{graph}.onnx"
        export_onnx(model.written.get(graph, module), model.lengths, path)
        macs = _count_work(model, module) if graph in model.counted else (0.0, 0.0)
        graphs[graph] = GraphFile(module.spec, path.name, sha256_of(path), "fp32", *macs)
    return Bundle(folder, name, model.profile, model.composition, graphs, facts)


def _count_work(model: ExportedModel, module: GraphModule) -> tuple[float, float]:
    """Multiply-accumulates per pixel, and per pixel and object, at the bundle's working size."""
    parts = model.composition
    work_hw = working_size(COUNTED_HW, parts.size, parts.stride)
    lengths, pixels = model.lengths_at(work_hw), work_hw[0] * work_hw[1]
    one = module.count_macs({**lengths, "objects": 1}) / pixels
    if not any("objects" in tensor.shape for tensor in module.spec.tensors):
        return one, 0.0
    two = module.count_macs({**lengths, "objects": 2}) / pixels
    return 2 * one - two, two - one
