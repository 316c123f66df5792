"""``vcedge import``: published weights become a bundle that computes what their project does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="PyTorch reads the weights; install vcedge[export]")
pytest.importorskip("onnxscript", reason="onnxscript exports; install vcedge[export]")
pytest.importorskip("onnxruntime", reason="ONNX Runtime verifies; install vcedge[export]")

from tests.published import (  # noqa: E402
    HEIGHT,
    WIDTH,
    import_small,
    make_clip,
    make_state,
    open_graphs,
    read_golden,
    read_kept,
    track_shares,
)
from tests.tracing import TracedOnce  # noqa: E402
from vcedge.models.weights import load_weights  # noqa: E402
from vcedge_export.planning import open_modules, plan_bundle  # noqa: E402
from vcedge_export.precision import open_engines  # noqa: E402
from vcedge_runtime.engines.base import ForwardingEngine  # noqa: E402
from vcedge_runtime.frames.colour import IMAGENET  # noqa: E402
from vcedge_runtime.model.bundle import Bundle  # noqa: E402
from vcedge_runtime.model.object_composition import ObjectComposition  # noqa: E402
from vcedge_runtime.tracker import Tracker  # noqa: E402

Run = Callable[..., CompletedProcess[str]]
Refuse = Callable[..., str]
pytestmark = pytest.mark.slow
GRAPHS = {"query_encoder", "value_encoder", "memory_read", "mask_decoder", "soft_aggregation"}


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory, traced_once: TracedOnce) -> Path:
    """A folder in which STCN's weights were imported, whole and in FP16."""
    return import_small("stcn", tmp_path_factory.mktemp("imported"))


@pytest.fixture(scope="module")
def bundle(imported: Path) -> Bundle:
    return Bundle.open(imported / "vcedge-out" / "bundles" / "stcn")


def test_the_bundle_says_what_it_is_and_where_its_weights_came_from(bundle: Bundle) -> None:
    assert set(bundle.graphs) == GRAPHS == bundle.composition.graphs
    parts = bundle.composition
    assert isinstance(parts, ObjectComposition)
    assert (parts.local, parts.prototypes, parts.mixes, parts.fit) == ("off", False, False, "pad")
    assert (parts.top_k, parts.value_dim, parts.colour) == (20, 512, IMAGENET)
    assert (bundle.profile, bundle.verification["passes"]) == ("stcn", True)
    facts = bundle.weights
    assert (facts["model"], facts["licence"], facts["file"]) == ("STCN", "MIT", "stcn.pth")
    assert len(facts["sha256"]) == 64
    assert "terms of their own" in facts["data"]
    # What is published of its work: 136 GMAC a frame of 480x864, 43 more for one that is kept.
    work = {n: g.macs_per_pixel + g.macs_per_object for n, g in bundle.graphs.items()}
    frame = work["query_encoder"] + work["mask_decoder"]
    assert 480 * 864 * frame == pytest.approx(135e9, rel=0.02)
    assert 480 * 864 * work["value_encoder"] == pytest.approx(43e9, rel=0.02)


@pytest.mark.parametrize("where", ["PyTorch", "ONNX Runtime"])
@pytest.mark.parametrize("name", ["stcn-1", "stcn-2", "stcn-2-last"])
def test_every_frame_is_the_projects_own(
    imported: Path, bundle: Bundle, name: str, where: str
) -> None:
    golden = read_golden(name)
    memory = f"local_global:capacity=128,include_last={'on' if 'last' in name else 'off'}"
    whole = replace(bundle, composition=bundle.composition.exchange(memory=memory))
    if where == "PyTorch":
        weights = load_weights(imported / "vcedge-out" / "bundles" / "stcn.safetensors")
        engines = open_modules(plan_bundle(weights, bundle))
    else:
        engines = open_graphs(bundle)
    found = track_shares(whole, engines, golden["frames"], golden["ids"])
    # No cell was as near as another here: 4e-6 was measured.
    assert np.abs(found - golden["probabilities"][1:]).max() < 1e-4


def test_every_frame_is_as_when_that_was_so(bundle: Bundle) -> None:
    kept = read_kept("stcn")
    frames, mask = make_clip(1 + len(kept["shares"]))
    found = track_shares(bundle, open_graphs(bundle), frames, mask)
    assert np.abs(found[..., ::8, ::8] - kept["shares"]).max() < 1e-4


class Counted(ForwardingEngine):
    """Counts the runs of a graph."""

    runs = 0

    def run(self, inputs: object, out: object) -> None:
        self.runs += 1
        super().run(inputs, out)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("memory", "expected"), [("local_global", 3), ("local_global:include_last=on", 12)]
)
def test_values_are_encoded_of_frames_alone_that_are_remembered(
    bundle: Bundle, memory: str, expected: int
) -> None:
    frames, mask = make_clip(12)
    engines = open_graphs(bundle)
    counted = engines["value_encoder"] = Counted(engines["value_encoder"])
    parts = bundle.composition.exchange(memory=memory)
    track_shares(replace(bundle, composition=parts), engines, frames, mask)
    # Of frames 0, 5 and 10; or of all, as each is the last once.
    assert counted.runs == expected


def test_a_mask_that_is_drawn_in_a_frame_that_is_not_remembered_is(bundle: Bundle) -> None:
    frames, mask = make_clip(8)
    engines = open_graphs(bundle)
    counted = engines["value_encoder"] = Counted(engines["value_encoder"])
    with Tracker(bundle, engines) as tracker:
        tracker.start(frames[0], np.where(mask == 1, mask, 0).astype(np.uint8))
        for frame in frames[1:4]:
            tracker.step(frame)
        before = counted.runs
        tracker.add_object(2, (mask == 2).astype(np.uint8))
        assert counted.runs == before + 1
        for frame in frames[4:]:
            tracker.step(frame)
        predictor = tracker.video.predictor
        assert tracker.object_ids == [1, 2]
        assert predictor.memory.select(8, np.zeros(0), lambda frames: np.zeros(0)) == [0, 3, 5]


def test_a_frame_of_no_whole_cells_lies_in_the_middle_of_a_border(bundle: Bundle) -> None:
    frames, mask = make_clip(4)
    inner = np.s_[3:-2, 7:-7]
    cut = [np.ascontiguousarray(frame[inner]) for frame in frames]
    # The same border by hand: of the mean colour, which is 0 to the encoder.
    blank = np.broadcast_to(np.array(IMAGENET.mean[::-1]).round(), (HEIGHT, WIDTH, 3))
    framed = [blank.astype(np.uint8).copy() for _ in cut]
    for whole, part in zip(framed, cut, strict=True):
        whole[2:-3, 7:-7] = part
    held = np.zeros_like(mask)
    held[2:-3, 7:-7] = mask[inner]
    small = Tracker(bundle, open_graphs(bundle), size=HEIGHT - 5)
    large = Tracker(bundle, open_graphs(bundle), size=HEIGHT)
    with small, large:
        small.start(cut[0], np.ascontiguousarray(mask[inner]))
        large.start(framed[0], held)
        assert small.video.fit.content_hw == (HEIGHT - 5, WIDTH - 14)
        assert small.video.work_hw == (HEIGHT, WIDTH)
        for ours, theirs in zip(cut[1:], framed[1:], strict=True):
            found, expected = small.step(ours), large.step(theirs)
        ours, theirs = (
            each.video.predictor._last.shares.host[:, 2:-3, 7:-7] for each in (small, large)
        )
    # The mean colour is no whole number: a border by hand is off by a hundredth of its scale.
    assert np.abs(ours - theirs).max() < 0.05
    assert (found.mask == expected.mask[2:-3, 7:-7]).mean() > 0.98


def test_memory_is_what_was_told_and_does_not_grow(bundle: Bundle) -> None:
    frames, mask = make_clip(30)
    parts = bundle.composition.exchange(memory="local_global:every=1,capacity=3")
    with Tracker(replace(bundle, composition=parts), open_graphs(bundle)) as tracker:
        tracker.start(frames[0], mask)
        told = tracker.memory_bytes
        for frame in frames[1:]:
            tracker.step(frame)
        assert tracker.memory_bytes == told


def test_rounded_as_a_gpu_does_every_number_is_one_and_near(imported: Path) -> None:
    half = Bundle.open(imported / "vcedge-out" / "bundles" / "stcn-fp16")
    assert half.precision == "fp16"
    rows = half.verification["outputs"]
    assert {row["tensor"].split(".")[0] for row in rows} == GRAPHS
    for row in rows:
        assert row["non_finite"] == 0, row
        assert row["mean"] < 2e-3 * row["magnitude"], row


def test_logits_far_apart_are_read_without_an_infinity(bundle: Bundle) -> None:
    """An exponential without its maximum, as STCN has it, would be infinite here."""
    spec = bundle.graphs["memory_read"].spec
    lengths = {"slots": 1, "h": 6, "w": 10, "objects": 1, "channels": 512, "references": 1}
    given: dict[str, NDArray[np.generic]] = {
        t.name: np.ones([lengths.get(d, d) for d in t.shape], t.dtype)  # type: ignore[arg-type, call-overload]
        for t in spec.inputs
    }
    # Equal keys of length 160: logits of 2 * 160 ** 2 / 8 less 160 ** 2 / 8, which are 3,200.
    given["query"], given["keys"] = 20 * given["query"], 20 * given["keys"]
    given["slot_index"] = np.zeros(1, np.int64)
    out = np.empty((1, 512, 6, 10), np.float32)
    for rounded in (False, True):
        [engine] = open_engines(bundle, ["memory_read"], rounded=rounded).values()
        engine.run(given, {"readout": out})
        np.testing.assert_allclose(out, 1, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("cut.pth", b"PK\x03\x04 and no more"),
        ("text.pth", b"no weights"),
        ("empty.pth", b""),
    ],
)
def test_a_bad_file_is_one_line_and_nothing_is_written(
    refuse: Refuse, tmp_path: Path, name: str, data: bytes
) -> None:
    (tmp_path / name).write_bytes(data)
    assert name in refuse("import", "stcn", name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_weights_of_another_network_are_one_line_and_nothing_is_written(
    refuse: Refuse, tmp_path: Path
) -> None:
    torch.save({"encoder.weight": torch.zeros(2)}, tmp_path / "other.pth")
    said = refuse("import", "stcn", "other.pth")
    assert "does not hold the weights of STCN" in said
    assert [path.name for path in tmp_path.iterdir()] == ["other.pth"]


def test_what_stands_is_not_replaced(refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    said = refuse("import", "stcn", "any.pth", "--out", "mine")
    assert "mine exists; pass --overwrite or choose another --out" in said
    assert not list((tmp_path / "mine").iterdir())


def test_the_bundle_is_verified_against_the_weights_beside_it(imported: Path, run: Run) -> None:
    folder = imported / "vcedge-out" / "bundles"
    done = run("verify", folder / "stcn", "--against", folder / "stcn.safetensors", "--frames", 3)
    assert (done.returncode, done.stderr) == (0, "")
    assert "proven: " in done.stdout


def test_weights_of_others_under_the_name_stay(
    imported: Path, refuse: Refuse, tmp_path: Path
) -> None:
    state = make_state("stcn")
    state["key_comp.bias"] = state["key_comp.bias"] + 1
    torch.save(state, tmp_path / "other.pth")
    folder = imported / "vcedge-out" / "bundles"
    said = refuse("import", "stcn", "other.pth", "--out", folder / "new")
    assert "stcn.safetensors exists and holds other weights; pass --overwrite" in said
    assert not (folder / "new").exists()
