"""What FP16 does to a graph, shown on a CPU: computed in FP32, rounded after every operator.

ONNX Runtime has no FP16 kernels on x86: it computes such a graph in FP32 and drops the casts in
between, so that nothing is rounded but the weights. The graphs made here round where a GPU would,
and rather more often: there, operators are fused, and products are summed up in FP32 likewise.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from vcedge_export.half import HALF, SHAPES, SINGLE

_MOVING = SHAPES | {"Concat", "Slice", "Split", "Gather", "Tile", "Relu", "MaxPool"}
"""What only hands on numbers that were rounded before."""


def round_like_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Write a graph that computes in FP32 and gives what FP16 would.

    Args:
        model: as ``to_half`` makes it; it is not changed.
    """
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    graph = rounded.graph
    for kept in ("node", "initializer", "value_info"):
        graph.ClearField(kept)
    graph.initializer.extend(_widen(tensor) for tensor in model.graph.initializer)
    for node in model.graph.node:
        graph.node.extend(_round(node, types))
    onnx.checker.check_model(rounded, full_check=True)
    return rounded


def _widen(tensor: TensorProto) -> TensorProto:
    if tensor.data_type != HALF:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)


def _round(node: NodeProto, types: dict[str, int]) -> list[NodeProto]:
    halves = [name for name in node.output if types.get(name) == HALF]
    if node.op_type == "Cast":
        if halves:
            return _pair(node.input[0], node.output[0])
        if types.get(node.input[0]) == HALF:
            return [helper.make_node("Identity", node.input, node.output, node.name)]
    if not halves or node.op_type in _MOVING:
        return [node]
    written = NodeProto()
    written.CopyFrom(node)
    pairs = []
    for place, name in enumerate(node.output):
        if name in halves:
            written.output[place] = f"{name}_unrounded"
            pairs += _pair(f"{name}_unrounded", name)
    return [written, *pairs]


def _pair(source: str, target: str) -> list[NodeProto]:
    """Round: to FP16 and back, which ONNX Runtime leaves as it is written."""
    middle = f"{target}_rounded"
    return [
        helper.make_node("Cast", [source], [middle], f"round_{target}", to=HALF),
        helper.make_node("Cast", [middle], [target], f"widen_{target}", to=SINGLE),
    ]
