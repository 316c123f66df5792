"""FP16 as a property of an ONNX graph: every layer whose sums bear it, and named islands in FP32.

A network is created strongly typed in TensorRT, and ONNX Runtime runs what the graph says: no flag
of a builder is involved. Inputs and outputs keep the types of the spec.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from vcedge_runtime.errors import ExportError


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


LAYERS = _names("Conv ConvTranspose Gemm MatMul")
"""What is worth FP16: products with weights, whose sums tensor cores form in FP32."""
SHAPES = _names("Reshape Transpose Squeeze Unsqueeze Flatten Expand Identity")
FOLLOWING = SHAPES | _names(
    """Relu LeakyRelu Sigmoid Tanh Clip Add Sub Mul Concat Slice Split Gather Tile Pad Max Min
    ReduceMax ReduceMin MaxPool AveragePool Resize DepthToSpace SpaceToDepth QuantizeLinear"""
)
"""What takes the precision of what it is given: FP32 if any of it is."""
FIXED_INPUTS = {"Resize": (1, 2)}
"""Inputs whose type does not hang on the data's."""
ISLANDS = {
    "softmax": _names("Softmax LogSoftmax Exp Log TopK"),
    "statistics of a normalisation, or a sum over cells": _names(
        """LayerNormalization InstanceNormalization GroupNormalization ReduceMean ReduceSum ReduceL1
        ReduceL2 ReduceSumSquare Pow Sqrt Reciprocal Div"""
    ),
    "sampling": _names("GridSample DeformConv"),
}
"""Operators that stay in FP32, by why."""
PRODUCT = "a product of data with data: similarity, or a sum over cells"
COORDINATES = "sampling coordinates, and the layer that gives them"
LOGITS = "final logits, and the layer that gives them"
RANGE = "a constant that FP16 cannot hold"
FOLLOWS = "between FP32 tensors"
OTHER = "an operator that FP16 is not known to bear"
FINAL_LOGITS = ("logits", "shares")
"""Graph outputs that are formed in FP32: logits, and what is formed of them for all objects."""
SCALE_ERROR = 0.01
"""Most relative change of a quantisation's scale (our choice): a step of 8 bits is 0.004 of all."""
HALF = TensorProto.FLOAT16
SINGLE = TensorProto.FLOAT
_LARGEST = float(np.finfo(np.float16).max)
_SMALLEST_NORMAL = float(np.finfo(np.float16).tiny)


@dataclass(frozen=True)
class HalfGraph:
    """A graph in FP16.

    Attributes:
        model: the graph; its inputs and outputs have the types that they had.
        layers: how many of its layers, of ``LAYERS``, compute in FP16.
        islands: names of the nodes that compute in FP32, by why.
    """

    model: onnx.ModelProto
    layers: int
    islands: Mapping[str, tuple[str, ...]]


def to_half(model: onnx.ModelProto) -> HalfGraph:
    """Rewrite a graph in FP16, the same way every time.

    Args:
        model: in FP32, or with Q/DQ pairs in it; it is not changed.

    Raises:
        ExportError: a weight is not finite, a node has no name or holds graphs of its own, or a
            tensor's type cannot be inferred.
    """
    graph = _Graph(onnx.shape_inference.infer_shapes(model, strict_mode=True))
    reasons = _find_islands(graph)
    half = _choose_half(graph, reasons)
    written = _Writer(graph, half).write()
    onnx.checker.check_model(written, full_check=True)
    nodes = [node for node in graph.nodes if graph.is_floating(node)]
    islands = defaultdict(list)
    for node in nodes:
        if node.name not in half:
            islands[reasons.get(node.name, _default_reason(node))].append(node.name)
    return HalfGraph(
        written,
        sum(node.op_type in LAYERS and node.name in half for node in nodes),
        {reason: tuple(names) for reason, names in sorted(islands.items())},
    )


class _Graph:
    """An ONNX graph with its constants, types and producers at hand."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes = [node for node in model.graph.node if node.op_type != "Constant"]
        self.constants = dict(_read_constants(model.graph))
        self.producers = {name: node for node in self.nodes for name in node.output if name}
        self.consumers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                self.consumers[name].append(node)
        held = (*model.graph.value_info, *model.graph.input, *model.graph.output)
        self._types = {value.name: value.type.tensor_type.elem_type for value in held}
        names = [node.name for node in self.nodes]
        if not all(names) or len(set(names)) < len(names):
            raise ExportError("received a graph whose nodes have no names of their own; name them")
        for node in self.nodes:
            _check_node(node, self._types)
        for name, value in self.constants.items():
            if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
                raise ExportError(f"weight {name} is not finite; train or export again")

    def is_float(self, name: str) -> bool:
        """Tell whether a tensor, or a constant, is FP32."""
        if name in self.constants:
            return bool(self.constants[name].dtype == np.float32)
        return self._types.get(name) == SINGLE

    def is_floating(self, node: NodeProto) -> bool:
        """Tell whether a node computes with FP32."""
        named = (*node.input, *node.output)
        return node.op_type not in ("Shape", "Size") and any(map(self.is_float, named))

    def data(self, node: NodeProto) -> list[str]:
        """FP32 inputs of a node that are not constants."""
        return [name for name in self.taken(node) if name not in self.constants]

    def taken(self, node: NodeProto) -> list[str]:
        """FP32 inputs of a node whose type hangs on its precision, constants among them."""
        fixed = FIXED_INPUTS.get(node.op_type, ())
        names = (name for place, name in enumerate(node.input) if place not in fixed)
        return [name for name in names if self.is_float(name)]

    def is_constant(self, name: str) -> bool:
        """Tell whether a tensor is a weight, quantised or not."""
        made = self.producers.get(name)
        if made is not None and made.op_type == "DequantizeLinear":
            name = made.input[0]
        return name in self.constants

    def origin(self, name: str) -> NodeProto | None:
        """What made a tensor, whatever its shape became since."""
        node = self.producers.get(name)
        while node is not None and node.op_type in SHAPES:
            node = self.producers.get(node.input[0])
        return node


def _read_constants(graph: onnx.GraphProto) -> Iterator[tuple[str, NDArray[np.generic]]]:
    for tensor in graph.initializer:
        yield tensor.name, numpy_helper.to_array(tensor)
    for node in graph.node:
        if node.op_type == "Constant":
            values = [a.t for a in node.attribute if a.name == "value"]
            if not values:
                raise ExportError(f"constant {node.name} holds no tensor; export it as one")
            yield node.output[0], numpy_helper.to_array(values[0])


def _check_node(node: NodeProto, types: Mapping[str, int]) -> None:
    if any(a.HasField("g") or a.graphs for a in node.attribute):
        raise ExportError(
            f"node {node.name} ({node.op_type}) holds graphs of its own; FP16 is for graphs "
            "without branches and loops"
        )
    unknown = [name for name in node.output if name and not types.get(name)]
    if unknown:
        raise ExportError(f"the type of {unknown} of node {node.name} cannot be inferred")


def _find_islands(graph: _Graph) -> dict[str, str]:
    """Names of nodes that a rule keeps in FP32, with the rule."""
    reasons: dict[str, str] = {}
    for node in graph.nodes:
        if _leaves_range(graph, node):
            reasons[node.name] = RANGE
        elif node.op_type in LAYERS and _multiplies_data(graph, node):
            reasons[node.name] = PRODUCT
    for node in graph.nodes:
        sampled = {"GridSample": node.input[1:2], "DeformConv": [*node.input[2:3], *node.input[4:]]}
        for name in sampled.get(node.op_type, ()):
            _mark_back(graph, name, COORDINATES, reasons)
        if node.op_type in ISLANDS["softmax"]:
            _mark_back(graph, node.input[0], PRODUCT, reasons)
    for output in graph.model.graph.output:
        if output.name in FINAL_LOGITS:
            _mark_back(graph, output.name, LOGITS, reasons)
    return reasons


def _mark_back(graph: _Graph, name: str, reason: str, reasons: dict[str, str]) -> None:
    """Mark what a tensor comes from, up to the layers that made it, those included."""
    waiting, seen = [name], set()
    while waiting:
        node = graph.producers.get(waiting.pop())
        if node is None or node.name in seen or not graph.is_floating(node):
            continue
        seen.add(node.name)
        reasons.setdefault(node.name, reason)
        if node.op_type not in LAYERS:
            waiting += graph.data(node)


def _multiplies_data(graph: _Graph, node: NodeProto) -> bool:
    """Whether both factors are data, and none is a softmax, whose mean of values bears FP16.

    One that is divided by its own sum again is no mean, but a sum over cells.
    """
    origins = [graph.origin(name) for name in node.input[:2]]
    if any(graph.is_constant(name) for name in node.input[:2]):
        return False
    if any(user.op_type == "ReduceSum" for user in graph.consumers[node.output[0]]):
        return True
    return not any(_is_softmax(graph, origin) for origin in origins)


def _is_softmax(graph: _Graph, node: NodeProto | None) -> bool:
    if node is None or node.op_type == "Softmax":
        return node is not None
    if node.op_type != "Div":
        return False
    total = graph.producers.get(node.input[1])
    return total is not None and total.op_type == "ReduceSum" and total.input[0] == node.input[0]


def _leaves_range(graph: _Graph, node: NodeProto) -> bool:
    """Whether a constant of a node overflows in FP16, or is all below its normal numbers.

    Small weights beside large ones may vanish, and so may a bias beside its layer; a scale of a
    quantisation may not change by more than ``SCALE_ERROR``.
    """
    biased = node.input[2:3] if node.op_type in LAYERS else ()
    for name in graph.taken(node):
        if name not in graph.constants:
            continue
        sizes = np.abs(graph.constants[name])
        sizes = sizes[sizes > 0]
        if not sizes.size:
            continue
        if sizes.max() > _LARGEST or (sizes.max() < _SMALLEST_NORMAL and name not in biased):
            return True
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            errors = np.abs(sizes.astype(np.float16).astype(np.float32) - sizes) / sizes
            if errors.max() > SCALE_ERROR:
                return True
    return False


def _choose_half(graph: _Graph, reasons: Mapping[str, str]) -> set[str]:
    """Names of the nodes that compute in FP16."""
    half: set[str] = set()
    tensors: set[str] = set()
    for node in graph.nodes:
        if node.name in reasons or not graph.is_floating(node):
            continue
        if node.op_type in LAYERS:
            chosen = True
        elif node.op_type == "DequantizeLinear":
            users = graph.consumers[node.output[0]]
            bears = LAYERS | FOLLOWING
            chosen = all(u.op_type in bears and u.name not in reasons for u in users)
        else:
            data = graph.data(node)
            chosen = node.op_type in FOLLOWING and bool(data) and tensors.issuperset(data)
        if chosen:
            half.add(node.name)
            tensors.update(name for name in node.output if graph.is_float(name))
    return half


def _default_reason(node: NodeProto) -> str:
    known = (reason for reason, operators in ISLANDS.items() if node.op_type in operators)
    return next(known, FOLLOWS if node.op_type in FOLLOWING else OTHER)


@dataclass
class _Writer:
    """Writes a graph again, with casts where precisions meet.

    Attributes:
        graph: in FP32.
        half: names of its nodes that compute in FP16.
    """

    graph: _Graph
    half: set[str]
    _nodes: list[NodeProto] = field(default_factory=list)
    _constants: dict[str, TensorProto] = field(default_factory=dict)
    _casts: dict[tuple[str, int], str] = field(default_factory=dict)

    def write(self) -> onnx.ModelProto:
        """Return the new graph."""
        self._outputs = {value.name for value in self.graph.model.graph.output}
        self._halves = {
            name
            for node in self.graph.nodes
            if node.name in self.half
            for name in node.output
            if self.graph.is_float(name)
        }
        for node in self.graph.nodes:
            self._write_node(node)
        for name in sorted(self._halves & self._outputs):
            self._cast(self._name(name), name, SINGLE)
        model = onnx.ModelProto()
        model.CopyFrom(self.graph.model)
        for kept in ("node", "initializer", "value_info"):
            model.graph.ClearField(kept)
        model.graph.node.extend(self._nodes)
        model.graph.initializer.extend(self._constants.values())
        return model

    def _write_node(self, node: NodeProto) -> None:
        written = NodeProto()
        written.CopyFrom(node)
        kind = HALF if node.name in self.half else SINGLE
        taken = set(self.graph.taken(node))
        fixed = FIXED_INPUTS.get(node.op_type, ())
        for place, name in enumerate(node.input):
            wanted = kind if name in taken and place not in fixed else None
            written.input[place] = self._read(name, wanted)
        for place, name in enumerate(node.output):
            written.output[place] = self._name(name)
        self._nodes.append(written)

    def _read(self, name: str, kind: int | None) -> str:
        """Name of a tensor or a constant in a precision; as it is where that is None."""
        if name in self.graph.constants:
            return self._constant(name, kind)
        found = HALF if name in self._halves else SINGLE
        if kind is None or kind == found:
            return self._name(name)
        if (name, kind) not in self._casts:
            target = f"{name}_{'fp16' if kind == HALF else 'fp32'}"
            self._casts[name, kind] = self._cast(self._name(name), target, kind)
        return self._casts[name, kind]

    def _constant(self, name: str, kind: int | None) -> str:
        value = self.graph.constants[name]
        written = name
        if kind == HALF:
            value, written = value.astype(np.float16), f"{name}_fp16"
        if written not in self._constants:
            self._constants[written] = numpy_helper.from_array(value, written)
        return written

    def _cast(self, name: str, target: str, kind: int) -> str:
        self._nodes.append(helper.make_node("Cast", [name], [target], f"cast_{target}", to=kind))
        return target

    def _name(self, name: str) -> str:
        """A graph's output keeps its name for the FP32 that the caller sees."""
        return f"{name}_half" if name in self._halves & self._outputs else name
