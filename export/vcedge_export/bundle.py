"""Write a bundle: graphs, manifest, checksums, and the proof."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from vcedge.models.encoder import FrameEncoder
from vcedge.models.readout import ColumnTotal, LabelReadout
from vcedge.models.value_extraction import FrameValues
from vcedge.models.weights import Weights
from vcedge_export.onnx import export_onnx
from vcedge_export.torch_engine import TorchEngine
from vcedge_export.verify import TruthClip, verify_bundle
from vcedge_runtime.bundle import MANIFEST, Bundle, GraphFile, sha256_of
from vcedge_runtime.composition import Composition, Part
from vcedge_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vcedge_runtime.errors import ExportError, OutputError
from vcedge_runtime.predictor import VALUE_REFERENCES, takes_flow
from vcedge_runtime.spec import GraphSpec

GraphModule = FrameEncoder | LabelReadout | ColumnTotal | FrameValues
DEFAULT_SIZES = {"edge": 480, "paper": 240}
"""Default working size of a profile; the J&F-against-speed table of the README is the reason."""


@dataclass(frozen=True)
class ExportOptions:
    """What the user chose.

    Attributes:
        size: default working size of the bundle; the profile's when None.
        radius: window radius in key cells.
        top_k: logits that take part in a readout, or None for all.
        temperature: divides the logits of a readout; 0.5 is best for the shipped weights (our
            choice, measured on the development sequences).
        edges: whether masks are brought to the frame's own edges.
        memory: which frames are read: a kind with its default settings, or settings.
        sampler: where in them a cell looks, likewise.
        fusion: how what was read becomes one label, likewise.
        alignment: whether and how windows follow the objects, likewise; they do so by default
            (measured: 3 points on the development sequences).
        motion: whether the bundle estimates optical flow; as the network does when None. Off, a
            tracker can still be opened with it. What was verified is the network's own way.
        value_extraction: whether it refines keys, likewise.
        overwrite: replace a bundle that stands in the folder.
    """

    size: int | None = None
    radius: int = 12
    top_k: int | None = None
    temperature: float = 0.5
    edges: bool = True
    memory: str | Part = "references"
    sampler: str | Part = "window"
    fusion: str | Part = "joint"
    alignment: str | Part = "objects"
    motion: bool | None = None
    value_extraction: bool | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k < 1:
            raise ExportError(f"received top_k {self.top_k}; expected at least 1")


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
        ExportError: a graph cannot be exported, or the network lacks what the options ask for.
    """
    _require_free(folder, options.overwrite)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
    except OSError as exc:
        raise OutputError(f"{folder} cannot be written: {exc}") from exc
    try:
        bundle = _write_graphs(weights, partial, folder.name, options, on_stage)
        on_stage("verify")
        proven = _prove(bundle, _modules(weights, bundle.composition), clip)
        proven.save()
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return replace(proven, folder=folder)


def _require_free(folder: Path, overwrite: bool) -> None:
    if not folder.exists():
        return
    if not overwrite:
        raise OutputError(f"{folder} exists; pass --overwrite or choose another --out")
    if not (folder / MANIFEST).is_file():
        raise OutputError(f"{folder} exists and is no bundle; remove it or choose another --out")


def _write_graphs(
    weights: Weights,
    folder: Path,
    name: str,
    options: ExportOptions,
    on_stage: Callable[[str], None],
) -> Bundle:
    composition = _compose(weights, options)
    graphs = {}
    for graph, module in _modules(weights, composition).items():
        on_stage(graph)
        file = f"{graph}.onnx"
        export_onnx(module, module.spec, _examples(module.spec, composition), folder / file)
        macs = module.count_macs() if isinstance(module, FrameEncoder) else 0.0
        graphs[graph] = GraphFile(module.spec, file, sha256_of(folder / file), "fp32", macs)
    return Bundle(folder, name, weights.network.profile.name, composition, graphs, weights.facts)


def _compose(weights: Weights, options: ExportOptions) -> Composition:
    network, profile = weights.network, weights.network.profile
    plain = Composition(
        stride=profile.stride,
        key_dim=profile.key_dim,
        size=options.size or DEFAULT_SIZES[profile.name],
        radius=options.radius,
        top_k=options.top_k,
        temperature=options.temperature,
        edges=options.edges,
    )
    return plain.exchange(
        memory=options.memory,
        sampler=options.sampler,
        fusion=options.fusion,
        alignment=options.alignment,
        motion=_choose("motion", options.motion, network.encoder.alpha is not None),
        value_extraction=_choose(
            "value_extraction", options.value_extraction, network.values is not None
        ),
    )


def _choose(part: str, wanted: bool | None, there: bool) -> bool:
    if wanted and not there:
        raise ExportError(f"the network was trained without {part}; leave it out or switch it off")
    return there if wanted is None else wanted


def _modules(weights: Weights, composition: Composition) -> Mapping[str, GraphModule]:
    """Every graph that the model needs, and what any sampler and fusion may ask for."""
    key_dim, temperature = composition.key_dim, composition.temperature
    modules: dict[str, GraphModule] = {
        "encoder": FrameEncoder(weights.network.encoder),
        "label_readout": LabelReadout(key_dim, composition.top_k, temperature).eval(),
        "cluster_readout": LabelReadout(
            key_dim, composition.top_k, temperature, second_window=True
        ).eval(),
        "column_total": ColumnTotal(key_dim, temperature).eval(),
    }
    if weights.network.values is not None:
        references = VALUE_REFERENCES.references
        modules["value_extraction"] = FrameValues(weights.network.values, references)
    return modules


def _prove(bundle: Bundle, modules: Mapping[str, GraphModule], clip: TruthClip) -> Bundle:
    exported = {
        name: OnnxRuntimeEngine(bundle.path_of(name), graph.spec)
        for name, graph in bundle.graphs.items()
    }
    model = {name: TorchEngine(module, module.spec) for name, module in modules.items()}
    # Flow and value extraction are proven also where the bundle has them switched off.
    whole = bundle.composition.exchange(
        motion=takes_flow(model["encoder"].spec), value_extraction="value_extraction" in model
    )
    verification = verify_bundle(replace(bundle, composition=whole), exported, model, clip)
    return replace(bundle, verification=verification.to_json())


def _examples(spec: GraphSpec, composition: Composition) -> dict[str, Tensor]:
    """Small inputs whose lengths all differ, so that the exporter ties none of them together."""
    lengths = {
        "H": 7 * composition.stride,
        "W": 9 * composition.stride,
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
    return {
        tensor.name: torch.zeros(
            [lengths[dim] if isinstance(dim, str) else dim for dim in tensor.shape],
            dtype=getattr(torch, tensor.dtype),
        )
        for tensor in spec.inputs
    }
