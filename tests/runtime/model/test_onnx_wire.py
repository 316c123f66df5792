"""Graphs that need more than their own bytes, and bytes that are no graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vcedge_runtime.errors import BundleError
from vcedge_runtime.model import onnx_wire
from vcedge_runtime.model.bundle import shipped_models
from vcedge_runtime.model.onnx_wire import HOLDERS, require_whole

onnx = pytest.importorskip("onnx", reason="it writes graphs")
helper = onnx.helper

MODELS = Path(onnx_wire.__file__).parents[1] / "models"


def make_tensor(name: str = "weight", location: str = "weights.bin") -> onnx.TensorProto:
    """A tensor whose values lie in a file."""
    tensor = onnx.TensorProto(name=name, data_type=onnx.TensorProto.FLOAT, dims=[4])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def make_model(*nodes: onnx.NodeProto, weights: tuple[onnx.TensorProto, ...] = ()) -> bytes:
    x, y = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [4]) for n in "xy")
    graph = helper.make_graph(list(nodes), "graph", [x], [y], initializer=list(weights))
    model: bytes = helper.make_model(graph).SerializeToString()
    return model


def make_constant(**attributes: object) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["y"], **attributes)


def in_initialiser() -> bytes:
    return make_model(weights=(make_tensor(),))


def in_constant() -> bytes:
    return make_model(make_constant(value=make_tensor()))


def in_branch() -> bytes:
    inner = helper.make_graph([make_constant(value=make_tensor())], "inner", [], [])
    return make_model(helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner))


def in_sparse() -> bytes:
    sparse = onnx.SparseTensorProto(values=make_tensor(), dims=[4])
    model = onnx.ModelProto()
    model.graph.sparse_initializer.append(sparse)
    data: bytes = model.SerializeToString()
    return data


def in_function() -> bytes:
    model = onnx.ModelProto()
    model.functions.add(name="f").node.append(make_constant(value=make_tensor()))
    data: bytes = model.SerializeToString()
    return data


def in_training() -> bytes:
    model = onnx.ModelProto()
    model.training_info.add().algorithm.initializer.append(make_tensor())
    data: bytes = model.SerializeToString()
    return data


def without_mark() -> bytes:
    tensor = make_tensor()
    tensor.ClearField("data_location")
    return make_model(weights=(tensor,))


def without_place() -> bytes:
    tensor = make_tensor()
    tensor.ClearField("external_data")
    return make_model(weights=(tensor,))


def in_second_graph() -> bytes:
    """Protobuf adds up messages of a field that comes twice."""
    return make_model() + make_model(weights=(make_tensor(),))


@pytest.mark.parametrize(
    "make",
    [
        *(in_initialiser, in_constant, in_branch, in_sparse, in_function, in_training),
        *(without_mark, without_place, in_second_graph),
    ],
)
def test_weights_of_another_file_are_found_wherever_they_are_named(
    make: Callable[[], bytes],
) -> None:
    with pytest.raises(BundleError, match=r"received g\.onnx, whose weights lie in another file"):
        require_whole(make(), "g.onnx")


def test_every_message_of_onnx_below_which_a_tensor_lies_is_walked() -> None:
    file = onnx.ModelProto.DESCRIPTOR.file
    known = {m.name: m for m in file.message_types_by_name.values()}
    holding = {"TensorProto"}
    for _ in known:
        holding |= {
            name
            for name, message in known.items()
            if any(f.message_type and f.message_type.name in holding for f in message.fields)
        }
    found = {
        name: {
            f.number: f.message_type.name
            for f in known[name].fields
            if f.message_type and f.message_type.name in holding
        }
        for name in holding - {"TensorProto"}
    }
    assert found == HOLDERS


def test_an_operator_that_is_none_of_onnxs_own_is_refused() -> None:
    node = helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft")
    with pytest.raises(BundleError, match=r"operator of the domain b'com.microsoft'; expected ONN"):
        require_whole(make_model(node), "g.onnx")


def test_a_graph_that_is_whole_passes() -> None:
    weight = onnx.numpy_helper.from_array(np.ones(4, np.float32), "weight")
    weight.data_location = onnx.TensorProto.DEFAULT
    require_whole(
        make_model(helper.make_node("Add", ["x", "weight"], ["y"]), weights=(weight,)), ""
    )


@pytest.mark.parametrize("name", shipped_models())
def test_every_shipped_graph_is_whole(name: str) -> None:
    files = sorted((MODELS / name).glob("*.onnx"))
    assert files
    for file in files:
        require_whole(file.read_bytes(), file.name)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (b"no graph", "a field of kind 6"),
        (b"\x3a\xff", "a number has no end"),
        (b"\x3a\x05\x0a", "it is cut off"),
        (b"\x3b\x3c", "a field of kind 3"),
        (b"\xba\x80\x80\x80\x80\x01\x00", "a field of number 4294967303"),
        (b"\x00\x00", "a field of number 0"),
        (b"\x3a\x00" * (onnx_wire.MOST_FIELDS + 1), "it is endless"),
    ],
)
def test_bytes_that_are_no_onnx_are_refused(model: bytes, reason: str) -> None:
    with pytest.raises(BundleError, match=f"which is no ONNX file \\({reason}"):
        require_whole(model, "g.onnx")


def test_graphs_within_graphs_without_end_are_refused() -> None:
    model = b""
    for number in [6, 5, 1] * 40:
        model = bytes([number << 3 | 2]) + encode_varint(len(model)) + model
    model = bytes([7 << 3 | 2]) + encode_varint(len(model)) + model
    with pytest.raises(BundleError, match="it is endless"):
        require_whole(model, "g.onnx")


def encode_varint(value: int) -> bytes:
    groups = [value >> shift & 127 for shift in range(0, max(1, value.bit_length()), 7)]
    return bytes([*(group | 128 for group in groups[:-1]), groups[-1]])


@given(st.binary(max_size=300))
@example(b"")
def test_whatever_the_bytes_are_they_pass_or_are_refused_as_protobuf_reads_them(
    model: bytes,
) -> None:
    try:
        require_whole(model, "g.onnx")
    except BundleError:
        return
    parsed = onnx.ModelProto()
    try:
        parsed.ParseFromString(model)
    except Exception:
        return
    assert not [t for t in parsed.graph.initializer if t.external_data or t.data_location]


@given(st.data())
def test_a_graph_that_was_changed_passes_only_where_protobuf_finds_no_other_file(
    data: st.DataObject,
) -> None:
    model = bytearray(in_branch())
    for _ in range(data.draw(st.integers(1, 4))):
        model[data.draw(st.integers(0, len(model) - 1))] = data.draw(st.integers(0, 255))
    try:
        require_whole(bytes(model), "g.onnx")
    except BundleError:
        return
    parsed = onnx.ModelProto()
    try:
        parsed.ParseFromString(bytes(model))
    except Exception:
        return
    assert "location" not in str(parsed) or not list(find_external(parsed.graph))


def find_external(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    """Tensors of another file, as protobuf itself reads the graph."""
    found = [t for t in graph.initializer if t.external_data or t.data_location]
    for node in graph.node:
        for attribute in node.attribute:
            tensors = [attribute.t, *attribute.tensors]
            found += [t for t in tensors if t.external_data or t.data_location]
            for inner in (attribute.g, *attribute.graphs):
                found += find_external(inner) if inner.ByteSize() else []
    return found
