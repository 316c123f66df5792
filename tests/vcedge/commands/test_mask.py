"""``vcedge mask``: the mask of a frame from boxes and clicks."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.vcedge.commands.conftest import write_images, write_video
from vcedge_runtime.video.palette import read_label_png, write_label_png

Run = Callable[..., CompletedProcess[str]]
Refuse = Callable[..., str]
Image = NDArray[np.uint8]
HW = (120, 160)
ASK = ("--model", "grabcut", "--box", "50,30,50,50")


def make_scene(left: int = 60) -> Image:
    """A noisy dark frame with a red square."""
    rng = np.random.default_rng(left)
    frame = rng.integers(10, 40, (*HW, 3)).astype(np.uint8)
    frame[40:70, left : left + 30, 2] += 200
    return frame


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    cv2.imwrite(str(path), make_scene())
    return path


def test_a_picture_gives_a_palette_png_a_preview_and_the_next_step(run: Run, picture: Path) -> None:
    done = run("mask", picture, *ASK, "--preview", "seen.png", "-o", "first.png")
    assert done.returncode == 0, done.stderr
    mask = read_label_png("first.png")
    expected = np.zeros(HW, np.uint8)
    expected[40:70, 60:90] = 1
    assert (mask != expected).mean() < 0.01
    seen = cv2.imread("seen.png")
    assert seen is not None
    assert seen.shape == (*HW, 3)
    assert "object 1: 4." in done.stdout
    assert f"next: vcedge track {picture} --mask first.png" in done.stdout


@pytest.mark.parametrize("name", ["clip", "clip.avi"])
def test_a_frame_of_a_video_is_named_by_its_index(run: Run, tmp_path: Path, name: str) -> None:
    source, images = tmp_path / name, [make_scene(10 + 25 * number) for number in range(4)]
    (write_video if source.suffix else write_images)(source, images)
    done = run("mask", f"{source}:3", "--model", "grabcut", "--box", "75,30,50,50")
    assert done.returncode == 0, done.stderr
    _, x = np.nonzero(read_label_png("first.png"))
    assert abs(x.mean() - 99.5) < 3
    assert f"next: vcedge track {source} --mask first.png --from 3" in done.stdout


def test_an_object_is_added_to_a_mask(run: Run, picture: Path) -> None:
    known = np.zeros(HW, np.uint8)
    known[:10, :10] = 4
    write_label_png("known.png", known)
    done = run("mask", picture, *ASK[:2], "--box", "2=50,30,50,50", "--add-to", "known.png")
    assert done.returncode == 0, done.stderr
    mask = read_label_png("first.png")
    assert (mask[:10, :10] == 4).all()
    assert mask[55, 75] == 2


def test_what_stands_is_replaced_only_when_asked(run: Run, refuse: Refuse, picture: Path) -> None:
    Path("first.png").write_text("mine")
    assert "first.png exists; pass --overwrite" in refuse("mask", picture, *ASK)
    assert Path("first.png").read_text() == "mine"
    assert run("mask", picture, *ASK, "--overwrite").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "no box and no click"),
        (("--box", "500,30,5,5"), "no pixel of the frame"),
        (("--click", "500,30"), "outside the frame"),
        (("--click", "-50,30"), "clicks off it alone"),
        (("--box", "1,1,5,5", "-o", "mask.bmp"), "ends in .png"),
        (("--box", "1,1,5,5", "-o", "mask.jpg"), "ends in .png"),
        (("--box", "1,1,5,5", "--preview", "seen.bmp"), "ends in .png or .jpg or .jpeg"),
        (("--box", "1,1,5,5", "--preview", "./first.png"), "for both --out and --preview"),
        (("--box", "1,1,5,5", "--model", "nowhere"), "no model 'nowhere'"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(
    refuse: Refuse, picture: Path, arguments: tuple[str, ...], told: str
) -> None:
    assert told in refuse("mask", picture, *arguments)
    assert not Path("first.png").exists()


def test_the_source_and_its_frames_are_not_written_to(refuse: Refuse, picture: Path) -> None:
    said = refuse("mask", picture, *ASK, "-o", picture, "--overwrite")
    assert f"received {picture}, which is the source" in said
    folder = Path("frames")
    folder.mkdir()
    shutil.copy(picture, folder)
    said = refuse("mask", folder, *ASK, "-o", "frames/first.png")
    assert "among the frames of frames" in said
    said = refuse("mask", folder, *ASK, "--preview", "frames/seen.jpg")
    assert "among the frames of frames" in said
    for among in (f"frames/{picture.name}", f"frames/new{picture.suffix}"):
        said = refuse("mask", f"frames/*{picture.suffix}", *ASK, "-o", among, "--overwrite")
        assert "among the frames of frames/*" in said
    assert [path.name for path in folder.iterdir()] == [picture.name]


def test_folders_are_made(run: Run, picture: Path) -> None:
    new = ("-o", "new/first.png", "--preview", "newer/seen.jpg")
    assert run("mask", picture, *ASK, *new).returncode == 0
    assert Path("new/first.png").exists()
    assert Path("newer/seen.jpg").exists()


def test_a_frame_that_is_not_there_is_told(refuse: Refuse, picture: Path) -> None:
    line = refuse("mask", f"{picture}:7", *ASK)
    assert "frame 7 of" in line
    assert "counts from 0" in line
