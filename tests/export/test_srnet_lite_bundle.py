"""``srnet-lite`` as a bundle: its own colours, and values made of features."""

from __future__ import annotations

import json

import onnx
import pytest

from vcedge_export.verify import TruthClip
from vcedge_runtime.frames.colour import IMAGENET_LITE
from vcedge_runtime.model.bundle import MANIFEST, Bundle
from vcedge_runtime.model.object_composition import ObjectComposition
from vcedge_runtime.tracker import Tracker


def test_the_manifest_names_the_colours_that_the_encoder_takes(lite_bundle: Bundle) -> None:
    manifest = json.loads((lite_bundle.folder / MANIFEST).read_text())
    assert manifest["composition"]["colour"] == {
        "space": "rgb",
        "mean": [127, 127, 127],
        "scale": [128, 128, 128],
    }
    parts = Bundle.open(lite_bundle.folder).composition
    assert isinstance(parts, ObjectComposition)
    assert parts.colour == IMAGENET_LITE


def test_graphs_are_the_networks(lite_bundle: Bundle) -> None:
    # Untrained masks hang on the last bit of a logit: what is compared is each graph's output.
    rows = {row["tensor"]: row for row in lite_bundle.verification["outputs"]}
    names = {name.partition(".")[0] for name in rows}
    assert names == set(lite_bundle.graphs)
    for name, row in rows.items():
        assert row["non_finite"] == 0
        if name != "memory_read.readout":
            assert row["largest"] < 1e-3 * row["magnitude"], row


def test_the_value_encoder_takes_the_querys_features_and_no_image(lite_bundle: Bundle) -> None:
    spec = lite_bundle.graphs["value_encoder"].spec
    assert [t.name for t in spec.inputs] == ["f4", "f8", "f16", "masks", "background"]


@pytest.mark.parametrize("graph", ["query_encoder", "value_encoder", "mask_decoder"])
def test_padding_and_normalisation_are_part_of_the_convolutions(
    lite_bundle: Bundle, graph: str
) -> None:
    """What stands between layers is neither fused nor quantised by every engine."""
    operators = {node.op_type for node in onnx.load(lite_bundle.path_of(graph)).graph.node}
    assert "Conv" in operators
    assert not operators & {"Pad", "BatchNormalization"}


def test_the_bundle_follows_objects(lite_bundle: Bundle, tiny_clip: TruthClip) -> None:
    with Tracker.open(lite_bundle, threads=1) as tracker:
        tracker.start(tiny_clip.frames[0], tiny_clip.masks[0])
        for frame in tiny_clip.frames[1:]:
            result = tracker.step(frame)
    assert result.mask.shape == tiny_clip.frames[0].shape[:2]
    assert set(result.scores) == {1, 2}
