"""Every graph of STCN and XMem, in every precision, through NVIDIA's own parser and builder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.export.test_rtx_build import Case, write_precision
from tests.published import make_small
from tests.rtx import build_with_rtx, open_builder
from vcedge_export.onnx import export_onnx
from vcedge_export.plan import ExportOptions
from vcedge_export.planning import plan_export
from vcedge_runtime.model.bundle import QUANTISED, Bundle, GraphFile
from vcedge_runtime.reading import sha256_of

if "rtx" not in os.environ.get("VCEDGE_REQUIRE", "").split(","):
    pytest.importorskip(
        "tensorrt_rtx", reason="TensorRT-RTX parses and builds the graphs; pip install vcedge[rtx]"
    )

GRAPHS = ("query_encoder", "value_encoder", "memory_read", "mask_decoder", "soft_aggregation")


@pytest.fixture(scope="module")
def build() -> Iterator[ModuleType]:
    """Our own build, with TensorRT-RTX as its TensorRT."""
    with open_builder() as found:
        yield found


@pytest.fixture(scope="module", params=["stcn", "xmem"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The graphs of a small network of the same parts; nothing runs them."""
    model = plan_export(make_small(request.param), ExportOptions())
    folder, graphs = tmp_path_factory.mktemp(request.param), {}
    for name, module in model.modules.items():
        path = folder / f"{name}.onnx"
        export_onnx(module, model.lengths, path)
        graphs[name] = GraphFile(module.spec, path.name, sha256_of(path), "fp32")
    found = Bundle(folder, request.param, model.profile, model.composition, graphs)
    found.save()
    return found


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8-fp16"])
@pytest.mark.parametrize("graph", GRAPHS)
def test_every_graph_is_built_for_a_video_of_480_lines(
    bundle: Bundle, graph: str, precision: str, build: ModuleType, tmp_path: Path
) -> None:
    if precision == "int8-fp16" and graph not in QUANTISED:
        pytest.skip("INT8 leaves it as it is")
    path = write_precision(Case(bundle, graph, precision), tmp_path / "copy")
    assert build_with_rtx(build, bundle, graph, path)
