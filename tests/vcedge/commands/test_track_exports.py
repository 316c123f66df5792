"""``vcedge track`` for other tools: what is written, what is refused, and what an end leaves."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.runtime.video import rerun_double
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.palette import read_label_png
from vcedge_runtime.video.rle import decode_rle

Run = Callable[..., CompletedProcess[str]]
Refuse = Callable[..., str]
MakeClip = Callable[..., Any]
"""Makes a ``Clip`` of this folder's conftest, whose ``arguments`` track it."""
PLACES = ("--coco", "a/coco.json", "--yolo", "yolo", "--label-studio", "ls", "--cvat", "cvat.xml")
OUT = Path("out")
SLOWLY = """
import time
from vcedge_runtime.tracker import Tracker
step = Tracker.step
def step_slowly(tracker, frame):
    time.sleep(0.02)
    return step(tracker, frame)
Tracker.step = step_slowly
"""
"""Makes a run last long enough to be stopped."""


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> type[rerun_double.RecordingStream]:
    """Put a double in Rerun's place."""
    monkeypatch.setitem(sys.modules, "rerun", rerun_double)
    monkeypatch.setattr(rerun_double.RecordingStream, "opened", ())
    monkeypatch.setenv("RUST_LOG", "off")
    return rerun_double.RecordingStream


def read_coco(path: str = "a/coco.json") -> dict[str, Any]:
    return dict(json.loads(Path(path).read_text()))


def test_every_format_tells_of_every_frame_what_the_masks_show(
    run: Run, make_clip: MakeClip
) -> None:
    clip = make_clip(frames=4)
    done = run(*clip.arguments, "--out", OUT, *PLACES, "--name", "3=car", "--name", "200=two words")
    assert (done.returncode, done.stderr) == (0, "")
    found = read_coco()
    masks = {path.stem: read_label_png(path) for path in (OUT / "masks").iterdir()}
    images = {image["id"]: Path(image["file_name"]) for image in found["images"]}
    assert [path.name for path in images.values()] == [f"shot{n}.png" for n in range(8, 12)]
    for annotation in found["annotations"]:
        mask = masks[images[annotation["image_id"]].stem] == annotation["track_id"]
        np.testing.assert_array_equal(decode_rle(annotation["segmentation"]), mask)
    seen = sum(len(np.unique(mask[mask > 0])) for mask in masks.values())
    lines = [p.read_text().splitlines() for p in Path("yolo/labels").iterdir()]
    shapes = list(ElementTree.parse("cvat.xml").iter("mask"))
    tasks = json.loads(Path("ls/tasks.json").read_text())
    regions = [region for task in tasks for region in task["predictions"][0]["result"]]
    counts = [len(found["annotations"]), sum(map(len, lines)), len(shapes), len(regions)]
    assert counts == [seen] * 4
    assert {shape.attrib["label"] for shape in shapes} == {"car", "two words"}
    assert len(list(Path("yolo/images").iterdir())) == len(list(Path("ls/images").iterdir())) == 4


def test_the_summary_names_each_place(run: Run, make_clip: MakeClip) -> None:
    done = run(*make_clip(frames=3).arguments, "--out", OUT, *PLACES)
    told = [line for line in done.stdout.splitlines() if line.startswith("wrote ")]
    assert [line.split()[1] for line in told[3:]] == ["a/coco.json", "yolo", "ls", "cvat.xml"]
    assert "yolo (7 files, " in told[4]


def test_polygons_stand_for_masks_where_they_are_asked_for(run: Run, make_clip: MakeClip) -> None:
    clip = make_clip(frames=2)
    done = run(*clip.arguments, "--out", OUT, *PLACES, "--polygons", "--tolerance", 0)
    assert done.returncode == 0
    assert all(isinstance(a["segmentation"], list) for a in read_coco()["annotations"])
    assert {shape.tag for shape in ElementTree.parse("cvat.xml").findall("image/*")} == {"polygon"}
    [task, *_] = json.loads(Path("ls/tasks.json").read_text())
    assert {r["type"] for r in task["predictions"][0]["result"]} == {"polygonlabels"}


def test_a_name_of_an_object_that_no_mask_shows_is_told(run: Run, make_clip: MakeClip) -> None:
    clip = make_clip(frames=2)
    ids = ", ".join(map(str, np.unique(clip.labels)[1:]))
    known = str(clip.labels.max())
    named = ("--name", f"{known}=car", "--name", "77=dog")
    done = run(*clip.arguments, "--out", OUT, *named)
    told = f"received --name 77=dog, and no mask shows object 77; the objects are {ids}"
    assert done.returncode == 0
    assert (done.stdout + done.stderr).count("no mask shows") == 1
    assert told in done.stdout + done.stderr


def test_without_them_nothing_of_the_kind_is_written(run: Run, make_clip: MakeClip) -> None:
    assert run(*make_clip(frames=2).arguments, "--out", OUT, "--name", "3=car").returncode == 0
    assert {path.name for path in Path().iterdir() if path.is_dir()} == {"clip", "out"}


def test_a_second_run_takes_overwrite_and_replaces_what_the_first_wrote(
    run: Run, refuse: Refuse, make_clip: MakeClip
) -> None:
    clip = make_clip(frames=3)
    given = (*clip.arguments, "--out", OUT, *PLACES)
    assert run(*given).returncode == 0
    line = refuse(*clip.arguments, "--out", "other", *PLACES)
    assert "existing file a/coco.json; pass --overwrite or choose another --coco" in line
    for option, place in (("--yolo", "yolo"), ("--label-studio", "ls")):
        line = refuse(*clip.arguments, "--out", "other", option, place)
        assert f"existing folder {place}, which is not empty; pass --overwrite" in line
        assert f"choose another {option}" in line
    assert run(*given, "--overwrite", "--frames", 2).returncode == 0
    assert len(read_coco()["images"]) == 2
    assert len(list(Path("yolo/images").iterdir())) == 2
    assert len(list(Path("ls/images").iterdir())) == 2


def test_a_file_of_the_users_own_is_refused_before_a_graph_loads(
    refuse: Refuse, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("a tracker was opened")

    monkeypatch.setattr(Tracker, "open", load)
    clip = make_clip(frames=2)
    Path("mine.json").write_text("mine")
    line = refuse(*clip.arguments, "--out", OUT, "--cvat", "mine.json", "--overwrite")
    assert "mine.json, which this run would replace, and which vcedge did not write" in line
    assert Path("mine.json").read_text() == "mine"
    Path("yolo/labels").mkdir(parents=True)
    line = refuse(*clip.arguments, "--out", OUT, "--yolo", "yolo")
    assert "not empty" in line
    assert not OUT.exists()


def test_frames_that_a_data_set_would_lie_among_are_refused(
    refuse: Refuse, make_clip: MakeClip
) -> None:
    clip = make_clip("yolo", frames=2)
    (clip.source / "images").mkdir()
    for path in clip.source.glob("*.png"):
        path.rename(clip.source / "images" / path.name)
    given = ("track", clip.source / "images", *clip.arguments[2:], "--out", OUT)
    line = refuse(*given, "--yolo", "yolo", "--overwrite")
    assert "of the output folder yolo; choose another --yolo" in line


@pytest.mark.parametrize(
    "places",
    [
        ("--coco", "a", "--cvat", "./a"),
        ("--yolo", "out"),
        ("--yolo", "out/masks"),
        ("--yolo", "d", "--label-studio", "d/"),
    ],
)
def test_a_place_for_two_is_refused(
    refuse: Refuse, make_clip: MakeClip, places: tuple[str, ...]
) -> None:
    line = refuse(*make_clip(frames=2).arguments, "--out", OUT, *places)
    assert "expected a place for each" in line
    assert not OUT.exists()


def test_a_place_that_cannot_be_written(refuse: Refuse, make_clip: MakeClip) -> None:
    clip = make_clip(frames=2)
    line = refuse(*clip.arguments, "--out", OUT, "--coco", clip.mask / "coco.json")
    assert "cannot be written (Not a directory)" in line
    Path("folder").mkdir()
    assert "received - for --coco" in refuse(*clip.arguments, "--out", OUT, "--coco", "-")
    line = refuse(*clip.arguments, "--out", "other", "--coco", "folder", "--overwrite")
    assert "which is a folder; expected a file's name; choose another --coco" in line


def test_points_have_no_outlines(refuse: Refuse, make_clip: MakeClip) -> None:
    clip = make_clip(frames=2)
    Path("joints.csv").write_text("name,x,y\nnose,20,24\n")
    given = ("track", clip.source, "--points", "joints.csv", "--model", clip.model)
    line = refuse(*given, "--out", OUT, "--coco", "a.json")
    assert "received --coco with --points; expected --mask" in line
    assert not OUT.exists()


@pytest.mark.parametrize("name", ["car", "=car", "x=car", "3=", "-1=car"])
def test_a_name_takes_an_id(run: Run, make_clip: MakeClip, name: str) -> None:
    done = run(*make_clip(frames=2).arguments, "--out", OUT, "--coco", "a.json", "--name", name)
    assert done.returncode == 2
    assert "expected an object's id and its name, such as 3=car" in done.stderr
    assert not OUT.exists()


def test_an_id_that_no_object_can_have_is_refused(refuse: Refuse, make_clip: MakeClip) -> None:
    given = ("--out", OUT, "--coco", "a.json", "--name", "300=car")
    assert "expected an id from 1 to 255" in refuse(*make_clip(frames=2).arguments, *given)


def test_rerun_gets_frames_and_the_times_of_each_stage(
    run: Run, make_clip: MakeClip, double: type[rerun_double.RecordingStream]
) -> None:
    done = run(*make_clip(frames=3).arguments, "--out", OUT, "--rerun", "a.rrd")
    assert (done.returncode, done.stderr) == (0, "")
    assert "wrote a.rrd (" in done.stdout
    [stream] = double.opened
    frames = {times["frame"]["sequence"]: set[str]() for times, *_ in stream.logged}
    for times, place, _ in stream.logged:
        frames[times["frame"]["sequence"]].add(place)
    assert list(frames) == [0, 1, 2]
    assert {"timings/decode", "timings/write", "video", "scores/3"} <= frames[0]
    assert {"timings/encode", "timings/readout"} <= frames[1]


def test_a_viewer_that_runs_is_no_file(
    run: Run, make_clip: MakeClip, double: type[rerun_double.RecordingStream]
) -> None:
    assert run(*make_clip(frames=2).arguments, "--out", OUT, "--rerun", "connect").returncode == 0
    assert double.opened[0].place == "rerun+http://127.0.0.1:9876/proxy"
    assert not Path("connect").exists()


def test_without_rerun_the_run_ends_before_it_begins(
    refuse: Refuse, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    monkeypatch.setenv("RUST_LOG", "off")
    line = refuse(*make_clip(frames=2).arguments, "--out", OUT, "--rerun", "a.rrd")
    assert "[rerun]" in line
    assert not OUT.exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_run_that_is_stopped_half_way_leaves_files_that_are_whole(
    launch: Callable[..., Popen[str]], make_clip: MakeClip, tmp_path: Path, name: str
) -> None:
    clip = make_clip("long.avi", frames=3000)
    process = launch(*clip.arguments, "--out", OUT, *PLACES, before=SLOWLY)
    give_up = time.monotonic() + 120
    while len(list((tmp_path / "out").glob("masks/[0-9]*.png"))) < 4:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up
        time.sleep(0.01)
    process.send_signal(getattr(signal, name))
    process.communicate(timeout=60)
    masks = len(list((tmp_path / "out" / "masks").glob("*.png")))
    assert masks >= 4
    assert len(json.loads((tmp_path / "a" / "coco.json").read_text())["images"]) == masks
    assert len(json.loads((tmp_path / "ls" / "tasks.json").read_text())) == masks
    assert len(ElementTree.parse(tmp_path / "cvat.xml").findall("image")) == masks
    for part in ("yolo/images", "yolo/labels", "ls/images"):
        assert len(list((tmp_path / part).glob("0*"))) == masks
    assert (tmp_path / "yolo" / "data.yaml").exists()
    left = {path.name for path in tmp_path.rglob(".*") if path.is_file()}
    assert {name for name in left if "vcedge-run" not in name} == set()
