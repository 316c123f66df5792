"""FP16 as a rewrite: what becomes half, what stays, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from vcedge_export.half import (
    COORDINATES,
    FOLLOWS,
    HALF,
    LOGITS,
    OTHER,
    PRODUCT,
    RANGE,
    HalfGraph,
    to_half,
)
from vcedge_export.half_rounding import round_like_half
from vcedge_runtime.errors import ExportError

SUMS = "statistics of a normalisation, or a sum over cells"
Weights = Mapping[str, NDArray[np.generic]]


def make_graph(text: str, **weights: NDArray[np.generic]) -> onnx.ModelProto:
    """Parse ONNX's text form; each node is named after its first output."""
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 19]> {text}')
    for node in model.graph.node:
        node.name = node.output[0]
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in weights.items()
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto, **inputs: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found: Sequence[NDArray[np.float32]] = session.run(None, inputs)
    return list(found)


def reasons_of(half: HalfGraph) -> dict[str, str]:
    return {name: reason for reason, names in half.islands.items() for name in names}


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    held = (*inferred.value_info, *inferred.input, *inferred.output)
    return {value.name: value.type.tensor_type.elem_type for value in held}


def random(*shape: int, scale: float = 1.0, seed: int = 0) -> NDArray[np.float32]:
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


CHAIN = """g (float[1,3,H,W] x) => (float[1,4,H,W] y) {
    a = Conv<pads=[1,1,1,1]>(x, w, b)
    r = Relu(a)
    c = Conv(r, v)
    y = Add(c, r)
}"""


def make_chain() -> onnx.ModelProto:
    return make_graph(CHAIN, w=random(4, 3, 3, 3), b=random(4), v=random(4, 4, 1, 1))


def test_layers_and_what_lies_between_compute_in_half() -> None:
    half = to_half(make_chain())
    assert (half.layers, dict(half.islands)) == (2, {})
    types = types_of(half.model)
    assert {types[name] for name in ("a", "r", "c")} == {HALF}
    assert types["x"] == types["y"] == TensorProto.FLOAT
    weights = {tensor.name: tensor.data_type for tensor in half.model.graph.initializer}
    assert weights == {"w_fp16": HALF, "b_fp16": HALF, "v_fp16": HALF}
    casts = [node.output[0] for node in half.model.graph.node if node.op_type == "Cast"]
    assert casts == ["x_fp16", "y"]


def test_the_rewrite_is_the_same_every_time_and_leaves_its_source_alone() -> None:
    model = make_chain()
    before = model.SerializeToString()
    written = [to_half(model).model.SerializeToString(deterministic=True) for _ in range(2)]
    assert written[0] == written[1]
    assert model.SerializeToString() == before


def test_a_graph_in_half_is_near_and_not_equal() -> None:
    model, x = make_chain(), random(1, 3, 9, 7, seed=1)
    exact, rounded = (run(each, x=x)[0] for each in (model, round_like_half(to_half(model).model)))
    error = np.abs(exact - rounded).max() / np.abs(exact).max()
    # A few roundings of 2**-11 each.
    assert 1e-5 < error < 5 * 2**-11


def test_rounding_gives_what_half_holds() -> None:
    """By hand: the sum 1 + 2**-11 lies between two halves, and goes to the even one."""
    text = "g (float[1,1,1,1] x) => (float[1,1,1,1] y) { y = Conv(x, w, b) }"
    model = make_graph(text, w=np.ones((1, 1, 1, 1), np.float32), b=np.ones(1, np.float32))
    x = np.full((1, 1, 1, 1), 2.0**-11, np.float32)
    half = to_half(model).model
    assert run(round_like_half(half), x=x)[0].item() == 1
    assert run(round_like_half(half), x=3 * x)[0].item() == 1 + 2.0**-9
    # What ONNX Runtime does itself on a CPU, and why the rounded graph exists.
    assert run(half, x=x)[0].item() == 1 + 2.0**-11


def test_overflow_is_seen() -> None:
    text = "g (float[1,1,1,1] x) => (float[1,1,1,1] y) { y = Conv(x, w) }"
    half = to_half(make_graph(text, w=np.full((1, 1, 1, 1), 300, np.float32))).model
    x = np.full((1, 1, 1, 1), 300, np.float32)
    assert np.isinf(run(round_like_half(half), x=x)[0]).all()


def test_similarity_and_softmax_stay_in_single_and_their_mean_does_not() -> None:
    text = """g (float[n,8] q, float[m,8] k, float[m,5] v) => (float[n,5] y) {
        t = Transpose<perm=[1,0]>(k)
        s = MatMul(q, t)
        d = Mul(s, scale)
        p = Softmax<axis=-1>(d)
        y = MatMul(p, v)
    }"""
    half = to_half(make_graph(text, scale=np.array(0.3, np.float32)))
    found = reasons_of(half)
    assert found == {"t": FOLLOWS, "s": PRODUCT, "d": PRODUCT, "p": "softmax"}
    assert half.layers == 1


def test_a_softmax_written_out_is_known_by_its_sum() -> None:
    text = """g (float[n,m] s, float[m,5] v) => (float[n,5] y, float[n,5] z) {
        e = Exp(s)
        sum = ReduceSum<keepdims=1>(e, axis)
        p = Div(e, sum)
        y = MatMul(p, v)
        z = MatMul(e, v)
    }"""
    half = to_half(make_graph(text, axis=np.array([1])))
    found = reasons_of(half)
    assert found == {"e": "softmax", "sum": SUMS, "p": SUMS, "z": PRODUCT}


def test_coordinates_stay_in_single_back_to_the_layer_that_gives_them() -> None:
    text = """g (float[1,3,6,6] x) => (float[1,4,3,3] y) {
        f = Conv<pads=[1,1,1,1]>(x, w)
        o = Conv<strides=[2,2]>(f, u)
        t = Tanh(o)
        grid = Transpose<perm=[0,2,3,1]>(t)
        s = GridSample<mode="bilinear">(f, grid)
        y = Conv(s, v)
    }"""
    weights = {"w": random(4, 3, 3, 3), "u": random(2, 4, 2, 2), "v": random(4, 4, 1, 1)}
    half = to_half(make_graph(text, **weights))
    found = reasons_of(half)
    assert found == {"o": COORDINATES, "t": COORDINATES, "grid": COORDINATES, "s": "sampling"}
    assert half.layers == 2


def test_final_logits_stay_in_single_back_to_their_layer() -> None:
    text = """g (float[1,4,H,W] x) => (float[1,1,H,W] logits) {
        f = Conv(x, w)
        last = Conv(f, v)
        logits = Mul(last, two)
    }"""
    weights = {"w": random(4, 4, 1, 1), "v": random(1, 4, 1, 1), "two": np.array(2, np.float32)}
    half = to_half(make_graph(text, **weights))
    assert reasons_of(half) == {"last": LOGITS, "logits": LOGITS}
    assert half.layers == 1


@pytest.mark.parametrize(("value", "kept"), [(7e4, True), (6e4, False), (1e-5, True), (0, False)])
def test_a_constant_that_half_cannot_hold_keeps_its_node(value: float, kept: bool) -> None:
    text = """g (float[1,4,H,W] x) => (float[1,4,H,W] y) {
        f = Conv(x, w)
        y = Add(f, c)
    }"""
    half = to_half(make_graph(text, w=random(4, 4, 1, 1), c=np.array(value, np.float32)))
    assert reasons_of(half) == ({"y": RANGE} if kept else {})


@pytest.mark.parametrize("eps", [1.0, 1e-6])
def test_what_cannot_be_half_does_not_hide_the_layer_behind_it(eps: float) -> None:
    text = """g (float[1,4,H,W] x) => (float[1,1,H,W] logits) {
        f = Conv(x, w)
        last = Conv(f, v)
        logits = Add(last, eps)
    }"""
    weights = {"w": random(4, 4, 1, 1), "v": random(1, 4, 1, 1), "eps": np.array(eps, np.float32)}
    found = reasons_of(to_half(make_graph(text, **weights)))
    assert found == {"last": LOGITS, "logits": LOGITS if eps == 1 else RANGE}


def test_a_layer_whose_weight_is_data_is_a_product_of_data() -> None:
    text = """g (float[n,8] q, float[m,8] k, float[1,4,H,W] x, float[2,4,1,1] v)
    => (float[n,m] y, float[1,2,H,W] z) {
        y = Gemm<transB=1>(q, k)
        z = Conv(x, v)
    }"""
    assert reasons_of(to_half(make_graph(text))) == {"y": PRODUCT, "z": PRODUCT}


def test_a_bias_may_vanish_beside_its_layer() -> None:
    model = make_graph(CHAIN, w=random(4, 3, 3, 3), b=random(4, scale=1e-9), v=random(4, 4, 1, 1))
    assert not to_half(model).islands


@pytest.mark.parametrize(("scale", "kept"), [(4.5e-5, False), (1e-8, True)])
def test_a_scale_that_half_would_change_stays_with_its_pair(scale: float, kept: bool) -> None:
    text = """g (float[1,2,H,W] x) => (float[1,2,H,W] y) {
        w = DequantizeLinear<axis=0>(q, s, z)
        y = Conv(x, w)
    }"""
    weights = {
        "q": np.ones((2, 2, 1, 1), np.int8),
        "s": np.array([scale, 0.01], np.float32),
        "z": np.zeros(2, np.int8),
    }
    half = to_half(make_graph(text, **weights))
    assert reasons_of(half) == ({"w": RANGE} if kept else {})
    assert half.layers == 1


def test_nodes_without_names_are_refused() -> None:
    model = make_chain()
    model.graph.node[1].name = model.graph.node[0].name
    with pytest.raises(ExportError, match="no names of their own"):
        to_half(model)


def test_small_weights_beside_large_ones_may_vanish() -> None:
    weights = random(4, 3, 3, 3)
    weights[0, 0, 0, 0] = 1e-9
    model = make_graph(CHAIN, w=weights, b=random(4), v=random(4, 4, 1, 1))
    assert to_half(model).layers == 2


def test_an_operator_that_is_not_known_stays_in_single() -> None:
    text = """g (float[1,4,H,W] x) => (float[1,4,H,W] y) {
        f = Conv(x, w)
        s = Sin(f)
        y = Relu(s)
    }"""
    half = to_half(make_graph(text, w=random(4, 4, 1, 1)))
    assert reasons_of(half) == {"s": OTHER, "y": FOLLOWS}
    assert "Sin" in [node.op_type for node in half.model.graph.node]


def test_scales_of_a_resize_stay_what_they_must_be() -> None:
    text = """g (float[1,4,H,W] x) => (float[1,4,U,V] y) {
        f = Conv(x, w)
        y = Resize<mode="linear">(f, , scales)
    }"""
    scales = np.array([1, 1, 2, 2], np.float32)
    model = make_graph(text, w=random(4, 4, 1, 1), scales=scales)
    half = to_half(model)
    assert not half.islands
    kinds = {tensor.name: tensor.data_type for tensor in half.model.graph.initializer}
    assert kinds == {"w_fp16": HALF, "scales": TensorProto.FLOAT}
    x = random(1, 4, 3, 5)
    assert run(round_like_half(half.model), x=x)[0].shape == run(model, x=x)[0].shape


def test_a_constant_of_both_precisions_is_held_twice() -> None:
    text = """g (float[4,4] x) => (float[4,4] y) {
        f = MatMul(x, w)
        s = Sin(f)
        y = Div(s, w)
    }"""
    half = to_half(make_graph(text, w=random(4, 4)))
    kinds = {tensor.name: tensor.data_type for tensor in half.model.graph.initializer}
    assert kinds == {"w_fp16": HALF, "w": TensorProto.FLOAT}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(value: float) -> None:
    weights = random(4, 3, 3, 3)
    weights[1, 2, 0, 0] = value
    model = make_graph(CHAIN, w=weights, b=random(4), v=random(4, 4, 1, 1))
    with pytest.raises(ExportError, match="weight w is not finite"):
        to_half(model)


def test_a_graph_with_branches_is_refused() -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["z"])],
        "branch",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1])],
    )
    node = helper.make_node("If", ["c"], ["y"], "choice", then_branch=branch, else_branch=branch)
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1]),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    with pytest.raises(ExportError, match=r"node choice \(If\) holds graphs of its own"):
        to_half(model)
