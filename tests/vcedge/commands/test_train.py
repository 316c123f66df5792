"""``vcedge train``: runs of a few steps, their end, their continuation, what they refuse."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from signal import SIGINT
from subprocess import CompletedProcess, Popen
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="PyTorch trains; install vcedge[train]")
pytest.importorskip("safetensors", reason="weights are safetensors; install vcedge[train]")

from tests.vcedge.commands.conftest import read_steps  # noqa: E402
from vcedge.models.weights import load_weights  # noqa: E402
from vcedge.training.run import TrainingRun  # noqa: E402
from vcedge_runtime.files import Draft  # noqa: E402
from vcedge_runtime.model.presets import PRESETS  # noqa: E402

Run = Callable[..., CompletedProcess[str]]
Refuse = Callable[..., str]
OPTIONS = ("--videos", "videos", "--batch", 1, "--sizes", "1.0:32", "--out", "run")
SMALL = ("train", "base", *OPTIONS)
METHODS = pytest.mark.parametrize("method", ["base", "dmp", "mer"])


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


def test_a_run_writes_weights_that_say_where_they_come_from(
    launch: Callable[..., Popen[str]], videos: Path, tmp_path: Path
) -> None:
    # What a run that was killed left half written is taken away.
    (tmp_path / "run").mkdir()
    left = Draft(tmp_path / "run" / "checkpoint.pt").place
    left.touch()
    process = launch(*SMALL, "--steps", 2, "--device", "cpu", "--cache", "frames")
    said, error = process.communicate(timeout=240)
    assert (process.returncode, error) == (0, "")
    assert not left.exists()
    assert "2 of 2 videos hold at least two frames, 16 frames in all" in said
    path = Path("run") / "weights.safetensors"
    *_, wrote, following = said.splitlines()
    assert wrote.startswith(f"wrote {path} (")
    assert following == f"next: vcedge export {path}"
    weights = load_weights(tmp_path / path)
    expected = {"model": "base", "profile": "edge", "steps": 2, "batch": 1, "sizes": "1.0:32"}
    assert {name: weights.facts[name] for name in expected} == expected
    assert (weights.facts["seed"], weights.facts["videos"], weights.facts["frames"]) == (0, 2, 16)
    assert weights.facts["from"] is None
    assert all(torch.isfinite(value).all() for value in weights.network.parameters())
    assert read_steps(tmp_path / "run") == [2]
    assert len(list((tmp_path / "frames").glob("*.npy"))) == 4  # frames and motion of each
    assert {path.name for path in tmp_path.iterdir()} == {"videos", "frames", "run"}


@METHODS
@pytest.mark.usefixtures("videos", "_in_process")
def test_an_interrupted_run_is_gone_on_with_to_the_same_weights(
    run: Run, refuse: Refuse, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    optimise, calls = TrainingRun._optimise, iter(range(100))

    def interrupted(self: TrainingRun, *arguments: Any) -> Any:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return optimise(self, *arguments)

    options = ("train", method, *OPTIONS, "--steps", 3, "--device", "cpu")
    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "_optimise", interrupted)
        done = run(*options)
    assert done.returncode == 130
    assert "stopped at step 1; go on with --resume" in done.stdout
    assert {path.name for path in Path("run").iterdir()} == {"checkpoint.pt"}
    assert "run/checkpoint.pt exists; pass --resume" in refuse(*options)
    assert run(*options, "--resume").returncode == 0
    assert read_steps(Path("run")) == [3]
    assert run(*options, "--out", "whole").returncode == 0
    ours, whole = (load_weights(f"{name}/weights.safetensors") for name in ("run", "whole"))
    assert ours.facts["model"] == method
    assert ours.network.parts == whole.network.parts
    for name, value in whole.network.state_dict().items():
        torch.testing.assert_close(ours.network.state_dict()[name], value, rtol=0, atol=0)


@METHODS
@pytest.mark.usefixtures("videos", "_in_process")
def test_shipped_weights_are_adapted_to_the_users_videos(
    run: Run, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    optimise, first = TrainingRun._optimise, {}

    def watched(self: TrainingRun, *arguments: Any) -> Any:
        if self.step == 0:
            state = self.objective.network.state_dict()
            first.update({name: value.clone() for name, value in state.items()})
        return optimise(self, *arguments)

    monkeypatch.setattr(TrainingRun, "_optimise", watched)
    options = ("--steps", 2, "--device", "cpu", "--from", "base-edge")
    assert run("train", method, *OPTIONS, *options).returncode == 0
    shipped = load_weights("base-edge").network.state_dict()
    for name, value in shipped.items():
        assert torch.equal(first[name], value), name
    adapted = load_weights("run/weights.safetensors")
    assert adapted.facts["from"] == "base-edge"
    found = adapted.network.state_dict()
    assert any(not torch.equal(found[name], value) for name, value in shipped.items())
    # Two steps of a rate that begins low.
    change = (found["encoder.head.weight"] - shipped["encoder.head.weight"]).abs().max()
    assert 0 < change < 0.01
    # The weights of that run, given as a file: where it lies on this machine is not told.
    options = (*options[:-1], Path("run/weights.safetensors").resolve(), "--out", "again")
    assert run("train", method, *OPTIONS, *options).returncode == 0
    assert load_weights("again/weights.safetensors").facts["from"] == "weights.safetensors"


@pytest.mark.usefixtures("videos", "_in_process")
def test_dmp_begins_with_its_branches_where_weights_are_given(run: Run) -> None:
    options = ("train", "dmp", *OPTIONS, "--steps", 1, "--device", "cpu")
    assert run(*options).returncode == 0
    assert run(*options, "--out", "tuned", "--from", "run/weights.safetensors").returncode == 0
    names = [
        json.loads((Path(out) / "log.jsonl").read_text())["parts"].keys()
        for out in ("run", "tuned")
    ]
    assert names == [{"colour"}, {"fused", "forward", "backward"}]


@pytest.mark.usefixtures("videos", "_in_process")
def test_mers_parts_can_be_left_out(run: Run) -> None:
    options = ("--no-motion", "--no-values", "--contrast", 0, "--steps", 1, "--device", "cpu")
    assert run("train", "mer", *OPTIONS, *options).returncode == 0
    network = load_weights("run/weights.safetensors").network
    assert network.parts == {"profile": "edge", "motion": False, "value_extraction": False}


@pytest.mark.usefixtures("_in_process")
def test_folders_of_frames_are_trained_on_beside_files_and_by_a_list(
    run: Run, refuse: Refuse, videos: Path, make_frame: Callable[..., NDArray[np.uint8]]
) -> None:
    for name in ("c", "d"):
        folder = videos / "JPEGImages" / name
        folder.mkdir(parents=True)
        for index in range(5):
            cv2.imwrite(str(folder / f"{index:05d}.jpg"), make_frame(48, 64, 2 * index))
    options = (*SMALL, "--steps", 1, "--device", "cpu", "--workers", 2)
    assert run(*options).returncode == 0
    facts = load_weights("run/weights.safetensors").facts
    assert (facts["videos"], facts["frames"]) == (4, 2 * 8 + 2 * 5)
    Path("names.txt").write_text("# of these\nd\na\n/JPEGImages/480p/d/00000.jpg /Annotations/d\n")
    assert run(*options, "--list", "names.txt", "--out", "two").returncode == 0
    facts = load_weights("two/weights.safetensors").facts
    assert (facts["videos"], facts["frames"]) == (2, 8 + 5)
    Path("names.txt").write_text("e\n")
    assert "1 are not there (e)" in refuse(*options, "--list", "names.txt", "--out", "none")


@pytest.mark.usefixtures("videos", "_in_process")
def test_the_recipe_of_the_paper_gives_defaults_and_what_is_passed_comes_before(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[TrainingRun] = []
    monkeypatch.setattr(TrainingRun, "train", lambda self, *a, **k: seen.append(self))
    given = ("train", "mer", "--videos", "videos", "--recipe", "paper", "--device", "cpu")
    assert run(*given, "--out", "paper").returncode == 0
    assert run(*given, "--batch", 2, "--epochs", 3, "--crops", "--out", "own").returncode == 0
    paper, own = seen
    settings, clips = paper.settings, paper.objective.clip_settings
    assert (settings.profile, settings.batch, settings.sizes) == ("paper", 32, ((1.0, 256),))
    assert (settings.learning_rate, settings.halved) == (1e-3, (0.33, 0.5, 0.67, 0.83))
    assert (clips.whole, clips.frames) == (True, 3)
    assert paper.objective.settings.radius == 6
    printed = PRESETS["mer-as-printed"]["sampler"]
    assert (paper.objective.settings.clusters, paper.objective.settings.reach) == (
        printed.clusters,
        printed.reach,
    )
    # 16 frames, 20 times each, in clips of 3, 32 a step.
    assert settings.steps == round(20 * 16 / (3 * 32))
    assert (own.settings.batch, own.settings.steps) == (2, round(3 * 16 / (3 * 2)))
    assert not own.objective.clip_settings.whole
    assert run(*given, "--steps", 7, "--out", "steps").returncode == 0
    assert seen[-1].settings.steps == 7
    both = run(*given, "--steps", 7, "--epochs", 2, "--out", "both")
    assert (both.returncode, "pass one of --steps and --epochs" in both.stderr) == (2, True)


@pytest.mark.usefixtures("videos")
def test_weights_that_do_not_exist_are_told(refuse: Refuse) -> None:
    assert "no weights 'absent': expected a .safetensors file" in refuse(*SMALL, "--from", "absent")


def test_ctrl_c_is_heard_after_the_step(
    launch: Callable[..., Popen[str]], videos: Path, tmp_path: Path
) -> None:
    process = launch(*SMALL, "--steps", 100_000, "--device", "cpu")
    log = tmp_path / "run" / "log.jsonl"
    while not log.exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(SIGINT)
    said, error = process.communicate(timeout=60)
    # A loading process that dies in the middle of a clip may complain after it.
    assert process.returncode == 130
    assert error.lstrip().splitlines()[0] == "vcedge: interrupted"
    (stopped,) = [line for line in said.splitlines() if "go on with --resume" in line]
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert f"stopped at step {state['step']};" in stopped
    # The counter of the batch normalisation moves with the steps, never one ahead.
    assert state["objective"]["network.encoder.stem.1.num_batches_tracked"] == state["step"]


def test_two_processes_train_together_as_torchrun_starts_them(
    launch: Callable[..., Popen[str]],
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": 2}
    processes = []
    for rank in range(2):
        for name, value in {**given, "RANK": rank, "LOCAL_RANK": rank}.items():
            monkeypatch.setenv(name, str(value))
        options = ("--batch", 2, "--steps", 1, "--device", "cpu", "--cache", "frames")
        processes.append(launch(*SMALL, *options))
    (first, error), (second, _) = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], error
    assert "wrote run/weights.safetensors" in first
    assert second == ""
    assert load_weights(tmp_path / "run" / "weights.safetensors").facts["batch"] == 2
    assert read_steps(tmp_path / "run") == [1]
    # Both decode into one cache and leave nothing half written there.
    assert len(list((tmp_path / "frames").iterdir())) == 4


# TensorBoard.


class FakeWriter:
    """What a run needs of TensorBoard's SummaryWriter."""

    opened: list[FakeWriter] = []  # noqa: RUF012

    def __init__(self, folder: Path, purge_step: int) -> None:
        self.folder, self.purge_step = folder, purge_step
        self.scalars: dict[str, list[int]] = {}
        self.closed = False
        self.opened.append(self)

    def __enter__(self) -> FakeWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.closed = True

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        assert np.isfinite(scalar_value)
        self.scalars.setdefault(tag, []).append(global_step)


@pytest.mark.usefixtures("videos", "_in_process")
def test_a_run_is_logged_for_tensorboard(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = ModuleType("torch.utils.tensorboard")
    monkeypatch.setattr(fake, "SummaryWriter", FakeWriter, raising=False)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    monkeypatch.setattr(FakeWriter, "opened", [])
    options = ("train", "mer", *OPTIONS, "--steps", 1, "--device", "cpu", "--tensorboard")
    assert run(*options).returncode == 0
    assert run(*options, "--resume").returncode == 0
    first, again = FakeWriter.opened
    assert first.folder == Path("run") / "tensorboard"
    assert first.scalars == {
        name: [1] for name in ("loss", "images_per_second", "colour", "contrast")
    }
    # What stands after the checkpoint is written again.
    assert (first.purge_step, again.purge_step) == (1, 2)
    assert first.closed
    assert again.closed


@pytest.mark.usefixtures("videos", "_in_process")
def test_a_missing_tensorboard_is_told(refuse: Refuse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    line = refuse(*SMALL, "--steps", 1, "--device", "cpu", "--tensorboard")
    assert "TensorBoard is not installed; run: pip install tensorboard" in line
    assert not list(Path("run").iterdir())


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
        (["--sizes", ""], "received sizes ''; expected such as 0.7:128,1.0:192"),
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


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
@pytest.mark.usefixtures("videos")
def test_a_signal_ends_training_like_ctrl_c(
    launch: Callable[..., Popen[str]], refuse: Refuse, tmp_path: Path, name: str
) -> None:
    number = getattr(signal, name)
    process = launch(*SMALL, "--steps", 100_000, "--device", "cpu")
    log = tmp_path / "run" / "log.jsonl"
    while not log.exists() and process.poll() is None:
        time.sleep(0.05)
    line = refuse(*SMALL, "--steps", 100_000, "--device", "cpu", "--resume")
    assert "received run, which another process is writing to" in line
    process.send_signal(number)
    said, error = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert error.lstrip().splitlines()[0] == f"vcedge: stopped by {name}", error
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert f"stopped at step {state['step']}; go on with --resume" in said
    assert {path.name for path in log.parent.iterdir()} == {"checkpoint.pt", "log.jsonl"}
