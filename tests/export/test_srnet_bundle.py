"""SRNet as a bundle: proven over a closed loop, and tracked by what was exported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from vcedge.models.srnet import SRNET_PROFILES, SRNet
from vcedge.models.srnet_graphs import AlignmentGraph
from vcedge.models.weights import Weights, load_weights, save_weights
from vcedge_export.onnx import export_onnx
from vcedge_export.plan import ExportOptions
from vcedge_export.planning import plan_export
from vcedge_runtime.demo.clip import render_demo_clip
from vcedge_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vcedge_runtime.errors import BundleError, ExportError
from vcedge_runtime.frames.colour import IMAGENET_LITE
from vcedge_runtime.memory.local_global import LocalGlobalPolicy
from vcedge_runtime.model.bundle import DEFAULT_MODEL, MANIFEST, Bundle
from vcedge_runtime.model.object_composition import ObjectComposition
from vcedge_runtime.tracker import Tracker

GRAPHS = {
    "query_encoder",
    "value_encoder",
    "feature_alignment",
    "memory_read",
    "readout_mix",
    "prototype_transformer",
    "mask_decoder",
    "soft_aggregation",
}


@pytest.fixture(scope="module")
def weights() -> Weights:
    return load_weights(DEFAULT_MODEL)


def test_the_bundle_says_what_it_is_made_of(exported_srnet_bundle: Bundle) -> None:
    opened = Bundle.open(exported_srnet_bundle.folder)
    parts = opened.composition
    assert isinstance(parts, ObjectComposition)
    assert set(opened.graphs) == GRAPHS == parts.graphs
    assert opened.profile == "srnet-lite"
    assert parts.colour == IMAGENET_LITE
    assert (parts.stride, parts.key_dim, parts.value_dim, parts.size) == (16, 64, 128, 96)
    assert (parts.top_k, parts.local, parts.interval, parts.prototypes) == (20, "fam", 1, True)
    assert parts.memory == LocalGlobalPolicy(every=5, capacity=5, zoom=1.4)
    # 2.32 GMAC at 480x864.
    cost = opened.graphs["query_encoder"].macs_per_pixel * 480 * 864
    assert cost == pytest.approx(2.32e9, rel=0.01)


def test_the_manifest_names_the_colours_that_the_encoder_takes(
    exported_srnet_bundle: Bundle,
) -> None:
    manifest = json.loads((exported_srnet_bundle.folder / MANIFEST).read_text())
    assert manifest["composition"]["colour"] == {
        "space": "rgb",
        "mean": [127, 127, 127],
        "scale": [128, 128, 128],
    }


def test_the_value_encoder_takes_the_querys_features_and_no_image(
    exported_srnet_bundle: Bundle,
) -> None:
    spec = exported_srnet_bundle.graphs["value_encoder"].spec
    assert [t.name for t in spec.inputs] == ["f4", "f8", "f16", "masks", "background"]


@pytest.mark.parametrize("graph", ["query_encoder", "value_encoder", "mask_decoder"])
def test_padding_and_normalisation_are_part_of_the_convolutions(
    exported_srnet_bundle: Bundle, graph: str
) -> None:
    """What stands between layers is neither fused nor quantised by every engine."""
    graphs = onnx.load(exported_srnet_bundle.path_of(graph)).graph
    operators = {node.op_type for node in graphs.node}
    assert "Conv" in operators
    assert not operators & {"Pad", "BatchNormalization"}


def test_the_work_of_an_object_is_counted_apart(
    exported_srnet_bundle: Bundle, weights: Weights
) -> None:
    model = plan_export(weights, ExportOptions(size=96))
    # 96 pixels of a frame of 16 to 9.
    lengths = {**model.lengths_at((96, 176)), "objects": 3}
    for name in GRAPHS - {"memory_read"}:
        graph = exported_srnet_bundle.graphs[name]
        cost = graph.macs_per_pixel + 3 * graph.macs_per_object
        assert 96 * 176 * cost == pytest.approx(model.modules[name].count_macs(lengths)), name
        assert (graph.macs_per_object > 0) == (name not in ("query_encoder", "soft_aggregation"))


def test_lengths_of_an_image_grow_with_it_and_no_others(weights: Weights) -> None:
    model = plan_export(weights, ExportOptions())
    lengths = model.lengths_at((480, 864))
    grown = {"H": 480, "W": 864, "h": 30, "w": 54, "h8": 60, "w8": 108, "h4": 120, "w4": 216}
    assert lengths == {**model.lengths, **grown}


def test_sixty_frames_in_a_closed_loop_are_the_models(exported_srnet_bundle: Bundle) -> None:
    found = exported_srnet_bundle.verification
    assert found["passes"] is True
    assert found["frames"] == 60
    # Two tenths of a point of J&F over the clip.
    assert abs(found["score_exported"] - found["score_model"]) < 0.002
    outputs = {row["tensor"].split(".")[0] for row in found["outputs"]}
    assert outputs == GRAPHS
    for row in found["outputs"]:
        assert row["non_finite"] == 0
        # FP32 sums of up to 3,456 terms in another order, in up to 20 layers; where the k-th and
        # the next cell are as near to the last bit, the readout may take either.
        largest = 0.1 if row["tensor"] == "memory_read.readout" else 1e-3
        assert row["largest"] < largest * row["magnitude"], row
        assert row["mean"] < 1e-5 * row["magnitude"], row


def test_the_exported_model_follows_several_objects_and_lets_them_go(srnet_bundle: Bundle) -> None:
    clip = list(render_demo_clip(frames=16, frame_hw=(96, 160)))
    with Tracker.open(srnet_bundle, threads=1) as tracker:
        tracker.start(*clip[0])
        first, second = tracker.object_ids[:2]
        for frame, _ in clip[1:8]:
            result = tracker.step(frame)
        assert {first, second} <= set(np.unique(result.mask))
        tracker.remove_object(first)
        held = tracker.memory_bytes
        for frame, _ in clip[8:]:
            result = tracker.step(frame)
        assert set(np.unique(result.mask)) <= {0, *tracker.object_ids}
        assert second in result.mask
        assert tracker.memory_bytes == held


def test_a_video_goes_on_without_any_object(srnet_bundle: Bundle) -> None:
    clip = list(render_demo_clip(frames=4, frame_hw=(96, 160)))
    with Tracker.open(srnet_bundle, threads=1) as tracker:
        tracker.start(*clip[0])
        for object_id in tracker.object_ids:
            tracker.remove_object(object_id)
        result = tracker.step(clip[1][0])
        assert (result.mask.any(), result.scores) == (False, {})
        tracker.add_object(7, clip[1][1] == 1)  # type: ignore[arg-type]
        result = tracker.step(clip[2][0])
    assert set(np.unique(result.mask)) == {0, 7}


def test_deform_conv_is_grid_samples(
    srnet_bundle: Bundle, weights: Weights, tmp_path: Path
) -> None:
    model = plan_export(weights, ExportOptions(deform_conv=True))
    native, path = model.written["feature_alignment"], tmp_path / "native.onnx"
    export_onnx(native, model.lengths, path)
    engines = [
        OnnxRuntimeEngine(file.read_bytes(), native.spec, threads=1)
        for file in (path, srnet_bundle.path_of("feature_alignment"))
    ]
    rng = np.random.default_rng(0)
    lengths = {"h": 6, "w": 11, "objects": 3}
    inputs, found = {}, []
    for tensor in native.spec.inputs:
        shape = [lengths[dim] if isinstance(dim, str) else dim for dim in tensor.shape]
        inputs[tensor.name] = rng.standard_normal(shape).astype(np.float32)
    out = {"aligned_key": inputs["key"], "aligned_value": inputs["value"]}
    for engine in engines:
        found.append({name: np.empty_like(like) for name, like in out.items()})
        engine.run(inputs, found[-1])
    for name in out:
        # The bound; bilinear weights are formed in another order.
        assert np.abs(found[0][name] - found[1][name]).max() <= 1e-4


def test_the_alignment_in_pytorch_is_not_touched_by_the_native_form(weights: Weights) -> None:
    assert isinstance(weights.network, SRNet)
    AlignmentGraph(weights.network, native=True)
    graph = AlignmentGraph(weights.network)
    with torch.inference_mode():
        found = graph(*graph.make_examples({"h": 3, "w": 4, "objects": 1}))
    assert all(part.isfinite().all() for part in found)


def test_what_was_not_trained_is_left_out_and_refused(tmp_path: Path) -> None:
    network = SRNet(SRNET_PROFILES["srnet-edge"], local="raw", prototypes=False)
    save_weights(network, tmp_path / "bare.safetensors", {})
    bare = load_weights(tmp_path / "bare.safetensors")
    model = plan_export(bare, ExportOptions())
    assert (model.composition.local, model.composition.prototypes) == ("raw", False)
    assert model.whole == model.composition
    assert plan_export(bare, ExportOptions(overrides={"local": "off"})).composition.local == "off"
    for asked in ({"local": "fam"}, {"prototypes": True}):
        with pytest.raises(ExportError, match="for a network that was trained with"):
            plan_export(bare, ExportOptions(overrides=asked))


@pytest.mark.parametrize("top_k", [1, 20, 200])
def test_the_example_has_more_cells_than_a_readout_takes(weights: Weights, top_k: int) -> None:
    model = plan_export(weights, ExportOptions(top_k=top_k))
    read = model.modules["memory_read"]
    (found,) = [read(*read.make_examples(model.lengths))]
    assert found.isfinite().all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"radius": 5}, ExportError, "received a radius or a temperature for SRNet"),
        ({"temperature": 0.5}, ExportError, "received a radius or a temperature for SRNet"),
        (
            {"overrides": {"sampler": "window"}},
            BundleError,
            "received sampler for a model that segments",
        ),
        (
            {"overrides": {"motion": False}},
            BundleError,
            "received motion for a model that segments",
        ),
        (
            {"overrides": {"local": "nearby"}},
            BundleError,
            "received local='nearby' for ObjectComposition",
        ),
    ],
)
def test_options_of_other_models_are_refused(
    weights: Weights, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        plan_export(weights, ExportOptions(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"deform_conv": True}, ExportError, "received deform_conv for a model without one"),
        (
            {"overrides": {"local": "raw"}},
            BundleError,
            "received local for a model that propagates labels",
        ),
        (
            {"overrides": {"prototypes": False}},
            BundleError,
            "received prototypes for a model that propagates",
        ),
    ],
)
def test_options_of_srnet_are_refused_by_others(
    tiny_weights: Weights, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        plan_export(tiny_weights, ExportOptions(**options))  # type: ignore[arg-type]
