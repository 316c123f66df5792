"""``vcedge train self-labels``: what it writes is what srnet learns from, and it goes on."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch trains; install vcedge[train]")

from tests.vcedge.commands.conftest import write_video
from vcedge.commands import train_self_labels
from vcedge.training.object_sources import load_masked_videos
from vcedge.training.self_labels import SelfLabels
from vcedge_runtime.model.bundle import Bundle

Run = Callable[..., CompletedProcess[str]]
Refuse = Callable[..., str]
HEIGHT, WIDTH = 73, 96


@pytest.fixture
def videos(tmp_path: Path, make_frame: Callable[..., np.ndarray]) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("a", "b", "c"):
        write_video(folder / f"{name}.avi", [make_frame(HEIGHT, WIDTH, 3 * k) for k in range(9)])
    (folder / "d.mp4").write_bytes(b"no video")


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many frames each video had that was looked at; the second one holds nothing."""
    seen: list[int] = []

    def label(frames: Any, tracker: Any, finder: Any, settings: Any) -> SelfLabels | None:
        seen.append(len(frames))
        if len(seen) == 2:
            return None
        masks = np.zeros((6, *frames[0].shape[:2]), np.uint8)
        masks[:, 20:40, 30:60] = 1
        masks[:, 40:44, 30:60] = 255
        return SelfLabels(2, masks, 0.9)

    monkeypatch.setattr(train_self_labels, "label_video", label)
    return seen


def read_rows(out: Path) -> list[tuple[str, str, str]]:
    with (out / "labels.csv").open(newline="") as file:
        return [(row["name"], row["state"], row["frames"]) for row in csv.DictReader(file)]


@pytest.mark.usefixtures("videos", "_in_process")
def test_what_is_written_is_what_srnet_learns_from(
    run: Run, tmp_path: Path, looked_at: list[int], tiny_bundle: Bundle
) -> None:
    command = ("train", "self-labels", "--videos", "videos", "--out", "out", "--cache", "frames")
    command = (*command, "--model", tiny_bundle.folder, "--first-masks", "grabcut")
    done = run(*command)
    assert done.returncode == 0, done.stderr
    assert "2 of 4 videos, 12 frames, 2 objects" in done.stdout
    expected = [("a", "kept", "6"), ("b", "nothing agreed", "0"), ("c", "kept", "6")]
    assert read_rows(tmp_path / "out") == [*expected, ("d", "cannot be decoded", "0")]
    assert looked_at == [9, 9, 9]
    loaded = load_masked_videos(tmp_path / "out", tmp_path / "frames")
    assert [video.name for video in loaded] == ["a", "c"]
    assert loaded[0].frames.shape == (6, 72, WIDTH, 3)
    np.testing.assert_array_equal(np.unique(loaded[0].masks), [0, 1, 255])
    again = run(*command)
    assert again.returncode == 0, again.stderr
    assert len(looked_at) == 3
    assert "2 of 4 videos" in again.stdout


@pytest.mark.usefixtures("videos", "_in_process")
def test_who_is_held_out_is_not_looked_at(
    run: Run, tmp_path: Path, looked_at: list[int], tiny_bundle: Bundle
) -> None:
    (tmp_path / "held.txt").write_text("b\nc\n")
    command = ("train", "self-labels", "--videos", "videos", "--out", "out", "--cache", "frames")
    models = ("--model", tiny_bundle.folder, "--first-masks", "grabcut")
    done = run(*command, *models, "--hold-out", "held.txt")
    assert done.returncode == 0, done.stderr
    assert [name for name, _, _ in read_rows(tmp_path / "out")] == ["a", "d"]


@pytest.mark.usefixtures("videos", "_in_process")
def test_names_that_are_none_of_the_videos_or_twice_are_refused(
    refuse: Refuse, tmp_path: Path
) -> None:
    (tmp_path / "held.txt").write_text("nobody\n")
    command = ("train", "self-labels", "--videos", "videos", "--out", "out")
    assert "1 names to hold out that are none of them" in refuse(*command, "--hold-out", "held.txt")
    assert "4 names twice" in refuse(*command, "--videos", "videos")
