"""``vcedge track`` from boxes, clicks, later masks, and from a frame in the middle."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest

from tests.vcedge.commands.test_track import read_masks
from vcedge.commands import track_masks
from vcedge_runtime.video.palette import read_label_png, write_label_png

Run = Callable[..., CompletedProcess[str]]
Refuse = Callable[..., str]


@pytest.fixture
def clip(make_clip: Callable[..., Any]) -> Any:
    return make_clip(frames=6)


@pytest.fixture
def options(clip: Any) -> tuple[object, ...]:
    """The model, small."""
    return ("--model", clip.model, "--threads", 1, "--backend", "cpu", "--size", 48)


@pytest.fixture
def _box_is_a_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the box itself for the object: no model is needed."""

    def fill(frame: Any, boxes: Any, clicks: Any, **_: Any) -> Any:
        mask = np.zeros(frame.shape[:2], np.uint8)
        for object_id, (x, y, width, height) in boxes.items():
            mask[int(y) : int(y + height), int(x) : int(x + width)] = object_id
        for object_id, places in clicks.items():
            for x, y, positive in places:
                mask[int(y), int(x)] = object_id * bool(positive)
        return mask

    monkeypatch.setattr(track_masks, "mask_from_prompts", fill)


@pytest.mark.usefixtures("_box_is_a_mask")
def test_boxes_make_the_first_mask(run: Run, clip: Any, options: tuple[object, ...]) -> None:
    boxes = ("--box", "5,5,20,20", "--box", "9=40,20,15,20")
    done = run("track", clip.source, *boxes, *options, "--out", "out")
    assert done.returncode == 0, done.stderr
    found = read_masks(Path("out"))
    assert len(found) == 6
    expected = np.zeros((48, 64), np.uint8)
    expected[5:25, 5:25], expected[20:40, 40:55] = 1, 9
    np.testing.assert_array_equal(found["shot8"], expected)
    assert "tracked 2 objects" in done.stdout
    assert "--mask" not in done.stdout.rpartition("next:")[2]


@pytest.mark.usefixtures("_box_is_a_mask")
def test_a_mask_and_a_box_are_put_together_and_the_mask_comes_first(
    run: Run, clip: Any, options: tuple[object, ...]
) -> None:
    arguments = ("--mask", clip.mask, "--box", "7=0,0,64,48")
    assert run("track", clip.source, *arguments, *options, "--out", "out").returncode == 0
    first = read_masks(Path("out"))["shot8"]
    np.testing.assert_array_equal(first, np.where(clip.labels > 0, clip.labels, 7))


@pytest.mark.usefixtures("_box_is_a_mask")
def test_a_box_for_an_object_of_the_mask_corrects_it_and_says_so(
    run: Run, clip: Any, options: tuple[object, ...]
) -> None:
    object_id = int(clip.labels.max())
    arguments = ("--mask", clip.mask, "--box", f"{object_id}=0,0,20,20")
    done = run("track", clip.source, *arguments, *options, "--out", "out")
    assert f"object {object_id} of the mask is corrected by what the box" in done.stdout
    first = read_masks(Path("out"))["shot8"]
    assert not (first[30:] == object_id).any()


def test_a_mask_among_the_frames_is_none_of_them(
    run: Run, clip: Any, options: tuple[object, ...]
) -> None:
    among = Path(clip.source) / "first.png"
    shutil.copy(clip.mask, among)
    done = run("track", clip.source, "--mask", among, *options, "--out", "out")
    assert "holds files that are no frames: first.png" in done.stdout
    assert sorted(read_masks(Path("out"))) == sorted(
        path.stem for path in Path(clip.source).iterdir() if path != among
    )


@pytest.mark.parametrize(
    "wrong",
    [("--from", "99"), ("--mask", "99:first.png"), ("--push", "nowhere"), ("--coco", "-")],
)
def test_what_an_earlier_run_wrote_stays_where_a_run_cannot_begin(
    run: Run, refuse: Refuse, clip: Any, options: tuple[object, ...], wrong: tuple[str, str]
) -> None:
    arguments = ("track", clip.source, "--mask", "first.png", *options, "--out", "out")
    assert run(*arguments).returncode == 0
    before = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    refuse(*arguments, "--overwrite", *wrong)
    assert before == {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}


def test_exports_may_stand_in_the_folder_of_the_run(
    run: Run, clip: Any, options: tuple[object, ...]
) -> None:
    inside = ("--coco", "out/coco.json", "--yolo", "out/yolo")
    done = run("track", clip.source, "--mask", clip.mask, *options, *inside, "--out", "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert Path("out/coco.json").exists()


def test_a_mask_that_was_corrected_by_hand_is_met_before_anything_is_removed(
    run: Run, refuse: Refuse, clip: Any, options: tuple[object, ...]
) -> None:
    arguments = ("track", clip.source, "--mask", "first.png", *options, "--out", "out")
    assert run(*arguments).returncode == 0
    corrected = sorted(Path("out/masks").iterdir())[-1]
    corrected.write_bytes(Path("first.png").read_bytes())
    count = len(list(Path("out/masks").iterdir()))
    assert f"{corrected.name}, which this run would replace" in refuse(*arguments, "--overwrite")
    assert len(list(Path("out/masks").iterdir())) == count


def test_a_later_mask_appears_in_its_frame(
    run: Run, clip: Any, options: tuple[object, ...]
) -> None:
    later = np.zeros((48, 64), np.uint8)
    later[2:10, 2:14] = 7
    write_label_png("later.png", later)
    arguments = ("--mask", clip.mask, "--mask", "3:later.png")
    assert run("track", clip.source, *arguments, *options, "--out", "out").returncode == 0
    found = read_masks(Path("out"))
    np.testing.assert_array_equal(found["shot11"] == 7, later == 7)
    assert not (found["shot10"] == 7).any()


@pytest.mark.parametrize(("source", "middle"), [("clip", "shot10"), ("clip.avi", "00002")])
def test_from_a_frame_both_ways(
    run: Run, make_clip: Callable[..., Any], source: str, middle: str
) -> None:
    clip = make_clip(source, frames=6)
    done = run(*clip.arguments, "--size", 48, "--from", 2, "--out", "out")
    assert done.returncode == 0, done.stderr
    found = read_masks(Path("out"))
    assert len(found) == 6
    np.testing.assert_array_equal(found[middle], clip.labels)
    assert all((mask == 3).any() for mask in found.values())


def test_a_file_whose_name_looks_numbered_is_that_file(
    run: Run, clip: Any, options: tuple[object, ...]
) -> None:
    write_label_png("3:odd.png", clip.labels)
    done = run("track", clip.source, "--mask", "3:odd.png", *options, "--out", "out")
    assert done.returncode == 0, done.stderr


def test_inputs_are_not_overwritten(run: Run, clip: Any, options: tuple[object, ...]) -> None:
    Path("out").mkdir()
    write_label_png("out/later.png", clip.labels)
    arguments = ("--mask", clip.mask, "--mask", "3:out/later.png", "--overwrite", "--out", "out")
    assert run("track", clip.source, *arguments, *options).returncode == 0
    np.testing.assert_array_equal(read_label_png("out/later.png"), clip.labels)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--mask", "2:first.png"), "pass --from 2 to begin there"),
        (("--mask", "first.png", "--mask", "0:first.png"), "two masks of frame 0"),
        (("--mask", "first.png", "--mask", "99:first.png"), "does not have, or which"),
        (("--mask", "first.png", "--from", "99"), "received a mask of frame 99, which"),
        (("--box", "1,1,9,9", "--from", "99"), "a frame that"),
        (("--mask", "first.png", "--mask", "4:first.png", "--frames", "3"), "and --frames 3"),
        (("--box", "1,1,9,9", "--points", "points.csv"), "either --mask or --points"),
        (("--box", "100,1,9,9"), "no pixel of the frame"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(
    refuse: Refuse,
    clip: Any,
    options: tuple[object, ...],
    arguments: tuple[str, ...],
    told: str,
) -> None:
    assert told in refuse("track", clip.source, *arguments, *options, "--out", "out")


def test_a_stream_cannot_be_followed_backwards(
    refuse: Refuse, clip: Any, options: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vcedge_runtime.video.pictures import ImageSource

    monkeypatch.setattr(ImageSource, "live", True)
    line = refuse("track", clip.source, "--mask", clip.mask, "--from", 2, *options)
    assert "whose frames come once, to follow backwards" in line


@pytest.mark.usefixtures("_box_is_a_mask")
def test_a_stream_goes_on_from_the_frame_that_the_box_is_of(
    run: Run, clip: Any, options: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vcedge_runtime.video.pictures import ImageSource

    def read_ahead(frames: object) -> None:
        raise AssertionError("a live source is read by itself: two frames that wait grow old")

    monkeypatch.setattr(ImageSource, "live", True)
    monkeypatch.setattr("vcedge.commands.track_run.prefetch", read_ahead)
    done = run("track", clip.source, "--box", "5,5,20,20", *options, "--out", "out")
    assert done.returncode == 0, done.stderr
    assert list(read_masks(Path("out"))) == sorted(f"shot{number}" for number in range(8, 14))
