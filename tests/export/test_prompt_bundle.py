"""A bundle that makes first masks: exported, proven, and run without PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from vcedge.models.prompts import PROMPT_PROFILES, PromptNetwork
from vcedge.models.weights import Weights
from vcedge_export.bundle import export_bundle
from vcedge_export.plan import ExportOptions
from vcedge_export.planning import open_modules, plan_bundle
from vcedge_export.precision import open_engines
from vcedge_export.prompt_loop import say_objects
from vcedge_export.verify import TruthClip, verify_bundle
from vcedge_runtime.errors import ExportError, TrackerError
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.model.prompt_composition import GRAPH, PromptComposition
from vcedge_runtime.prompts.segmenter import PromptSegmenter
from vcedge_runtime.tracker import Tracker


@pytest.fixture(scope="module")
def weights() -> Weights:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = PromptNetwork(PROMPT_PROFILES["prompts-lite"]).eval()
    return Weights(network, {"data": "none", "steps": 0})


@pytest.fixture(scope="module")
def bundle(
    weights: Weights, tiny_clip: TruthClip, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    pytest.importorskip("onnxscript", reason="it exports the model")
    folder = tmp_path_factory.mktemp("prompts") / "made"
    return export_bundle(weights, folder, tiny_clip, ExportOptions(size=64))


def test_the_bundle_is_the_model_and_says_what_it_is(bundle: Bundle) -> None:
    opened = Bundle.open(bundle.folder)
    assert opened.composition == PromptComposition(size=64)
    assert set(opened.graphs) == {GRAPH}
    assert opened.verification["passes"]
    assert opened.verification["frames"] == 4
    assert opened.verification["score_model"] == opened.verification["score_exported"]
    assert opened.graphs[GRAPH].macs_per_pixel > 1000


def test_the_graph_has_no_part_of_training_in_it(bundle: Bundle) -> None:
    operators = {node.op_type for node in onnx.load(bundle.path_of(GRAPH)).graph.node}
    assert not operators & {"BatchNormalization", "Einsum", "Resize3D"}


def test_it_makes_masks_and_tracks_nothing(bundle: Bundle, tiny_clip: TruthClip) -> None:
    with PromptSegmenter.open(bundle, threads=1) as segmenter:
        mask = segmenter.segment(tiny_clip.frames[0], {5: (10, 10, 40, 40)}, required=False)
    assert set(np.unique(mask)) <= {0, 5}
    with pytest.raises(TrackerError, match="makes first masks and follows nothing"):
        Tracker.open(bundle)


def test_another_networks_graph_is_told_from_the_model(
    bundle: Bundle, tiny_clip: TruthClip
) -> None:
    torch.manual_seed(4)
    other = Weights(PromptNetwork(PROMPT_PROFILES["prompts-lite"]).eval(), {})
    model = open_modules(plan_bundle(other, bundle))
    [found] = verify_bundle(bundle, [open_engines(bundle, bundle.graphs)], model, tiny_clip)
    assert not found.passes


@pytest.mark.parametrize("options", [{"radius": 4}, {"top_k": 5}, {"deform_conv": True}])
def test_options_of_trackers_are_refused(
    weights: Weights, tiny_clip: TruthClip, tmp_path: Path, options: dict[str, int]
) -> None:
    with pytest.raises(ExportError, match="which makes first masks; leave it out"):
        export_bundle(weights, tmp_path / "no", tiny_clip, ExportOptions(**options))  # type: ignore[arg-type]


def test_what_a_truth_would_have_said_is_boxes_and_clicks_in_turn(tiny_clip: TruthClip) -> None:
    mask = tiny_clip.masks[0]
    boxes, clicks = say_objects(mask, boxed=True)
    assert (list(boxes), clicks) == ([1, 2], {})
    for object_id, (left, top, width, height) in boxes.items():
        y, x = np.nonzero(mask == object_id)
        assert (left, top) == (x.min(), y.min())
        assert (left + width, top + height) == (x.max() + 1, y.max() + 1)
    boxes, clicks = say_objects(mask, boxed=False)
    assert boxes == {}
    for object_id, [(x_at, y_at, positive)] in clicks.items():
        assert positive
        assert mask[int(y_at), int(x_at)] == object_id
