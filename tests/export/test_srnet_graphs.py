"""SRNet's graphs in ONNX Runtime give what they give in PyTorch, at any size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from tests.tracing import TracedOnce
from vcedge.models.graph import GraphModule
from vcedge.models.weights import load_weights
from vcedge_export.plan import ExportedModel, ExportOptions
from vcedge_export.planning import plan_export
from vcedge_runtime.engines.onnxruntime import OnnxRuntimeEngine

GRAPHS = pytest.mark.parametrize(
    "graph",
    [
        "query_encoder",
        "value_encoder",
        "feature_alignment",
        "memory_read",
        "readout_mix",
        "prototype_transformer",
        "mask_decoder",
        "soft_aggregation",
    ],
)
# What TensorRT lacks, or what hides a copy or a run-time shape.
UNWANTED = {
    "Einsum",
    "ScatterND",
    "ScatterElements",
    "GatherND",
    "BatchNormalization",
    "Loop",
    "If",
}
# Grid, objects, slots, references: none as exported; one of each, and more than when exported.
SIZES = {"one of each": (4, 5, 1, 1, 1), "many": (6, 11, 4, 9, 6)}


@pytest.fixture(scope="module")
def plan() -> ExportedModel:
    """The graphs of a network in which no offset or bias is zero."""
    return plan_export(load_weights("srnet-edge"), ExportOptions())


@pytest.fixture(scope="module")
def files(
    plan: ExportedModel, traced_once: TracedOnce, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Path]:
    """Every graph in ONNX, by its name."""
    folder = tmp_path_factory.mktemp("srnet")
    found = {name: folder / f"{name}.onnx" for name in plan.modules}
    # Another process may trace the same graphs from the first on.
    for name, module in reversed(plan.modules.items()):
        traced_once(module, plan.lengths, found[name])
    return found


def make_inputs(module: GraphModule, size: str) -> dict[str, torch.Tensor]:
    """Draw the inputs of a graph at a size."""
    height, width, objects, slots, references = SIZES[size]
    lengths = {"objects": objects, "slots": slots, "references": references, "channels": 7}
    for axis, cells in (("h", height), ("w", width)):
        lengths |= {axis: cells, f"{axis}8": 2 * cells, f"{axis}4": 4 * cells}
        lengths[axis.upper()] = 16 * cells
    generator = torch.Generator().manual_seed(1)
    made = {}
    for spec in module.spec.inputs:
        shape = [lengths[dim] if isinstance(dim, str) else dim for dim in spec.shape]
        made[spec.name] = torch.randn(shape, generator=generator)
    for name in {"masks", "background", "weights"} & set(made):
        made[name] = torch.rand(made[name].shape, generator=generator) + 0.1
    if "slot_index" in made:
        made["slot_index"] = torch.randperm(slots, generator=generator)[:references]
        made["slot_valid"] = torch.ones(references)
        made["slot_valid"][3:4] = 0
        # Distances at which a readout takes part of many cells, not all of one.
        made["query"], made["keys"] = 0.4 * made["query"], 0.4 * made["keys"]
    return made


def run_torch(module: GraphModule, inputs: Mapping[str, torch.Tensor]) -> list[NDArray[np.float32]]:
    with torch.inference_mode():
        found = module(*inputs.values())
    return [each.numpy() for each in (found if isinstance(found, tuple) else (found,))]


@GRAPHS
@pytest.mark.parametrize("size", sorted(SIZES))
def test_a_graph_gives_what_its_module_gives_at_other_lengths_than_the_exported(
    plan: ExportedModel, files: Mapping[str, Path], graph: str, size: str
) -> None:
    module = plan.modules[graph]
    inputs = make_inputs(module, size)
    expected = run_torch(module, inputs)
    names = [spec.name for spec in module.spec.outputs]
    found = {n: np.empty(e.shape, np.float32) for n, e in zip(names, expected, strict=True)}
    engine = OnnxRuntimeEngine(files[graph].read_bytes(), module.spec, threads=1)
    engine.run({name: each.numpy() for name, each in inputs.items()}, found)
    for name, wanted in zip(names, expected, strict=True):
        # FP32 sums of up to 3456 terms in another order, in up to 20 layers.
        assert np.abs(found[name] - wanted).max() <= 1e-4 * np.abs(wanted).max(), name
        assert np.abs(wanted).max() > 1e-3, name


@GRAPHS
def test_a_file_has_opset_19_and_only_operators_that_travel(
    files: Mapping[str, Path], graph: str
) -> None:
    model = onnx.load(files[graph])
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 19)]
    assert not model.functions
    assert not UNWANTED & {node.op_type for node in model.graph.node}


@GRAPHS
def test_a_file_has_no_larger_constants_than_the_weights(
    plan: ExportedModel, files: Mapping[str, Path], graph: str
) -> None:
    weights = sum(parameter.numel() for parameter in plan.modules[graph].parameters())
    stored = onnx.load(files[graph]).graph.initializer
    # Shapes, steps and factors are the rest: nothing in a graph hangs on a size.
    assert sum(math.prod(constant.dims) for constant in stored) < weights + 200


def test_alignment_samples_all_taps_at_once(files: Mapping[str, Path]) -> None:
    operators = [node.op_type for node in onnx.load(files["feature_alignment"]).graph.node]
    # Of the key, and of all objects' values.
    assert operators.count("GridSample") == 2
