"""The precision of exported graphs: a property of their files, on every back-end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx

from vcedge_calibration.recording import CalibrationClip, Sample, record_inputs
from vcedge_export.half import to_half
from vcedge_export.half_rounding import round_like_half
from vcedge_export.int8 import Quantiser
from vcedge_export.onnx_files import save_onnx
from vcedge_export.plan import ExportOptions
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.engines.onnxruntime import OnnxRuntimeEngine, engine_from_bundle
from vcedge_runtime.errors import ExportError
from vcedge_runtime.model.bundle import QUANTISED, Bundle, GraphFile
from vcedge_runtime.model.spec import TensorSpec
from vcedge_runtime.reading import sha256_of

SAMPLES = 24
"""Runs of each graph that INT8 is calibrated on (our choice)."""
DEAREST = 5
"""Layers that a refusal names."""


def lower_precision(
    bundle: Bundle, options: ExportOptions, clip: CalibrationClip
) -> tuple[Bundle, dict[str, Quantiser]]:
    """Rewrite a bundle's files, which are in FP32, as the options ask for.

    A graph that has no layer to gain by it stays as it is.

    Returns:
        The bundle with what its files are now, and what quantised them, by graph.

    Raises:
        ExportError: a graph cannot be rewritten, or there is nothing to calibrate it on.
    """
    quantisers = {}
    if options.int8:
        settings = replace(options.int8, symmetric=options.fp16)
        quantisers = {
            name: Quantiser(bundle.path_of(name), samples, settings)
            for name, samples in _choose_samples(bundle, options, clip).items()
        }
        run = bundle.composition.graphs & set(bundle.graphs)
        lacking = [name for name in QUANTISED if name in run and name not in quantisers]
        lacking += [name for name, quantiser in quantisers.items() if not quantiser.layers]
        if lacking or not quantisers:
            raise ExportError(
                f"received no samples or no layer to quantise of {lacking or 'any graph'}; "
                "calibrate on a bundle of this model"
            )
        strange = [n for n in options.int8.kept if n.partition(".")[0] not in quantisers]
        if strange:
            raise ExportError(
                f"received layers {strange} to keep; expected GRAPH.LAYER with one of the graphs "
                f"{sorted(quantisers)}"
            )
    graphs = {
        name: _lower(bundle.path_of(name), graph, quantisers.get(name), half=options.fp16)
        for name, graph in bundle.graphs.items()
    }
    return replace(bundle, graphs=graphs), quantisers


def _choose_samples(
    bundle: Bundle, options: ExportOptions, clip: CalibrationClip
) -> Mapping[str, Sequence[Sample]]:
    if options.samples is None:
        return record_inputs(bundle, [clip], samples=SAMPLES)
    for name, runs in options.samples.items():
        inputs = bundle.graphs[name].spec.inputs if name in bundle.graphs else ()
        if not inputs or not all(_fits(run, inputs) for run in runs):
            told = ", ".join(tensor.describe() for tensor in inputs) or "no such graph"
            raise ExportError(
                f"received samples of a graph {name} that the model's does not take ({told}); "
                "calibrate on a bundle of this model"
            )
    return options.samples


def _fits(run: Sample, inputs: Sequence[TensorSpec]) -> bool:
    """Whether names, dtypes and fixed lengths are those of a graph's inputs."""
    if set(run) != {tensor.name for tensor in inputs}:
        return False
    return all(
        run[tensor.name].dtype == tensor.dtype
        and run[tensor.name].ndim == len(tensor.shape)
        and all(
            isinstance(dim, str) or dim == length
            for dim, length in zip(tensor.shape, run[tensor.name].shape, strict=True)
        )
        for tensor in inputs
    )


def _lower(path: Path, graph: GraphFile, quantiser: Quantiser | None, *, half: bool) -> GraphFile:
    precision, islands, model, reached = "fp32", graph.islands, None, False
    if quantiser is not None:
        precision, model = "int8", quantiser.quantise()
    if half:
        written = to_half(model or onnx.load(path))
        islands, reached = written.islands, written.layers > 0
        if reached:
            precision, model = precision if model else "fp16", written.model
    if model is None:
        return replace(graph, islands=islands)
    save_onnx(model, path)
    return replace(
        graph, precision=precision, sha256=sha256_of(path), islands=islands, half=reached
    )


def open_engines(
    bundle: Bundle, graphs: Iterable[str], *, rounded: bool = False
) -> dict[str, Engine]:
    """Open graphs of a bundle in ONNX Runtime on the CPU.

    Args:
        bundle: whose files.
        graphs: names.
        rounded: as ``round_like_half`` writes them.
    """
    if not rounded:
        return {name: engine_from_bundle(bundle, name) for name in graphs}
    engines: dict[str, Engine] = {}
    for name in graphs:
        model = round_like_half(onnx.load_model_from_string(bundle.read_graph(name)))
        engines[name] = OnnxRuntimeEngine(model.SerializeToString(), bundle.graphs[name].spec)
    return engines


def name_dearest(quantisers: Mapping[str, Quantiser]) -> str:
    """Say which layers lose most when they alone are quantised."""
    costs = [
        (cost, f"{graph}.{layer}")
        for graph, quantiser in quantisers.items()
        for layer, cost in quantiser.rank_layers()
    ]
    dearest = sorted(costs, reverse=True)[:DEAREST]
    return ", ".join(f"{layer} ({cost:.1%} of its graph's outputs)" for cost, layer in dearest)
