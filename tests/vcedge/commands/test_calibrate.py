"""``vcedge calibrate``: recorded once, known again, and taken by an INT8 export."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from typing import TYPE_CHECKING

import numpy as np
import pytest

from vcedge.commands import calibrate
from vcedge_calibration.samples import load_samples
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.video.sources import Source, open_source

if TYPE_CHECKING:
    from vcedge.models.weights import Weights

pytest.importorskip("torch", reason="PyTorch exports; install vcedge[export]")
pytest.importorskip("onnxscript", reason="onnxscript exports; install vcedge[export]")

Run = Callable[..., CompletedProcess[str]]
Refuse = Callable[..., str]

READOUTS = ("label_readout", "cluster_readout", "column_total", "joint_readout")


@pytest.fixture
def video(truth: tuple[object, ...]) -> Path:
    """A folder of four frames, whose masks are in ``masks/frames``."""
    return Path(str(truth[1]))


def test_a_recording_is_made_once_and_known_again(
    run: Run, tiny_bundle: Bundle, video: Path
) -> None:
    arguments = ("calibrate", tiny_bundle.folder, video, "--masks", "masks", "--samples", 3)
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "samples: encoder 3" in done.stdout
    folders = list(Path("vcedge-out/calibration").iterdir())
    assert len(folders) == 1
    assert done.stdout.splitlines()[-1] == (
        f"next: vcedge export {tiny_bundle.folder} --int8 --calibration {folders[0]}"
    )
    samples = load_samples(folders[0])
    assert samples["encoder"][0]["image"].shape == (1, 3, 64, 96)
    written = (folders[0] / "encoder.npz").stat().st_mtime_ns
    assert "holds this recording already" in run(*arguments).stdout
    assert (folders[0] / "encoder.npz").stat().st_mtime_ns == written
    run(*arguments, "--seed", 1)
    assert len(list(Path("vcedge-out/calibration").iterdir())) == 2


def test_without_masks_something_in_the_middle_is_followed(
    run: Run, srnet_bundle: Bundle, video: Path
) -> None:
    done = run("calibrate", srnet_bundle.folder, video, "--size", 64, "--out", "seen")
    assert (done.returncode, done.stderr) == (0, "")
    masks = load_samples(Path("seen"))["value_encoder"][0]["masks"]
    # An ellipse whose axes are half of the frame's sides covers pi / 16 of it.
    assert masks.mean() == pytest.approx(np.pi / 16, abs=0.02)
    assert masks[0, 32, 48] == 1
    assert not masks[0, :4].any()


def test_videos_are_open_one_at_a_time(
    tiny_bundle: Bundle, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, most = 0, 0

    @contextmanager
    def count(path: Path) -> Iterator[Source]:
        nonlocal opened, most
        opened, most = opened + 1, max(most, opened + 1)
        with open_source(path) as source:
            yield source
        opened -= 1

    monkeypatch.setattr(calibrate, "open_source", count)
    videos = [str(shutil.copytree(video, tmp_path / f"clip{number}")) for number in range(3)]
    arguments = [str(tiny_bundle.folder), *videos, "--samples", "3", "--out", str(tmp_path / "out")]
    calibrate.command.main(arguments, standalone_mode=False)
    assert (opened, most) == (0, 1)


def test_what_was_recorded_makes_an_int8_bundle(
    run: Run, tiny_weights: Weights, exported_bundle: Bundle, video: Path
) -> None:
    from vcedge.models.weights import save_weights

    save_weights(tiny_weights.network, Path("tiny.safetensors"), tiny_weights.facts)
    run("calibrate", exported_bundle.folder, video, "--masks", "masks", "--out", "seen")
    proof = ("--clip", video, "--truth", "masks/frames", "--size", 64, "--radius", 4)
    options = ("--int8", "--calibration", "seen", "--max-drop", 100)
    done = run("export", "tiny.safetensors", *options, *proof)
    assert (done.returncode, done.stderr) == (0, "")
    bundle = Bundle.open("vcedge-out/bundles/tiny-int8")
    precisions = {name: graph.precision for name, graph in bundle.graphs.items()}
    readouts = dict.fromkeys(READOUTS, "fp32")
    assert precisions == {"encoder": "int8", **readouts}
    fraction = bundle.path_of("encoder").stat().st_size
    assert fraction < 0.3 * exported_bundle.path_of("encoder").stat().st_size
    assert bundle.verification["passes"]
    assert {row["precision"] for row in bundle.verification["outputs"]} == {"int8", "fp32"}


def test_mistakes_are_one_line(
    run: Run, refuse: Refuse, tiny_bundle: Bundle, srnet_bundle: Bundle, video: Path
) -> None:
    assert "does not exist; expected a video" in refuse("calibrate", tiny_bundle.folder, "no.mp4")
    Path("empty").mkdir()
    assert "holds no mask of frames" in refuse(
        "calibrate", tiny_bundle.folder, video, "--masks", "empty"
    )
    Path("mine").mkdir()
    assert "exists and is no recording" in refuse(
        "calibrate", tiny_bundle.folder, video, "--out", "mine"
    )
    assert "received --calibration without --int8" in refuse(
        "export", "mer-edge", "--calibration", "mine"
    )
    assert "holds no calibration" in refuse("export", "mer-edge", "--int8", "--calibration", "mine")
