"""Write a bundle: graphs, manifest, checksums, and the proof."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vcedge.models.graph import GraphModule
from vcedge.models.weights import Weights
from vcedge_calibration.recording import CalibrationClip
from vcedge_export.int8 import Quantiser
from vcedge_export.onnx import export_onnx
from vcedge_export.plan import ExportedModel, ExportOptions
from vcedge_export.precision import lower_precision, name_dearest
from vcedge_export.proof import compose, open_modules, plan_export, prove
from vcedge_export.verify import TruthClip
from vcedge_runtime.errors import ExportError, OutputError
from vcedge_runtime.files import writing_folder
from vcedge_runtime.frames.resizing import working_size
from vcedge_runtime.model.bundle import MANIFEST, Bundle, GraphFile, sha256_of
from vcedge_runtime.model.composition import Composition
from vcedge_runtime.model.object_composition import ObjectComposition

COUNTED_HW = (480, 854)
"""Frame whose work is counted, in the bundle's working size: 16 to 9."""


def export_bundle(
    weights: Weights,
    folder: Path,
    clip: TruthClip,
    options: ExportOptions,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Bundle:
    """Export a model to a folder and prove it.

    Nothing stands under the folder's name before the whole bundle is written.

    Args:
        weights: the trained encoder.
        folder: the bundle's folder.
        clip: what to verify on.
        options: the run-time choices.
        on_stage: told what begins.

    Raises:
        OutputError: the folder exists and may not be overwritten, is no bundle, or cannot be
            written.
        ExportError: a graph cannot be exported, the network lacks what the options ask for, or INT8
            loses more than they allow.
        EngineError: an engine cannot be built; the bundle stands.
        BundleError: the options cannot be.
    """
    _require_free(folder, options.overwrite)
    with writing_folder(folder) as place:
        model = plan_export(weights, options)
        facts = facts_as_exported(weights, model.composition, options)
        bundle = _write_graphs(model, place, folder.name, facts, on_stage)
        on_stage("precision")
        first = CalibrationClip(clip.label, clip.frames, clip.masks[0])
        bundle, quantisers = lower_precision(bundle, options, first)
        on_stage("verify")
        whole = replace(bundle, composition=model.whole)
        found = prove(whole, lambda: open_modules(model), clip, max_drop=options.max_drop)
        proven = replace(bundle, verification=found)
        _refuse_loss(proven, quantisers, options.max_drop)
        proven.save()
    proven = replace(proven, folder=folder)
    return proven if options.engines is None else _prove_engines(proven, model, clip, options)


def facts_as_exported(
    weights: Weights, composition: Composition | ObjectComposition, options: ExportOptions
) -> dict[str, Any]:
    """What is known of a model, for its bundle: its accuracy, where what was measured is exported.

    FP16 is proven to keep it. A composition that the options changed may not, nor does INT8.
    """
    facts = dict(weights.facts)
    if options.int8 or composition != compose(weights, ExportOptions()):
        facts.pop("accuracy", None)
    return facts


def _prove_engines(
    bundle: Bundle, model: ExportedModel, clip: TruthClip, options: ExportOptions
) -> Bundle:
    """Build the engines of a bundle that stands, and write into it whether they are the model.

    Its own verdict stays: it is of the files, which other machines run.
    """
    whole, engines = replace(bundle, composition=model.whole), options.engines
    assert engines is not None
    found = prove(
        whole,
        lambda: open_modules(model),
        clip,
        max_drop=options.max_drop,
        open_exported=lambda: engines(whole),
    )
    proven = replace(bundle, verification={**bundle.verification, "tensorrt": found})
    proven.save()
    return proven


def _require_free(folder: Path, overwrite: bool) -> None:
    if not folder.exists():
        return
    if not overwrite:
        raise OutputError(f"{folder} exists; pass --overwrite or choose another --out")
    if not (folder / MANIFEST).is_file():
        raise OutputError(f"{folder} exists and is no bundle; remove it or choose another --out")


def _write_graphs(
    model: ExportedModel,
    folder: Path,
    name: str,
    facts: Mapping[str, Any],
    on_stage: Callable[[str], None],
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


def _refuse_loss(bundle: Bundle, quantisers: Mapping[str, Quantiser], max_drop: float) -> None:
    before, after = (bundle.verification[side] for side in ("score_model", "score_exported"))
    if quantisers and before - after > max_drop:
        raise ExportError(
            f"INT8 takes J&F from {before:.4f} to {after:.4f} on {bundle.verification['clip']}; "
            f"expected to lose {max_drop:.4f} at most. These layers cost most: "
            f"{name_dearest(quantisers)}. Keep some of them (--keep-layer), calibrate on more "
            "video or by another method, or allow more"
        )
