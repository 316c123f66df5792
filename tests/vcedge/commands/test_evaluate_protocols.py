"""``vcedge eval`` of points, parts and YouTube-VOS: the tracker on small trees of their layouts."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import click
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge.commands import evaluate
from vcedge_runtime.model.bundle import DEFAULT_LABEL_MODEL, Bundle
from vcedge_runtime.video.palette import read_label_png, write_label_png

Image = NDArray[np.uint8]
Run = Callable[..., CompletedProcess[str]]
Refuse = Callable[..., str]
MakeImage = Callable[..., Image]
FRAMES, HW, STEP = 4, (64, 96), 2


@pytest.fixture
def model(tiny_bundle: Bundle) -> list[object]:
    pytest.importorskip("onnxruntime", reason="the graphs run in it; install vcedge[cpu]")
    return ["--model", tiny_bundle.folder, "--threads", 1, "--backend", "cpu"]


@pytest.fixture
def write_clip(make_frame: MakeImage) -> Callable[..., None]:
    """Write frames whose texture moves to the right."""

    def write(folder: Path, names: list[str], suffix: str) -> None:
        folder.mkdir(parents=True)
        for index, name in enumerate(names):
            image = make_frame(*HW, STEP * index)
            assert cv2.imwrite(str(folder / f"{name}{suffix}"), image)

    return write


def write_masks(folder: Path, names: list[str], mask: Image) -> None:
    folder.mkdir(parents=True)
    for index, name in enumerate(names):
        write_label_png(folder / f"{name}.png", np.roll(mask, STEP * index, axis=1))


def read_rows(path: str) -> list[list[str]]:
    with Path(path).open(newline="") as file:
        return list(csv.reader(file))


@pytest.fixture
def badja(tmp_path: Path, write_clip: Callable[..., None], make_mask: MakeImage) -> list[object]:
    """The options of a made BADJA: one sequence with two joints."""
    root, names = tmp_path / "DAVIS", [f"{index:05d}" for index in range(FRAMES)]
    write_clip(root / "JPEGImages" / "480p" / "cat", names, ".jpg")
    write_masks(root / "Annotations" / "480p" / "cat", names, make_mask(*HW, 1))
    rows = [
        {"frame": f, "xy": [[40 + STEP * f, 30], [60 + STEP * f, 40]], "visible": [1, 1]}
        for f in (0, 3)
    ]
    joints = {"joint_names": ["paw", "ear"], "sequences": {"cat": rows}}
    (tmp_path / "joints.json").write_text(json.dumps(joints))
    return ["--root", "DAVIS", "--joints", "joints.json"]


@pytest.mark.parametrize("protocol", ["badja", "jhmdb"])
def test_joints_are_followed_by_a_model_that_propagates_labels(protocol: str) -> None:
    assert isinstance(evaluate.command, click.Group)
    command = evaluate.command.commands[protocol]
    (model,) = (option.default for option in command.params if option.name == "model")
    assert model == DEFAULT_LABEL_MODEL


def test_badja_scores_the_tracker_next_to_chained_flow(
    run: Run, badja: list[object], model: list[object]
) -> None:
    done = run("eval", "badja", *badja, *model, "--baseline", "--csv", "scores.csv")
    assert b"\r" not in Path("scores.csv").read_bytes()
    assert (done.returncode, done.stderr) == (0, "")
    head, tracker, flow = read_rows("scores.csv")
    assert head[:5] == ["method", "sequence", "points", "PCK@0.1", "PCK@0.2"]
    assert (tracker[1:3], flow[:3]) == (["cat", "2"], ["DIS flow", "cat", "2"])
    assert 0 <= float(tracker[4]) <= 100
    assert flow[3:7] == ["100.0"] * 4
    assert "wrote scores.csv" in done.stdout


def test_badja_refuses_what_it_does_not_know(
    refuse: Refuse, badja: list[object], model: list[object]
) -> None:
    line = refuse("eval", "badja", *badja, *model, "--sequences", "dog")
    assert "received dog as a sequence of joints.json; expected some of: cat" in line
    assert "cannot be read as joints" in refuse(
        "eval", "badja", "--root", "DAVIS", "--joints", "none.json", *model
    )


def test_jhmdb_scores_the_tracker_with_and_without_first_frames(
    run: Run, tmp_path: Path, write_clip: Callable[..., None], model: list[object]
) -> None:
    savemat = pytest.importorskip("scipy.io", reason="JHMDB's files are MATLAB's").savemat
    root = tmp_path / "JHMDB"
    write_clip(root / "Rename_Images/pour/a", [f"{i:05d}" for i in range(1, 1 + FRAMES)], ".png")
    (root / "splits").mkdir()
    (root / "splits" / "pour_test_split1.txt").write_text("a.avi 2\n")
    (root / "joint_positions/pour/a").mkdir(parents=True)
    places = np.stack([np.linspace(20, 70, 15), np.linspace(10, 50, 15)])[..., None]
    moved = places + np.array([STEP, 0])[:, None, None] * np.arange(FRAMES)
    savemat(root / "joint_positions/pour/a/joint_positions.mat", {"pos_img": moved})
    options = ["--root", "JHMDB", "--size", 64, "--per-joint", "--csv", "scores.csv"]
    done = run("eval", "jhmdb", *options, *model)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1/1 pour/a" in done.stdout
    head, later, every, *joints = read_rows("scores.csv")
    assert head == ["1 videos", "points", *(f"PCK@0.{tenth}" for tenth in range(1, 6))]
    assert (later[1], every[1]) == (str(15 * (FRAMES - 1)), str(15 * FRAMES))
    assert len(joints) == 15
    assert joints[0][0] == "neck"


def test_vip_scores_parts_and_keeps_its_masks(
    run: Run,
    refuse: Refuse,
    tmp_path: Path,
    write_clip: Callable[..., None],
    make_mask: MakeImage,
    model: list[object],
) -> None:
    root, names = tmp_path / "VIP_Fine", [f"{index:012d}" for index in range(FRAMES)]
    write_clip(root / "Images" / "videos1", names, ".jpg")
    write_masks(root / "Category_ids" / "videos1", names, make_mask(*HW, 4, 13))
    (root / "lists").mkdir()
    (root / "lists" / "val_videos.txt").write_text("videos1\n")
    options = ["--root", "VIP_Fine", "--size", 64, "--out", "kept", *model]
    done = run("eval", "vip", *options, "--per-class", "--csv", "scores.csv")
    assert (done.returncode, done.stderr) == (0, "")
    head, later, every, *classes = read_rows("scores.csv")
    assert head == ["1 videos, 4 frames", "mIoU"]
    assert 0 < float(later[1]) <= float(every[1]) <= 100
    figures = dict(classes)
    assert figures["hat"] == "nan"
    mean = np.mean([float(figures[n]) for n in ("background", "upper-clothes", "face")])
    assert float(later[1]) == pytest.approx(mean, abs=0.1)
    assert len(list(Path("kept/videos1").glob("*.png"))) == FRAMES
    assert "pass --overwrite" in refuse("eval", "vip", *options)


@pytest.fixture
def youtube(tmp_path: Path, write_clip: Callable[..., None], make_mask: MakeImage) -> Path:
    """A part of a training set: object 9 begins in the second listed frame."""
    root, names = tmp_path / "train", [f"{5 * index:05d}" for index in range(FRAMES)]
    write_clip(root / "JPEGImages" / "a1", names, ".jpg")
    mask = make_mask(*HW, 2, 9)
    write_masks(root / "Annotations" / "a1", names, mask)
    write_label_png(root / "Annotations" / "a1" / "00000.png", np.where(mask == 2, mask, 0))
    objects = {
        "2": {"category": "cat", "frames": names},
        "9": {"category": "owl", "frames": names[1:]},
    }
    (root / "meta.json").write_text(json.dumps({"videos": {"a1": {"objects": objects}}}))
    (tmp_path / "unseen.txt").write_text("owl\n")
    return root


@pytest.mark.usefixtures("youtube")
def test_youtube_writes_listed_masks_and_scores_what_was_held_out(
    run: Run, model: list[object]
) -> None:
    options = ["--root", "train", "--out", "kept", "--score", "--unseen", "unseen.txt"]
    done = run("eval", "youtube", *options, "--size", 64, *model, "--csv", "scores.csv")
    assert (done.returncode, done.stderr) == (0, "")
    head, *rows = read_rows("scores.csv")
    assert head == ["YTVOS-holdout", "objects", "J&F", "J", "F"]
    assert [row[:2] for row in rows] == [
        ["all", "2"],
        ["seen", "1"],
        ["unseen", "1"],
        ["mean of the groups", ""],
    ]
    masks = sorted(Path("kept/Annotations/a1").glob("*.png"))
    assert [path.stem for path in masks] == ["00000", "00005", "00010", "00015"]
    assert [set(np.unique(read_label_png(path))) for path in masks[:2]] == [{0, 2}, {0, 2, 9}]


@pytest.mark.usefixtures("youtube")
def test_a_worker_writes_the_masks_of_youtube_that_a_tracker_here_writes(
    run: Run, model: list[object]
) -> None:
    options = ["eval", "youtube", "--root", "train", "--size", 64, *model]
    assert run(*options, "--out", "alone").returncode == 0
    done = run(*options, "--out", "kept", "--workers", 1)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1/1 a1" in done.stdout
    masks = sorted(Path("alone/Annotations/a1").glob("*.png"))
    assert len(masks) == FRAMES
    for mask in masks:
        assert Path("kept/Annotations/a1", mask.name).read_bytes() == mask.read_bytes()


@pytest.mark.usefixtures("youtube")
def test_youtube_refuses_what_would_be_lost_or_has_no_effect(
    refuse: Refuse, model: list[object]
) -> None:
    options = ["--root", "train", *model]
    assert "neither --out nor --score" in refuse("eval", "youtube", *options)
    line = refuse("eval", "youtube", *options, "--out", "kept", "--unseen", "unseen.txt")
    assert "--unseen or --csv without --score" in line
    line = refuse("eval", "youtube", *options, "--out", "kept", "--videos", "b2")
    assert "received b2 as a video" in line
    assert not Path("kept").exists()


@pytest.mark.parametrize("protocol", ["jhmdb", "vip", "youtube"])
def test_a_folder_of_something_else_is_refused(
    refuse: Refuse, tmp_path: Path, model: list[object], protocol: str
) -> None:
    (tmp_path / "empty").mkdir()
    more = ["--score"] if protocol == "youtube" else []
    assert "received empty" in refuse("eval", protocol, "--root", "empty", *model, *more)
