"""Exported graphs: what is in them, and that it is what the spec says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from vcedge.models.encoder import FrameEncoder
from vcedge.models.graph import GraphModule
from vcedge.models.weights import Weights
from vcedge_export.onnx import export_onnx
from vcedge_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vcedge_runtime.errors import ExportError
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.model.spec import GraphSpec, TensorSpec

GRAPHS = pytest.mark.parametrize(
    "graph",
    [
        *("encoder", "label_readout", "cluster_readout", "column_total", "joint_readout"),
        "value_extraction",
    ],
)
# What TensorRT lacks, or what hides a copy or a run-time shape.
UNWANTED = {"Einsum", "ScatterND", "ScatterElements", "Resize", "GatherND", "BatchNormalization"}


@GRAPHS
def test_the_opset_is_19_and_nothing_else(mer_bundle: Bundle, graph: str) -> None:
    model = onnx.load(mer_bundle.path_of(graph))
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 19)]
    assert not model.functions


@GRAPHS
def test_operators_that_do_not_travel_are_absent(mer_bundle: Bundle, graph: str) -> None:
    model = onnx.load(mer_bundle.path_of(graph))
    assert not UNWANTED & {node.op_type for node in model.graph.node}


@GRAPHS
def test_tensors_have_the_names_and_lengths_of_the_spec(mer_bundle: Bundle, graph: str) -> None:
    model = onnx.load(mer_bundle.path_of(graph))
    spec = mer_bundle.graphs[graph].spec
    for value, tensor in zip([*model.graph.input, *model.graph.output], spec.tensors, strict=True):
        assert value.name == tensor.name
        dims = value.type.tensor_type.shape.dim
        for dim, length in zip(dims, tensor.shape, strict=True):
            assert dim.HasField("dim_param") == isinstance(length, str)
            assert isinstance(length, str) or dim.dim_value == length


def test_the_file_stands_alone_and_has_no_larger_constants_than_the_weights(
    exported_bundle: Bundle,
) -> None:
    assert {path.name for path in exported_bundle.folder.iterdir()} == {
        "bundle.json",
        "encoder.onnx",
        "label_readout.onnx",
        "cluster_readout.onnx",
        "column_total.onnx",
        "joint_readout.onnx",
    }
    # Windows and indices are inputs: nothing in the readout depends on a size.
    assert exported_bundle.path_of("label_readout").stat().st_size < 100_000


@pytest.mark.parametrize("size_hw", [(16, 16), (64, 96), (200, 104)])
def test_the_encoder_runs_at_other_sizes_than_the_exported(
    exported_bundle: Bundle, tiny_weights: Weights, size_hw: tuple[int, int]
) -> None:
    spec = exported_bundle.graphs["encoder"].spec
    engine = OnnxRuntimeEngine(exported_bundle.read_graph("encoder"), spec, threads=1)
    image = np.random.default_rng(0).uniform(-1, 1, (1, 3, *size_hw)).astype(np.float32)
    key = np.empty((size_hw[0] // 8, size_hw[1] // 8, 64), np.float32)
    engine.run({"image": image}, {"key": key})
    with torch.inference_mode():
        expected = FrameEncoder(tiny_weights.network.encoder)(torch.from_numpy(image)).numpy()
    # FP32 convolutions of up to 2304 terms, summed in another order in 13 layers.
    assert np.abs(key - expected).max() < 1e-4 * np.abs(expected).max()


class Doubled(GraphModule):
    """Something small to export."""

    def __init__(self, spec: GraphSpec) -> None:
        super().__init__()
        self._spec = spec

    @property
    def spec(self) -> GraphSpec:
        return self._spec

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


class Unexportable(Doubled):
    """Its output's shape hangs on the input's values, by a loop in Python."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(int(x.sum().item())):
            x = x + 1
        return x


SPEC = GraphSpec(
    "doubled", (TensorSpec("x", "float32", (3, "w")),), (TensorSpec("y", "float32", (3, "w")),)
)


def test_a_graph_that_comes_out_otherwise_than_its_spec_is_refused(tmp_path: Path) -> None:
    export_onnx(Doubled(SPEC), {"w": 7}, tmp_path / "doubled.onnx")
    before = (tmp_path / "doubled.onnx").read_bytes()
    wrong = replace(SPEC, outputs=(TensorSpec("y", "float32", (4, "w")),))
    with pytest.raises(
        ExportError, match=r"graph doubled came out with y\[3, .*expected y float32"
    ):
        export_onnx(Doubled(wrong), {"w": 7}, tmp_path / "doubled.onnx")
    assert (tmp_path / "doubled.onnx").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_module_that_cannot_be_exported_is_named_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"^graph doubled cannot be exported: .+") as refused:
        export_onnx(Unexportable(SPEC), {"w": 7}, tmp_path / "x.onnx")
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())
