"""``vcedge train prompts``: a short run, what it writes, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

torch = pytest.importorskip("torch", reason="PyTorch trains; install vcedge[train]")
pytest.importorskip("safetensors", reason="weights are safetensors; install vcedge[train]")

from tests.vcedge.commands.conftest import read_steps  # noqa: E402
from tests.vcedge.commands.test_train_srnet import data  # noqa: E402, F401
from vcedge.models.prompts import PromptNetwork  # noqa: E402
from vcedge.models.weights import load_weights  # noqa: E402

Run = Callable[..., CompletedProcess[str]]
Refuse = Callable[..., str]
SMALL = ("train", "prompts", "--batch", 2, "--sizes", "1.0:64", "--device", "cpu")


@pytest.mark.usefixtures("data", "_in_process")
def test_a_run_writes_weights_that_say_what_they_are_of(run: Run, tmp_path: Path) -> None:
    folders = ("--stills", "stills", "--masked", "masked", "--cache", "frames")
    (tmp_path / "held.txt").write_text("# none of these\nb\n")
    options = (*SMALL, *folders, "--hold-out", "held.txt", "--out", "one")
    done = run(*options, "--steps", 2)
    assert done.returncode == 0, done.stderr
    assert "2 stills, 0 held out, 1 videos with masks" in done.stdout
    weights = load_weights(tmp_path / "one" / "weights.safetensors")
    assert isinstance(weights.network, PromptNetwork)
    expected = {"model": "prompts", "profile": "prompts-lite", "stills": 2, "held_out": ["b"]}
    assert {name: weights.facts[name] for name in expected} == expected
    assert read_steps(tmp_path / "one") == [2]


@pytest.mark.usefixtures("data", "_in_process")
def test_masks_may_come_from_several_folders_and_names_be_held_out_of_each(
    run: Run, refuse: Refuse, tmp_path: Path
) -> None:
    shutil.copytree(tmp_path / "masked", tmp_path / "more")
    for name, other in (("videos/b.avi", "videos/c.avi"), ("masks/b", "masks/c")):
        (tmp_path / "more" / name).rename(tmp_path / "more" / other)
    (tmp_path / "held.txt").write_text("b\nc\n")
    folders = ("--stills", "stills", "--masked", "masked", "--masked", "more", "--cache", "frames")
    options = (*SMALL, *folders, "--hold-out", "held.txt", "--out", "one", "--steps", 1)
    done = run(*options)
    assert done.returncode == 0, done.stderr
    assert "0 held out, 2 videos with masks" in done.stdout
    (tmp_path / "held.txt").write_text("b\nd\n")
    assert "received d to hold out" in refuse(*options)


@pytest.mark.usefixtures("data", "_in_process")
def test_weights_of_another_kind_of_network_are_refused(refuse: Refuse) -> None:
    line = refuse(*SMALL, "--stills", "stills", "--steps", 1, "--from", "srnet-lite")
    assert "of which nothing fits prompts-lite; begin with `--from imagenet`" in line
