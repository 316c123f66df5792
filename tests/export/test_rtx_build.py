"""Every shipped graph, in every precision, through NVIDIA's own parser and builder, on a CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from types import ModuleType

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tests.rtx import build_with_rtx, open_builder
from vcedge.models.weights import load_weights
from vcedge_calibration.recording import CalibrationClip
from vcedge_export.onnx import export_onnx
from vcedge_export.plan import ExportOptions, Int8Settings
from vcedge_export.planning import plan_export
from vcedge_export.precision import lower_precision
from vcedge_runtime.errors import EngineError
from vcedge_runtime.model.bundle import QUANTISED, Bundle, GraphFile, shipped_models
from vcedge_runtime.reading import sha256_of

if "rtx" not in os.environ.get("VCEDGE_REQUIRE", "").split(","):
    pytest.importorskip(
        "tensorrt_rtx", reason="TensorRT-RTX parses and builds the graphs; pip install vcedge[rtx]"
    )


@dataclass(frozen=True)
class Case:
    """One graph of a shipped bundle in one precision."""

    bundle: Bundle
    graph: str
    precision: str

    def __str__(self) -> str:
        return f"{self.bundle.name}-{self.graph}-{self.precision}"


def find_cases() -> list[Case]:
    """Find every graph, a file that two bundles share once; only layers have other precisions."""
    found = {}
    for bundle in map(Bundle.open, shipped_models()):
        for name, graph in bundle.graphs.items():
            # INT8 for a CPU is not for TensorRT; the same in FP32 is among the others.
            if graph.precision == "int8":
                continue
            precisions = ("fp32", "fp16", "int8-fp16") if name in QUANTISED else ("fp32", "fp16")
            for precision in precisions:
                found.setdefault((graph.sha256, precision), Case(bundle, name, precision))
    return list(found.values())


def make_inputs(case: Case, seed: int) -> dict[str, NDArray[np.float32]]:
    """Inputs of a small frame, to quantise by."""
    rng, stride = np.random.default_rng(seed), case.bundle.composition.stride
    lengths = {"objects": 2}
    for axis, cells in (("h", 7), ("w", 9)):
        at8, at4 = cells * stride // 8, cells * stride // 4
        lengths |= {axis: cells, f"{axis}8": at8, f"{axis}4": at4, axis.upper(): cells * stride}
    return {
        tensor.name: rng.uniform(-1, 1, [lengths.get(d, d) for d in tensor.shape]).astype("float32")
        for tensor in case.bundle.graphs[case.graph].spec.inputs
    }


def write_precision(case: Case, folder: Path) -> Path:
    """Write the graph as export does."""
    copytree(case.bundle.folder, folder)
    graphs = {case.graph: case.bundle.graphs[case.graph]}
    alone = Bundle(folder, "copy", case.bundle.profile, case.bundle.composition, graphs)
    options = ExportOptions(
        fp16="fp16" in case.precision,
        int8=Int8Settings() if "int8" in case.precision else None,
        samples={case.graph: [make_inputs(case, seed) for seed in range(2)]}
        if "int8" in case.precision
        else {},
    )
    nothing = CalibrationClip("none", [], np.zeros((1, 1), np.uint8))
    written, _ = lower_precision(alone, options, nothing)
    return written.path_of(case.graph)


@pytest.fixture(scope="module")
def build() -> Iterator[ModuleType]:
    """Our own build, with TensorRT-RTX as its TensorRT."""
    with open_builder() as found:
        yield found


@pytest.mark.parametrize("case", find_cases(), ids=str)
def test_every_shipped_graph_is_built_for_a_video_of_480_lines(
    case: Case, build: ModuleType, tmp_path: Path
) -> None:
    path = write_precision(case, tmp_path / "copy")
    plan = build_with_rtx(build, case.bundle, case.graph, path)
    # The plan holds the weights; only what folds away is missing.
    assert len(plan) > path.stat().st_size // 2


@pytest.fixture(scope="module")
def edge_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The SRNet on a ResNet, which is not shipped; nothing runs it."""
    model = plan_export(load_weights("srnet-edge"), ExportOptions())
    folder, graphs = tmp_path_factory.mktemp("edge"), {}
    for name, module in model.modules.items():
        path = folder / f"{name}.onnx"
        export_onnx(module, model.lengths, path)
        graphs[name] = GraphFile(module.spec, path.name, sha256_of(path), "fp32")
    bundle = Bundle(folder, "edge", model.profile, model.composition, graphs)
    bundle.save()
    return bundle


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8-fp16"])
@pytest.mark.parametrize("graph", ["query_encoder", "value_encoder", "mask_decoder"])
def test_every_graph_of_the_network_on_a_resnet_is_built(
    edge_bundle: Bundle, graph: str, precision: str, build: ModuleType, tmp_path: Path
) -> None:
    path = write_precision(Case(edge_bundle, graph, precision), tmp_path / "copy")
    assert build_with_rtx(build, edge_bundle, graph, path)


def test_what_is_quantised_for_a_cpu_is_not_for_tensorrt(build: ModuleType, tmp_path: Path) -> None:
    """Why there are two: unsigned activations have zero points, which TensorRT takes none of."""
    case = next(case for case in find_cases() if case.precision == "int8-fp16")
    path = write_precision(Case(case.bundle, case.graph, "int8"), tmp_path / "copy")
    with pytest.raises(EngineError, match="Non-zero zero point is not supported"):
        build_with_rtx(build, case.bundle, case.graph, path)


def test_a_graph_that_cannot_be_parsed_is_refused_with_the_parsers_words(
    build: ModuleType, tmp_path: Path
) -> None:
    node = helper.make_node("NoSuchOperator", ["x"], ["y"], name="the_node")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    model = helper.make_model(helper.make_graph([node], "graph", [x], [y]))
    onnx.save(model, tmp_path / "graph.onnx")
    case = find_cases()[0]
    with pytest.raises(EngineError, match="NoSuchOperator"):
        build_with_rtx(build, case.bundle, case.graph, tmp_path / "graph.onnx")
