"""Writing a bundle: what stands in the folder, and what does not when something fails."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from tests.conftest import make_weights
from tests.tracing import TracedOnce
from vcedge.models.encoder import PROFILES
from vcedge.models.network import KeyNetwork
from vcedge.models.weights import Weights
from vcedge_export import bundle as bundle_module
from vcedge_export import label_model, writing
from vcedge_export import proof as proof_module
from vcedge_export.bundle import export_bundle
from vcedge_export.plan import ExportOptions
from vcedge_export.planning import plan_export
from vcedge_export.verify import TruthClip
from vcedge_runtime.errors import BundleError, ExportError, OutputError
from vcedge_runtime.files import Draft
from vcedge_runtime.frames.colour import IMAGENET_LITE
from vcedge_runtime.model.bundle import MANIFEST, Bundle
from vcedge_runtime.tracker import Tracker

Export = Callable[..., Bundle]

GRAPHS = ("encoder", "label_readout", "cluster_readout", "column_total", "joint_readout")
"""Of a model that propagates labels, in the order of their export."""


@pytest.fixture
def quick_export(traced_once: TracedOnce, tiny_weights: Weights, tiny_clip: TruthClip) -> Export:
    """Export the tiny network."""

    def export(folder: Path, **options: object) -> Bundle:
        chosen = ExportOptions(**{"size": 64, "radius": 4, **options})  # type: ignore[arg-type]
        return export_bundle(tiny_weights, folder, tiny_clip, chosen)

    return export


def test_a_bundle_holds_graphs_manifest_and_proof(exported_bundle: Bundle) -> None:
    opened = Bundle.open(exported_bundle.folder)
    assert opened.name == exported_bundle.folder.name == "tiny"
    assert opened.profile == "edge"
    assert opened.composition == exported_bundle.composition
    assert (opened.composition.size, opened.composition.radius) == (64, 4)
    assert dict(opened.weights) == {"data": "none", "steps": 0}
    assert opened.verification["passes"] is True
    assert set(opened.graphs) == set(GRAPHS)
    for graph in opened.graphs.values():
        content = (opened.folder / graph.file).read_bytes()
        assert graph.sha256 == hashlib.sha256(content).hexdigest()
        assert graph.precision == "fp32"
    # 2.78 M weights at a stride of 8 and fewer, and a head: 21.8 GMAC and 1.0 at 480x864.
    cost = opened.graphs["encoder"].macs_per_pixel * 480 * 864
    assert cost == pytest.approx(22.8e9, rel=0.01)
    assert all(graph.macs_per_object == 0 for graph in opened.graphs.values())


def test_the_value_extraction_is_counted_at_the_bundles_size(mer_bundle: Bundle) -> None:
    graph = mer_bundle.graphs["value_extraction"]
    options = ExportOptions(size=64, radius=4)
    module = plan_export(make_weights(value_extraction=True), options).modules["value_extraction"]
    lengths = {"H": 64, "W": 112, "h": 8, "w": 14, "slots": 8}
    assert graph.macs_per_pixel == module.count_macs(lengths) / (64 * 112)


def test_a_pretrained_encoder_is_exported_with_its_colours_for_odd_sides_too(
    tiny_clip: TruthClip, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = KeyNetwork(PROFILES["lite"]).eval()
    weights = Weights(network, {"data": "none"})
    options = ExportOptions(size=56, radius=4)
    bundle = export_bundle(weights, tmp_path / "tiny-lite", tiny_clip, options)
    assert bundle.verification["passes"] is True
    opened = Bundle.open(bundle.folder)
    assert (opened.profile, opened.composition.colour) == ("lite", IMAGENET_LITE)
    graph = opened.folder / opened.graphs["encoder"].file
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for height, width in ((56, 72), (64, 64), (72, 96)):
        image = torch.rand(1, 3, height, width)
        with torch.inference_mode():
            expected = network.encoder(image)[0].permute(1, 2, 0)
        (found,) = session.run(None, {"image": image.numpy()})
        assert found.shape == (height // 8, width // 8, 64)
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_stages_are_told_in_their_order(
    tiny_weights: Weights, tiny_clip: TruthClip, quick_export: Export, tmp_path: Path
) -> None:
    told: list[tuple[str, int, int]] = []

    def tell(stage: str, done: int = 0, total: int = 0) -> None:
        told.append((stage, done, total))

    options = ExportOptions(size=64, radius=4)
    export_bundle(tiny_weights, tmp_path / "new", tiny_clip, options, tell)
    begun = [(stage, 0, 0) for stage in (*GRAPHS, "precision", "verify")]
    assert told == [*begun, *(("verify", frame, 4) for frame in (1, 2, 3, 4))]


def test_what_is_switched_off_is_proven_and_can_be_switched_on(
    mer_bundle: Bundle, tiny_clip: TruthClip, tmp_path: Path
) -> None:
    options = ExportOptions(
        size=64, radius=4, overrides={"motion": False, "value_extraction": False}
    )
    weights = make_weights(motion=True, value_extraction=True)
    export_bundle(weights, tmp_path / "off", tiny_clip, options)
    opened = Bundle.open(tmp_path / "off")
    assert (opened.composition.motion, opened.composition.value_extraction) == (False, False)
    assert opened.verification["passes"] is True
    proven = {row["tensor"] for row in opened.verification["outputs"]}
    assert {"encoder.key", "value_extraction.key"} <= proven
    with Tracker.open(
        opened, overrides={"motion": True, "value_extraction": True}, threads=1
    ) as tracker:
        tracker.start(tiny_clip.frames[0], tiny_clip.masks[0])
        timings_ms = tracker.step(tiny_clip.frames[1]).timings_ms
    assert min(timings_ms["flow"], timings_ms["values"]) > 0
    with Tracker.open(opened, threads=1) as tracker:
        tracker.start(tiny_clip.frames[0], tiny_clip.masks[0])
        timings_ms = tracker.step(tiny_clip.frames[1]).timings_ms
    assert timings_ms["flow"] == timings_ms["values"] == 0


@pytest.mark.parametrize("part", ["motion", "value_extraction"])
def test_what_the_network_lacks_cannot_be_switched_on(
    quick_export: Export, tmp_path: Path, part: str
) -> None:
    with pytest.raises(ExportError, match=f"trained without {part}"):
        quick_export(tmp_path / "new", overrides={part: True})
    assert not list(tmp_path.iterdir())


def test_the_size_is_the_profiles_own_when_none_is_chosen(
    quick_export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(label_model.DEFAULT_SIZES) == set(PROFILES)
    monkeypatch.setitem(label_model.DEFAULT_SIZES, "edge", 72)
    assert quick_export(tmp_path / "new", size=None).composition.size == 72


def test_folders_above_it_are_made(quick_export: Export, tmp_path: Path) -> None:
    exported = quick_export(tmp_path / "a" / "b" / "new")
    assert Bundle.open(tmp_path / "a" / "b" / "new").composition == exported.composition


def test_a_bundle_may_lie_in_a_folder_of_any_name(quick_export: Export, tmp_path: Path) -> None:
    folder = tmp_path / "mon mod\u00e8le (2)"
    quick_export(folder)
    assert Bundle.open(folder).name == "mon-mod-le-2-"


def test_an_existing_folder_is_left_alone(quick_export: Export, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"new exists; pass --overwrite or choose another --out"):
        quick_export(tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["notes.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_overwriting_replaces_a_bundle_as_a_whole(quick_export: Export, tmp_path: Path) -> None:
    quick_export(tmp_path / "new")
    (tmp_path / "new" / "engines").mkdir()
    quick_export(tmp_path / "new", radius=5, overwrite=True)
    assert Bundle.open(tmp_path / "new").composition.radius == 5
    assert not (tmp_path / "new" / "engines").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_overwriting_never_takes_a_folder_that_is_no_bundle(
    quick_export: Export, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("home", "file"):
        with pytest.raises(OutputError, match=f"{name} exists and is no bundle; .*--out"):
            quick_export(tmp_path / name, overwrite=True)
    assert (tmp_path / "home" / "thesis.tex").read_text() == "mine"
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("step", ["export_onnx", "sha256_of", "lower_precision", "prove"])
@pytest.mark.parametrize("error", [ExportError, KeyboardInterrupt])
def test_a_failure_leaves_nothing_and_keeps_what_was(
    quick_export: Export,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    error: type[BaseException],
) -> None:
    quick_export(tmp_path / "old")
    before = {path: path.read_bytes() for path in (tmp_path / "old").iterdir()}

    def fail(*args: object, **kwargs: object) -> None:
        raise error("stopped")

    place = writing if step in ("lower_precision", "prove") else bundle_module
    monkeypatch.setattr(place, step, fail)
    with pytest.raises(error):
        quick_export(tmp_path / "new")
    with pytest.raises(error):
        quick_export(tmp_path / "old", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert {path: path.read_bytes() for path in (tmp_path / "old").iterdir()} == before


def test_what_an_earlier_run_left_is_swept_away(quick_export: Export, tmp_path: Path) -> None:
    left = Draft(tmp_path / "new").place
    left.mkdir()
    (left / "junk").write_text("half")
    quick_export(tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert not (tmp_path / "new" / "junk").exists()


def test_a_place_that_cannot_be_written_is_named(quick_export: Export, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="new cannot be written"):
        quick_export(tmp_path / "file" / "new")


def test_an_unproven_bundle_says_so(
    quick_export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exported_bundle: Bundle
) -> None:
    verify = proof_module.verify_bundle
    monkeypatch.setattr(
        proof_module,
        "verify_bundle",
        lambda *args, **kwargs: [
            replace(each, score_exported=0.0) for each in verify(*args, **kwargs)
        ],
    )
    quick_export(tmp_path / "new")
    assert Bundle.open(tmp_path / "new").verification["passes"] is False


@pytest.mark.parametrize("top_k", [0, -3])
def test_a_top_k_of_nothing_is_refused(top_k: int) -> None:
    with pytest.raises(ExportError, match=f"received top_k {top_k}; expected at least 1"):
        ExportOptions(top_k=top_k)


def test_a_top_k_above_all_logits_is_refused(quick_export: Export, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="a top_k of None or 1 to the 81 cells of a window"):
        quick_export(tmp_path / "new", top_k=82)
    assert not list(tmp_path.iterdir())


def test_the_manifest_is_the_last_file_written(exported_bundle: Bundle) -> None:
    times = {path.name: path.stat().st_mtime_ns for path in exported_bundle.folder.iterdir()}
    assert max(times, key=lambda name: times[name]) == MANIFEST
