"""INT8: Q/DQ pairs where they belong, ranges from what was seen, and the price of each layer."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from tests.export.test_half import make_graph, random, run
from vcedge_calibration.recording import CalibrationClip, Sample
from vcedge_export.half import to_half
from vcedge_export.half_rounding import round_like_half
from vcedge_export.int8 import Quantiser
from vcedge_export.onnx_files import run_onnx
from vcedge_export.plan import METHODS, ExportOptions, Int8Settings
from vcedge_export.precision import lower_precision
from vcedge_runtime.errors import ExportError
from vcedge_runtime.model.bundle import Bundle

TEXT = """g (float[1,3,H,W] x) => (float[1,4,H,W] key, float[1,4,H,W] side, float[1,4,H,W] c) {
    a = Conv<pads=[1,1,1,1]>(x, w, b)
    r = Relu(a)
    c = Conv<pads=[1,1,1,1]>(r, v)
    d = Add(c, r)
    side = Relu(d)
    k = Conv(side, u)
    key = Identity(k)
}"""


@pytest.fixture
def model(tmp_path: object) -> onnx.ModelProto:
    weights = {"w": random(4, 3, 3, 3), "b": random(4, seed=1)}
    weights |= {"v": random(4, 4, 3, 3, seed=2), "u": random(4, 4, 1, 1, seed=3)}
    return make_graph(TEXT, **weights)


@pytest.fixture
def samples() -> list[Sample]:
    return [{"x": random(1, 3, 12, 16, seed=seed)} for seed in range(3)]


@pytest.fixture
def path(model: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory) -> object:
    path = tmp_path_factory.mktemp("graphs") / "encoder.onnx"
    onnx.save(model, path)
    return path


def quantise(path: object, samples: list[Sample], **settings: object) -> Quantiser:
    return Quantiser(path, samples, Int8Settings(**settings))  # type: ignore[arg-type]


def producers_of(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {name: node for node in model.graph.node for name in node.output}


def relative_error(found: NDArray[np.float32], exact: NDArray[np.float32]) -> float:
    return float(np.abs(found - exact).mean() / np.abs(exact).mean())


def test_all_convolutions_but_the_keys_are_quantised(path: object, samples: list[Sample]) -> None:
    quantiser = quantise(path, samples)
    assert quantiser.layers == ["a", "c"]
    written = quantiser.quantise()
    made = producers_of(written)
    for node in written.graph.node:
        if node.op_type == "Conv":
            fed = [made[name].op_type for name in node.input[:2] if name in made]
            quantised = [kind == "DequantizeLinear" for kind in fed]
            assert quantised == ([False] if node.name == "k" else [True, True]), node.name
    # Biases are not: TensorRT takes none in 32 bits.
    held = {tensor.name: tensor.data_type for tensor in written.graph.initializer}
    assert held["b"] == TensorProto.FLOAT


@pytest.mark.parametrize("symmetric", [False, True])
def test_what_an_activation_cuts_off_takes_no_part_of_the_range(
    symmetric: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Sums of 500 before a ReLU6 would leave it 3 steps of 256."""
    text = """g (float[1,3,H,W] x) => (float[1,4,H,W] side) {
        a = Conv<pads=[1,1,1,1]>(x, w)
        r = Clip(a, none, six)
        side = Conv<pads=[1,1,1,1]>(r, v)
    }"""
    weights = {"w": 100 * random(4, 3, 3, 3), "v": random(4, 4, 3, 3, seed=2)}
    bounds = {"none": np.float32(0), "six": np.float32(6)}
    model = make_graph(text, **weights, **bounds)
    path = tmp_path_factory.mktemp("graphs") / "encoder.onnx"
    onnx.save(model, path)
    samples: list[Sample] = [{"x": random(1, 3, 12, 16, seed=seed)} for seed in range(3)]
    written = quantise(path, samples, symmetric=symmetric, method="minmax").quantise()
    made = producers_of(written)
    [clip] = [node for node in written.graph.node if node.op_type == "Clip"]
    assert made[clip.input[0]].op_type == "Conv"
    used = {name for node in written.graph.node for name in node.input}
    assert {tensor.name for tensor in written.graph.initializer} <= used
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in written.graph.initializer}
    [scale] = [
        held[node.input[1]]
        for node in written.graph.node
        if node.op_type == "QuantizeLinear" and node.input[0] == clip.output[0]
    ]
    assert scale == pytest.approx(6 / (127.5 if symmetric else 255), rel=0.01)
    [exact], [found] = (run_onnx(each, samples[:1]) for each in (model, written))
    # Rounded weights of the first layer, in steps of 1 of sums of some hundred.
    assert relative_error(found["side"], exact["side"]) < 0.035


@pytest.mark.parametrize("method", METHODS)
def test_a_quantised_graph_is_near_its_source(
    model: onnx.ModelProto, path: object, samples: list[Sample], method: str
) -> None:
    written = quantise(path, samples, method=method).quantise()
    x = random(1, 3, 12, 16, seed=9)
    exact, found = run(model, x=x), run(written, x=x)
    for one, other in zip(exact, found, strict=True):
        # 8 bits of a range of about six deviations: steps of 0.02 deviations, over three layers.
        assert 1e-4 < relative_error(other, one) < 0.1


def test_each_channel_keeps_its_mean(
    model: onnx.ModelProto, path: object, samples: list[Sample]
) -> None:
    # One layer with a bias and one without, whose output is the graph's too.
    def means(whole: onnx.ModelProto) -> NDArray[np.float32]:
        names = [node.output[0] for node in whole.graph.node if node.name in ("a", "c")]
        asked = onnx.ModelProto()
        asked.CopyFrom(whole)
        del asked.graph.output[:]
        asked.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        found = run_onnx(asked, samples)
        return np.array([[one[name].mean((0, 2, 3)) for one in found] for name in names]).mean(1)

    quantiser = quantise(path, samples)
    exact = means(model)
    plain, corrected = (means(quantiser.quantise(layers)) for layers in (["a", "c"], None))
    assert np.abs(plain - exact).max() > 3e-3
    # ONNX Runtime rounds a bias to steps of both scales' product, here 4e-4; two layers of it.
    np.testing.assert_allclose(corrected, exact, rtol=0, atol=1e-3)


def test_the_same_samples_give_the_same_graph(path: object, samples: list[Sample]) -> None:
    first, second = (quantise(path, samples).quantise() for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(
        deterministic=True
    )


def test_ranges_are_those_of_all_samples(path: object) -> None:
    """By hand: the input's scale is its whole range in 255 steps."""
    samples: list[Sample] = [
        {"x": np.full((1, 3, 8, 8), value, np.float32)} for value in (-1.0, 0.25, 3.0)
    ]
    written = quantise(path, samples, method="minmax").quantise()
    scales = {t.name: numpy_helper.to_array(t) for t in written.graph.initializer}
    assert scales["x_scale"] == pytest.approx(4 / 255)
    assert scales["x_zero_point"] == 64
    for_tensorrt = quantise(path, samples, method="minmax", symmetric=True).quantise()
    scales = {t.name: numpy_helper.to_array(t) for t in for_tensorrt.graph.initializer}
    assert scales["x_scale"] == pytest.approx(3 / 127.5, rel=0.01)
    assert scales["x_zero_point"] == 0


def test_what_tensorrt_takes_is_signed_and_symmetric(path: object, samples: list[Sample]) -> None:
    written = quantise(path, samples, symmetric=True).quantise()
    points = [
        numpy_helper.to_array(tensor)
        for tensor in written.graph.initializer
        if tensor.name.endswith("zero_point")
    ]
    assert points
    for point in points:
        assert point.dtype == np.int8
        assert not point.any()


def test_the_rest_of_a_quantised_graph_can_be_half(
    model: onnx.ModelProto, path: object, samples: list[Sample]
) -> None:
    half = to_half(quantise(path, samples, symmetric=True).quantise())
    assert half.layers == 3
    x = random(1, 3, 12, 16, seed=9)
    for one, other in zip(run(model, x=x), run(round_like_half(half.model), x=x), strict=True):
        assert 1e-4 < relative_error(other, one) < 0.1
    kinds = {t.name: t.data_type for t in half.model.graph.initializer}
    # The image's own pair stands before the first cast; what follows it is half.
    assert {kinds[name] for name in kinds if name.startswith("r_scale")} == {TensorProto.FLOAT16}


def test_layers_are_ranked_by_what_they_cost(tmp_path_factory: pytest.TempPathFactory) -> None:
    weights = {"w": random(4, 3, 3, 3), "b": random(4, seed=1), "u": random(4, 4, 1, 1, seed=3)}
    # One weight of a channel so large that its other weights vanish in 8 bits.
    weights["v"] = random(4, 4, 3, 3, seed=2)
    weights["v"][:, 0, 0, 0] = 400
    path = tmp_path_factory.mktemp("graphs") / "encoder.onnx"
    onnx.save(make_graph(TEXT, **weights), path)
    samples: list[Sample] = [{"x": random(1, 3, 12, 16, seed=seed)} for seed in range(3)]
    ranked = quantise(path, samples).rank_layers()
    assert [name for name, _ in ranked] == ["c", "a"]
    assert ranked[0][1] > ranked[1][1] > 0


def test_a_layer_that_is_kept_is_as_it_was(path: object, samples: list[Sample]) -> None:
    quantiser = quantise(path, samples, kept=("encoder.c", "other.a"))
    assert quantiser.layers == ["a"]
    made = producers_of(quantiser.quantise())
    layer = next(node for node in made.values() if node.name == "c")
    assert layer.input[1] == "v"
    with pytest.raises(ExportError, match=r"encoder has no layer \['z'\]; it has \['a', 'c'\]"):
        quantise(path, samples, kept=("encoder.z",))


def test_nothing_to_calibrate_on_is_refused(path: object) -> None:
    with pytest.raises(ExportError, match="no sample of what encoder is given"):
        quantise(path, [])


@pytest.mark.parametrize("settings", [{"method": "guess"}, {"percentile": 50}, {"percentile": 101}])
def test_settings_that_cannot_be_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ExportError, match="received calibration by"):
        Int8Settings(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [{}, {"mask_decoder": []}])
def test_an_int8_bundle_without_samples_is_refused(
    given: dict[str, list[Sample]], tiny_bundle: Bundle
) -> None:
    """It would be one in FP32 under another name."""
    options = ExportOptions(int8=Int8Settings(), samples=given)
    clip = CalibrationClip("none", [], np.zeros((1, 1), np.uint8))
    with pytest.raises(ExportError, match="calibrate on a bundle of this model"):
        lower_precision(tiny_bundle, options, clip)


def test_samples_of_another_shape_are_refused(tiny_bundle: Bundle) -> None:
    sample = {"image": np.zeros((1, 5, 64, 96), np.float32)}
    options = ExportOptions(int8=Int8Settings(), samples={"encoder": [sample]})
    clip = CalibrationClip("none", [], np.zeros((1, 1), np.uint8))
    with pytest.raises(ExportError, match=r"the model's does not take \(image float32"):
        lower_precision(tiny_bundle, options, clip)
