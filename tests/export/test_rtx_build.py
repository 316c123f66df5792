"""Every shipped graph through NVIDIA's own parser and builder, on a CPU."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from tests.rtx import build_with_rtx, choose_shapes
from vcedge_runtime.bundle import Bundle, shipped_models

pytest.importorskip(
    "tensorrt_rtx", reason="TensorRT-RTX parses and builds the graphs; pip install vcedge[rtx]"
)

BUNDLES = shipped_models()
"""Names or folders of the bundles whose graphs are built."""


def find_graphs() -> dict[str, tuple[Bundle, str]]:
    """Find every graph of the bundles, a file that two of them share once."""
    found: dict[str, tuple[str, tuple[Bundle, str]]] = {}
    for bundle in map(Bundle.open, BUNDLES):
        for name, graph in bundle.graphs.items():
            found.setdefault(graph.sha256, (f"{bundle.name}-{name}", (bundle, name)))
    return dict(found.values())


GRAPHS = find_graphs()


@pytest.mark.parametrize("graph", GRAPHS)
def test_every_shipped_graph_is_parsed_and_built(graph: str) -> None:
    bundle, name = GRAPHS[graph]
    path = bundle.path_of(name)
    shapes = choose_shapes(bundle.graphs[name].spec, bundle.composition.stride)
    # The plan holds the weights; only what folds away is missing.
    assert len(build_with_rtx(path, shapes)) > path.stat().st_size // 2


def test_a_graph_that_cannot_be_parsed_is_refused_with_the_parsers_words(tmp_path: Path) -> None:
    node = helper.make_node("NoSuchOperator", ["x"], ["y"], name="the_node")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    model = helper.make_model(helper.make_graph([node], "graph", [x], [y]))
    onnx.save(model, tmp_path / "graph.onnx")
    with pytest.raises(ValueError, match="NoSuchOperator"):
        build_with_rtx(tmp_path / "graph.onnx", {"x": (1,)})
