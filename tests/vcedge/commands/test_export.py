"""``vcedge export``: from a file of weights to a bundle that is proven, or marked as unproven."""

from __future__ import annotations

import copy
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from vcedge_runtime.installing import how_to_install
from vcedge_runtime.model.bundle import Bundle

if TYPE_CHECKING:
    from vcedge.models.weights import Weights
    from vcedge_export.verify import TruthClip

pytest.importorskip("torch", reason="PyTorch exports; install vcedge[export]")
pytest.importorskip("onnxscript", reason="onnxscript exports; install vcedge[export]")
pytest.importorskip("onnxruntime", reason="ONNX Runtime verifies; install vcedge[export]")

pytestmark = pytest.mark.usefixtures("traced_once")

Run = Callable[..., CompletedProcess[str]]
Refuse = Callable[..., str]
SMALL = ("--size", 64, "--radius", 4, "--out", "bundle")

READOUTS = ("label_readout", "cluster_readout", "column_total", "joint_readout")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Spare the small arrays the waiting of threads for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def weights(tiny_weights: Weights, tmp_path: Path) -> Path:
    """A file of weights, as training writes it."""
    from vcedge.models.weights import save_weights

    path = tmp_path / "tiny.safetensors"
    save_weights(tiny_weights.network, path, {"data": "none", "steps": 0})
    return path


@pytest.fixture
def stale_graphs(exported_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the exporter write the graphs of another run."""

    def export_stale(module: object, lengths: object, path: Path) -> None:
        shutil.copy(exported_bundle.folder / path.name, path)

    monkeypatch.setattr("vcedge_export.bundle.export_onnx", export_stale)


def test_weights_become_a_bundle_that_is_proven_on_the_users_clip(
    run: Run, weights: Path, truth: tuple[object, ...]
) -> None:
    done = run("export", weights, *SMALL, *truth)
    assert (done.returncode, done.stderr) == (0, "")
    bundle = Bundle.open("bundle")
    assert bundle.verification["passes"]
    assert (bundle.verification["clip"], bundle.verification["frames"]) == ("frames", 4)
    assert (bundle.profile, bundle.composition.size, bundle.composition.radius) == ("edge", 64, 4)
    assert bundle.weights["data"] == "none"
    assert "exported against PyTorch, frames, 4 frames: J&F" in done.stdout
    for tensor in ("encoder.key", "label_readout."):
        assert tensor in done.stdout
    *_, wrote, following = done.stdout.splitlines()
    assert wrote.startswith("wrote bundle (")
    assert following == "next: vcedge track VIDEO --mask FIRST.png --model bundle"
    assert {path.name for path in Path().iterdir()} == {
        *("bundle", "frames", "masks", "tiny.safetensors")
    }


@pytest.mark.usefixtures("stale_graphs")
def test_graphs_that_are_not_the_model_are_marked_and_the_exit_code_is_1(
    run: Run, tiny_weights: Weights
) -> None:
    import torch

    from vcedge.models.weights import save_weights

    network = copy.deepcopy(tiny_weights.network)
    with torch.no_grad():
        network.encoder.head.weight *= 1.1
    save_weights(network, Path("other.safetensors"), {})
    done = run("export", "other.safetensors", *SMALL, "--frames", 3)
    assert (done.returncode, done.stderr) == (1, "")
    assert "exported against PyTorch, demo clip, 3 frames" in done.stdout
    assert "NOT the model" in done.stdout
    assert "next:" not in done.stdout
    found = Bundle.open("bundle").verification
    assert not found["passes"]
    largest = {row["tensor"]: row["largest"] / row["magnitude"] for row in found["outputs"]}
    # A tenth of the weights is about a tenth of the keys, which are centred by a bias.
    assert 0.03 < largest["encoder.key"] < 0.3


@pytest.mark.parametrize(
    ("options", "mend"),
    [
        (["--clip", "frames"], "received --clip without --truth"),
        (["--truth", "masks"], "received --truth without --clip"),
        (["--clip", "none", "--truth", "masks"], "received none, which does not exist"),
        (["--clip", "frames", "--truth", "none"], "none/00000.png, which cannot be read"),
        (["--out", "tiny.safetensors"], "tiny.safetensors exists; pass --overwrite or choose"),
        (["--out", "tiny.safetensors/below"], "cannot be written"),
        (["--motion"], "the network was trained without motion"),
        (["--values"], "the network was trained without value_extraction"),
    ],
)
@pytest.mark.usefixtures("truth")
def test_wrong_options_are_refused_and_nothing_is_written(
    refuse: Refuse, weights: Path, options: list[str], mend: str
) -> None:
    before = set(Path().rglob("*"))
    assert mend in refuse("export", weights, *SMALL, *options)
    assert set(Path().rglob("*")) == before


@pytest.mark.usefixtures("stale_graphs")
def test_a_clip_too_short_to_verify_on_leaves_no_bundle(
    refuse: Refuse, weights: Path, truth: tuple[object, ...]
) -> None:
    for path in Path("frames").glob("0000[23].png"):
        path.unlink()
    line = refuse("export", weights, *SMALL, *truth)
    assert "received a clip of 2 frames; expected at least 3" in line
    assert not list(Path().glob("bundle*"))


@pytest.mark.usefixtures("stale_graphs")
def test_a_bundle_is_replaced_with_overwrite_alone(
    run: Run, refuse: Refuse, weights: Path, truth: tuple[object, ...]
) -> None:
    Path("bundle").mkdir()
    Path("bundle/bundle.json").write_text("an earlier one")
    assert "--overwrite" in refuse("export", weights, *SMALL, *truth)
    assert Path("bundle/bundle.json").read_text() == "an earlier one"
    # FP16 weights against graphs in FP32: whether that passes is of no interest here.
    assert run("export", weights, *SMALL, *truth, "--overwrite").returncode in (0, 1)
    assert Bundle.open("bundle").name == "bundle"


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("base-egde", "expected a .safetensors file or one of"),
        ("letter.safetensors", "does not hold weights of vcedge"),
        ("foreign.safetensors", "does not hold weights of vcedge"),
        ("other-shapes.safetensors", "does not hold weights of vcedge"),
    ],
)
def test_what_is_no_weights_of_vcedge_is_refused(refuse: Refuse, name: str, mend: str) -> None:
    import torch
    from safetensors.torch import save_file

    tensors = {"key": torch.zeros(1)}
    Path("letter.safetensors").write_bytes(b"Dear Sir or Madam")
    save_file(tensors, "foreign.safetensors")
    save_file(tensors, "other-shapes.safetensors", {"facts": '{"profile": "edge"}'})
    before = set(Path().rglob("*"))
    assert mend in refuse("export", name, *SMALL)
    assert set(Path().rglob("*")) == before


@pytest.mark.parametrize("package", ["torch", "onnx", "onnxscript"])
def test_an_exporter_that_is_missing_is_told_before_anything_is_read(
    refuse: Refuse, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    line = refuse("export", "none")
    assert line.endswith(
        f"needs {package}, which is not installed; "
        f"run: {how_to_install('export')}; a bundle in FP32, or a shipped name, with --fp16 or "
        "--int8 needs no PyTorch"
    )


@pytest.mark.parametrize(
    "option", ["--temperature=0", "--top-k=0", "--radius=0", "--size=8", "--frames=2"]
)
def test_numbers_out_of_range_are_usage_errors(run: Run, option: str) -> None:
    done = run("export", option)
    assert done.returncode == 2
    assert option.partition("=")[0] in done.stderr


def test_truth_masks_are_found_by_the_frames_names_in_a_video_too(
    run: Run, weights: Path, truth: tuple[object, ...], stale_graphs: None, tiny_clip: TruthClip
) -> None:
    writer = cv2.VideoWriter("clip.avi", cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (96, 64))
    for image in tiny_clip.frames:
        writer.write(np.ascontiguousarray(image))
    writer.release()
    _, _, *masks = truth
    done = run("export", weights, *SMALL, "--clip", "clip.avi", *masks, "--frames", 3)
    assert done.returncode in (0, 1)
    assert "clip.avi, 3 frames" in done.stdout


def test_half_precision_is_written_into_the_graphs_and_proven(
    run: Run, weights: Path, truth: tuple[object, ...], exported_bundle: Bundle
) -> None:
    done = run("export", weights, *SMALL, *truth, "--fp16")
    assert (done.returncode, done.stderr) == (0, "")
    bundle = Bundle.open("bundle")
    assert bundle.precision == "fp16"
    precisions = {name: graph.precision for name, graph in bundle.graphs.items()}
    readouts = dict.fromkeys(READOUTS, "fp32")
    assert precisions == {"encoder": "fp16", **readouts}
    before = exported_bundle.path_of("encoder").stat().st_size
    assert 0.49 < bundle.path_of("encoder").stat().st_size / before < 0.53
    found = bundle.verification
    assert found["passes"]
    assert found["unrounded"]["passes"]
    # Rounding is seen where it is done, and not where ONNX Runtime leaves it out.
    key, unrounded = found["outputs"][0], found["unrounded"]["outputs"][0]
    assert key["mean"] > 1.1 * unrounded["mean"] > 0
    assert "as a GPU rounds it against PyTorch" in done.stdout
    reasons = list(bundle.graphs["label_readout"].islands)
    assert reasons
    for reason in reasons:
        assert reason in done.stdout


@pytest.mark.usefixtures("stale_graphs")
def test_int8_that_loses_too_much_is_refused_with_the_dearest_layers(
    refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    import vcedge_export.proof as proof

    verify = proof.verify_bundle
    monkeypatch.setattr(
        proof,
        "verify_bundle",
        lambda *args, **kwargs: [
            replace(each, score_model=0.8, score_exported=0.75) for each in verify(*args, **kwargs)
        ],
    )
    options = (*SMALL, "--frames", 3, "--int8", "--max-drop", 4)
    line = refuse("export", "base-edge", *options)
    assert "INT8 takes J&F from 0.8000 to 0.7500 on demo clip" in line
    assert "expected to lose 0.0400 at most" in line
    assert line.count("encoder.node_") == 5
    assert not Path("bundle").exists()
