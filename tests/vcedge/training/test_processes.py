"""Training in two processes, started as torchrun starts them, over gloo on the CPU."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vcedge.training.corpus import CachedVideo, VideoCorpus
from vcedge.training.processes import Processes, gather_rows, join_processes
from vcedge.training.run import TrainingRun
from vcedge.training.settings import RunSettings
from vcedge_runtime.errors import TrainingError

ROOT = Path(__file__).parents[3]
METHODS = ["base", "dmp", "mer"]
ALL = [*METHODS, "srnet"]
STEPS = 4
SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path
import numpy as np
import torch
from torch import distributed
from vcedge.training.base import BaseObjective, BaseSettings
from vcedge.training.corpus import CachedVideo, VideoCorpus
from vcedge.training.dmp import DmpObjective, DmpSettings
from vcedge.training.mer import MerObjective, MerSettings
from vcedge.training.object_sources import Still
from vcedge.training.processes import join_processes
from vcedge.training.run import TrainingRun
from vcedge.training.settings import RunSettings
from vcedge.training.srnet import SRNetObjective
from vcedge.training.srnet_corpus import SRNetCorpus, SRNetSettings

torch.set_num_threads(1)
folder, steps = Path(sys.argv[1]), int(sys.argv[2])
videos = [CachedVideo(Path(f"made-{n}"), np.load(folder / f"{n}.npy"), 3.0) for n in (0, 1)]
settings = RunSettings(steps=steps, batch=2, sizes=((1.0, 32),), seed=1, workers=0)
make = {
    "base": lambda: BaseObjective("edge", BaseSettings(radius=3)),
    "dmp": lambda: DmpObjective("edge", DmpSettings(radius=3, plain=0.4)),
    "mer": lambda: MerObjective("edge", MerSettings(radius=3, cells=8, negatives=4, bank=5)),
    # What is switched off is not trained, which one process must not wait for.
    "srnet": lambda: SRNetObjective("srnet-edge", SRNetSettings(local="raw", prototypes=False)),
}


def stills():
    ids = np.zeros((64, 64), np.uint8)
    ids[16:48, 8:40] = 1
    pictures = [np.array(video.frames[0][:64, :64]) for video in videos]
    return [Still(f"made-{n}", "binary", picture, ids) for n, picture in enumerate(pictures)]


def begin(method, out):
    torch.manual_seed(1)
    objective = make[method]()
    own = settings
    if method == "srnet":
        own = replace(settings, profile="srnet-edge")
        corpus = SRNetCorpus(objective.settings, stills(), [])
    else:
        corpus = VideoCorpus(videos, objective.clip_settings)
    return TrainingRun(own, objective, corpus, folder / out, device, processes)


def state(run):
    parts = {"objective": run.objective, "average": run.average}
    return {name: part.state_dict() for name, part in parts.items()}


with join_processes("cpu") as (processes, device):
    for method in make:
        run, seen = begin(method, f"{method}-whole"), []
        clips = [(clip[0], getattr(clip, "video", clip[-1])) for clip in run._clips(steps)]
        run.train(lambda p: seen.append((p.step, p.loss)), report_every=1)
        begin(method, f"{method}-stopped").train(lambda p: None, report_every=1, stop_at=2)
        distributed.barrier()
        resumed = begin(method, f"{method}-stopped")
        resumed.resume()
        resumed.train(lambda p: None, report_every=1)
        found = {"whole": state(run), "resumed": state(resumed), "clips": clips, "seen": seen}
        torch.save({**found, "device": device}, folder / f"{method}-{processes.rank}.pt")
"""


def find_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def two(
    moving_videos: list[CachedVideo], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The folder where two processes left their states after runs of every method.

    It takes a gigabyte, and goes with the last test that reads it.
    """
    folder = tmp_path_factory.mktemp("two")
    for number, video in enumerate(moving_videos):
        np.save(folder / f"{number}.npy", video.frames)
    paths = os.pathsep.join(str(ROOT / part) for part in ("", "runtime", "export"))
    given = {
        "PYTHONPATH": paths,
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(find_port()),
        "WORLD_SIZE": "2",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(folder), str(STEPS)],
            env={**os.environ, **given, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], said
    yield folder
    shutil.rmtree(folder)


def load(folder: Path, method: str) -> list[dict[str, Any]]:
    return [torch.load(folder / f"{method}-{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("method", ALL)
def test_both_processes_end_with_the_same_weights(two: Path, method: str) -> None:
    first, second = load(two, method)
    for part in ("objective", "average"):
        for name, value in first["whole"][part].items():
            assert torch.equal(second["whole"][part][name], value), name


@pytest.mark.parametrize("method", ALL)
def test_a_resumed_run_of_two_is_the_uninterrupted_one_in_both(two: Path, method: str) -> None:
    for found in load(two, method):
        for part in ("objective", "average"):
            for name, value in found["whole"][part].items():
                assert torch.equal(found["resumed"][part][name], value), name
    logs = [(two / f"{method}-{name}" / "log.jsonl").read_text() for name in ("whole", "stopped")]
    assert [log.count("\n") for log in logs] == [STEPS, STEPS]


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_see_together_what_one_sees(
    two: Path, make_run: Callable[..., TrainingRun], tmp_path: Path, method: str
) -> None:
    ranks = [found["clips"] for found in load(two, method)]
    alone = make_run(tmp_path, method, steps=STEPS, sizes=((1.0, 32),))
    for step, clips in enumerate(alone._clips(STEPS)):
        for rank in range(2):
            lab, video = ranks[rank][step]
            assert torch.equal(lab, clips.lab[rank : rank + 1])
            assert torch.equal(video, clips.video[rank : rank + 1])


def test_the_first_process_alone_reports_and_writes(two: Path) -> None:
    first, second = load(two, "base")
    assert [step for step, _ in first["seen"]] == [1, 2, 3, 4]
    assert second["seen"] == []
    names = {path.name for path in (two / "base-whole").iterdir()}
    assert names == {"checkpoint.pt", "log.jsonl"}
    assert first["device"] == second["device"] == "cpu"


def test_the_negatives_are_those_of_both_processes(two: Path) -> None:
    for found in load(two, "mer"):
        bank = found["whole"]["objective"]
        assert int(bank["bank.written"]) == 2 * STEPS
        assert (bank["bank.videos"] >= 0).all()


# What needs no second process.


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with join_processes("cpu") as (processes, device):
        assert (processes, device) == (Processes(0, 1), "cpu")
        assert processes.first
        assert processes.mean(2.5) == 2.5
        norm = nn.BatchNorm1d(2)
        processes.average_buffers(norm)
        assert norm.running_var is not None
        assert norm.running_var.tolist() == [1, 1]
        rows = torch.rand(3, 2)
        assert gather_rows(rows) is rows


@pytest.mark.parametrize("name", ["WORLD_SIZE", "RANK", "LOCAL_RANK"])
def test_variables_that_are_no_numbers_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "two")
    with (
        pytest.raises(TrainingError, match=r"WORLD_SIZE.*no number; start with torchrun"),
        join_processes("cpu"),
    ):
        pass


def test_a_number_of_processes_without_a_meeting_place_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with (
        pytest.raises(TrainingError, match=r"received WORLD_SIZE 2, but .*; start with torchrun"),
        join_processes("cpu"),
    ):
        pass


def test_a_batch_that_cannot_be_shared_is_refused(
    make_run: Callable[..., TrainingRun],
    small: RunSettings,
    moving_videos: list[CachedVideo],
    tmp_path: Path,
) -> None:
    objective = make_run(tmp_path).objective
    corpus = VideoCorpus(moving_videos, objective.clip_settings)
    with pytest.raises(TrainingError, match="a batch of 2 for 3 processes; expected a multiple"):
        TrainingRun(small, objective, corpus, tmp_path, "cpu", Processes(0, 3))


def test_the_first_process_shares_what_it_begins_with(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(
        "vcedge.training.processes.distributed.broadcast",
        lambda tensor, source: told.append((tensor.data_ptr(), source)),
    )
    Processes().share(module)
    assert told == []
    Processes(1, 2).share(module)
    assert told == [(tensor.data_ptr(), 0) for tensor in module.state_dict().values()]
