"""``vcedge train base``: a run of a few steps, its end, its continuation, and what it refuses."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="PyTorch trains; install vcedge[train]")
pytest.importorskip("safetensors", reason="weights are safetensors; install vcedge[train]")

from vcedge.models.weights import load_weights  # noqa: E402
from vcedge.training.base import BaseRun, BaseSettings  # noqa: E402

Run = Callable[..., CompletedProcess[str]]
Refuse = Callable[..., str]
SMALL = ("train", "base", "--videos", "videos", "--batch", 1, "--sizes", "1.0:32", "--out", "run")


@pytest.fixture
def videos(make_frame: Callable[..., NDArray[np.uint8]], tmp_path: Path) -> Path:
    """Two small videos, one of them in a folder below."""
    folder = tmp_path / "videos"
    (folder / "more").mkdir(parents=True)
    for path in (folder / "a.avi", folder / "more" / "b.avi"):
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (64, 48))
        for index in range(8):
            writer.write(make_frame(48, 64, 3 * index))
        writer.release()
    return folder


@pytest.fixture
def _in_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Load clips without a process of their own, sum in one order, and put all back afterwards."""
    settings = partial(BaseSettings, workers=0)
    monkeypatch.setattr("vcedge.commands.train.BaseSettings", settings)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


def read_steps(out: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]


def test_a_run_writes_weights_that_say_where_they_come_from(
    launch: Callable[..., Popen[str]], videos: Path, tmp_path: Path
) -> None:
    process = launch(*SMALL, "--steps", 2, "--device", "cpu", "--cache", "frames")
    said, error = process.communicate(timeout=240)
    assert (process.returncode, error) == (0, "")
    assert "2 of 2 videos hold at least two frames, 16 frames in all" in said
    path = Path("run") / "weights.safetensors"
    *_, wrote, following = said.splitlines()
    assert wrote.startswith(f"wrote {path} (")
    assert following == f"next: vcedge export {path}"
    weights = load_weights(tmp_path / path)
    expected = {"model": "base", "profile": "edge", "steps": 2, "batch": 1, "sizes": "1.0:32"}
    assert {name: weights.facts[name] for name in expected} == expected
    assert (weights.facts["seed"], weights.facts["videos"], weights.facts["frames"]) == (0, 2, 16)
    assert all(torch.isfinite(value).all() for value in weights.encoder.parameters())
    assert read_steps(tmp_path / "run") == [2]
    assert len(list((tmp_path / "frames").glob("*.npy"))) == 4  # frames and motion of each
    assert {path.name for path in tmp_path.iterdir()} == {"videos", "frames", "run"}


@pytest.mark.usefixtures("videos", "_in_process")
def test_an_interrupted_run_is_gone_on_with_to_the_same_weights(
    run: Run, refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimise, calls = BaseRun._optimise, iter(range(100))

    def interrupted(self: BaseRun, *arguments: Any) -> Any:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return optimise(self, *arguments)

    options = (*SMALL, "--steps", 3, "--device", "cpu")
    with monkeypatch.context() as patch:
        patch.setattr(BaseRun, "_optimise", interrupted)
        done = run(*options)
    assert done.returncode == 130
    assert "stopped at step 1; go on with --resume" in done.stdout
    assert {path.name for path in Path("run").iterdir()} == {"checkpoint.pt"}
    assert "run/checkpoint.pt exists; pass --resume" in refuse(*options)
    assert run(*options, "--resume").returncode == 0
    assert read_steps(Path("run")) == [3]
    assert run(*options, "--out", "whole").returncode == 0
    ours, whole = (load_weights(f"{name}/weights.safetensors").encoder for name in ("run", "whole"))
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=0, atol=0)


@pytest.mark.usefixtures("videos", "_in_process")
def test_a_run_is_not_resumed_with_other_settings(run: Run, refuse: Refuse) -> None:
    assert run(*SMALL, "--steps", 1, "--device", "cpu").returncode == 0
    line = refuse(*SMALL, "--steps", 2, "--device", "cpu", "--resume")
    assert "other settings (steps); resume with the same ones or choose another --out" in line


@pytest.mark.usefixtures("videos")
@pytest.mark.parametrize(
    ("options", "mend"),
    [
        (["--resume"], "run/checkpoint.pt does not exist; leave --resume out to begin"),
        (["--sizes", "big"], "received sizes 'big'; expected such as 0.7:128,1.0:192"),
        (["--sizes", "0.5:32"], "shares that end at 1.0"),
        (["--sizes", "1.0:33"], "multiples of 8"),
        (["--device", "abacus"], "--device abacus, which PyTorch cannot use here"),
        (["--out", "videos/a.avi/run"], "videos/a.avi/run, which cannot be made (Not a directory)"),
        (["--cache", "videos/a.avi"], "videos/a.avi, which cannot be made (File exists)"),
    ],
)
def test_a_run_that_cannot_begin_is_refused(refuse: Refuse, options: list[str], mend: str) -> None:
    assert mend in refuse(*SMALL, *options)
    assert not list(Path().glob("run/*"))


def test_a_gpu_that_is_not_there_is_told(refuse: Refuse, videos: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    line = refuse(*SMALL, "--device", "cuda")
    assert "--device cuda, which PyTorch cannot use here" in line
    assert "pass cpu or leave it out" in line


def test_a_folder_without_a_video_is_told_which_files_are_looked_for(refuse: Refuse) -> None:
    Path("videos").mkdir()
    Path("videos/a.txt").write_text("no video")
    line = refuse(*SMALL)
    assert "received videos without a video; expected files of .avi" in line


def test_videos_that_cannot_be_decoded_are_counted_out(
    run: Run, videos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for path in videos.rglob("*.avi"):
        path.write_bytes(os.urandom(200))
    done = run(*SMALL)
    assert done.returncode == 2
    assert "0 of 2 videos hold at least two frames" in done.stdout
    assert done.stderr.splitlines()[-1] == ("vcedge: no video with at least two frames to train on")


def test_a_folder_of_videos_that_does_not_exist_is_a_usage_error(run: Run) -> None:
    done = run(*SMALL)
    assert done.returncode == 2
    assert "'videos' does not exist" in done.stderr
