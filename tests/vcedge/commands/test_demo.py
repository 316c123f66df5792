"""``vcedge demo``: the first minute, from nothing but the package."""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge.commands.demo import tracking_fps
from vcedge_runtime.demo.clip import render_demo_clip
from vcedge_runtime.model.bundle import DEFAULT_LABEL_MODEL, Bundle, shipped_models
from vcedge_runtime.session import KEPT_TIMINGS, SessionReport
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.opencv import quiet_opencv
from vcedge_runtime.video.outputs import RECORD_NAME
from vcedge_runtime.video.palette import read_label_png

pytestmark = pytest.mark.slow  # each renders a clip of 480x854
Run = Callable[..., CompletedProcess[str]]
OVERLAY = Path("vcedge-out/demo/overlay.mp4")


@pytest.fixture
def demo(tiny_bundle: Bundle) -> list[object]:
    """The command with the tiny model; the clip is rendered at its own size, 480x854."""
    pytest.importorskip("onnxruntime", reason="the graphs run in it; install vcedge[cpu]")
    model = ["--model", tiny_bundle.folder, "--size", 48, "--threads", 1, "--backend", "cpu"]
    return ["demo", *model, "--frames", 3]


def overlay_sizes(path: Path) -> list[tuple[int, ...]]:
    with quiet_opencv():
        capture = cv2.VideoCapture(str(path))
        sizes = []
        while (read := capture.read())[0]:
            sizes.append(read[1].shape[:2])
        capture.release()
    return sizes


def test_the_demo_tracks_and_scores_a_clip_and_writes_the_overlay(
    run: Run, demo: list[object]
) -> None:
    done = run(*demo)
    assert (done.returncode, done.stderr) == (0, "")
    said = re.search(
        r"tracked 2 objects through 3 frames of 854x480: J&F ([\d.]+), ([\d.]+) frames/s",
        done.stdout,
    )
    assert said
    # The second of three frames is scored: objects hardly move, so that any model keeps them.
    assert 0.1 < float(said[1]) <= 1
    assert float(said[2]) > 0
    assert overlay_sizes(OVERLAY) == 3 * [(480, 854)]
    names = ["overlay.mp4", "clip.mp4", "first.png", "first.csv"]
    assert {path.name for path in OVERLAY.parent.iterdir()} - {RECORD_NAME} == set(names)
    wrote = [line for line in done.stdout.splitlines() if line.startswith("wrote ")]
    assert wrote == [f"wrote {OVERLAY.parent / name}" for name in names]


@pytest.mark.skipif(DEFAULT_LABEL_MODEL not in shipped_models(), reason="no model is shipped here")
def test_the_next_commands_run_as_they_are_printed(run: Run, demo: list[object]) -> None:
    for again in ([], ["--overwrite"]):
        done = run(*demo, *again)
        hints = re.findall(r"^(?:next|or): vcedge (.*)$", done.stdout, re.MULTILINE)
        for hint in hints:
            followed = run(*shlex.split(hint))
            assert (followed.returncode, followed.stderr) == (0, ""), hint
    assert ["--mask" in hint for hint in hints] == [True, False]
    assert "--size 48 --threads 1 --backend cpu" in hints[1]
    assert "tracked 2 points through 3 frames" in followed.stdout
    # The clip is compressed; its first mask is exact.
    mask = read_label_png(OVERLAY.parent / "first.png")
    np.testing.assert_array_equal(mask, render_demo_clip(frames=3).render(0)[1])
    assert overlay_sizes(OVERLAY.parent / "clip.mp4") == 3 * [(480, 854)]
    with (OVERLAY.parent / "first.csv").open(newline="") as file:
        points = {row["name"]: mask[int(row["y"]), int(row["x"])] for row in csv.DictReader(file)}
    assert points == {"object-1": 1, "object-2": 2}


def test_a_folder_that_exists_is_not_written_without_overwrite(
    run: Run, refuse: Callable[..., str], demo: list[object]
) -> None:
    assert run(*demo).returncode == 0
    earlier = OVERLAY.read_bytes()
    (OVERLAY.parent / "notes.txt").write_text("mine")
    assert "pass --overwrite or choose another --out" in refuse(*demo)
    assert OVERLAY.read_bytes() == earlier
    done = run(*demo, "--objects", 1, "--overwrite")
    assert done.returncode == 0
    assert "tracked 1 object through" in done.stdout
    assert len(overlay_sizes(OVERLAY)) == 3
    assert (OVERLAY.parent / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["first.png", "first.csv", "clip.mp4", "overlay.mp4"])
def test_a_file_of_the_users_own_is_never_replaced(
    refuse: Callable[..., str], demo: list[object], name: str
) -> None:
    OVERLAY.parent.mkdir(parents=True)
    (OVERLAY.parent / name).write_text("mine")
    assert f"{name}, which this run would replace, and which vcedge did not" in refuse(
        *demo, "--overwrite"
    )
    assert [path.name for path in OVERLAY.parent.iterdir()] == [name]
    assert (OVERLAY.parent / name).read_text() == "mine"


def test_a_long_demo_tells_the_speed_of_the_frames_whose_timings_are_kept() -> None:
    report = SessionReport()
    for _ in range(3 * KEPT_TIMINGS):
        report.add({"decode": 5.0, "encode": 8.0, "write": 2.0})
    assert tracking_fps(report) == pytest.approx(100)


def test_an_unknown_model_makes_no_folder(refuse: Callable[..., str]) -> None:
    assert "no model 'none'" in refuse("demo", "--model", "none")
    assert not list(Path().iterdir())


def test_an_interruption_finishes_the_overlay(
    run: Run, demo: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    step, calls = Tracker.step, iter(range(100))

    def interrupted(tracker: Tracker, frame: NDArray[np.uint8]) -> object:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return step(tracker, frame)

    monkeypatch.setattr(Tracker, "step", interrupted)
    assert run(*demo).returncode == 130
    assert len(overlay_sizes(OVERLAY)) == 2
