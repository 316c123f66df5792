"""``vcedge batch``: results as ``track`` writes them, faults, and runs that are broken off."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess, Popen

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.vcedge.commands.batches import (
    make_clips,
    read_results,
    read_table,
    states,
    times_of,
    wait_for,
)
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.video.palette import write_label_png

pytest.importorskip("onnxruntime", reason="the graphs run in it; install vcedge[cpu]")

Image = NDArray[np.uint8]
Run = Callable[..., CompletedProcess[str]]
Launch = Callable[..., Popen[str]]
MakeClips = Callable[..., Path]


@pytest.fixture(name="make_clips")
def make_clips_fixture(tmp_path: Path) -> MakeClips:
    """Make a folder of small videos, of so many frames each."""
    return lambda *lengths: make_clips(tmp_path / "clips", *lengths)


@pytest.fixture
def options(tiny_bundle: Bundle) -> list[object]:
    return ["--model", tiny_bundle.folder, "--backend", "cpu"]


def track_each(run: Run, clips: Path, options: list[object]) -> dict[str, dict[str, bytes]]:
    """Results of the plain loop over ``vcedge track``."""
    found = {}
    for video in sorted(clips.glob("*.mp4")):
        mask, out = video.with_suffix(".png"), clips.parent / "track" / video.stem
        assert run("track", video, "--mask", mask, "--out", out, *options).returncode == 0
        found[video.stem] = read_results(out)
    return found


@pytest.mark.parametrize("workers", [0, 2])
def test_results_are_byte_for_byte_those_of_track(
    run: Run, make_clips: MakeClips, options: list[object], workers: int
) -> None:
    clips = make_clips(4, 5, 6)
    expected = track_each(run, clips, options)
    done = run("batch", clips, "--out", "out", "--workers", workers, *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 of 3 videos are done" in done.stdout
    assert len(expected["clip0"]) == 6
    assert {name: read_results(Path("out", name)) for name in expected} == expected
    assert states(Path("out")) == dict.fromkeys(expected, "done")
    row = read_table(Path("out"))["clip1"]
    assert (row["line"], row["video"], row["frames"]) == ("2", "clip1.mp4", "5")
    assert 0 < float(row["score"]) <= 1


def test_memory_and_threads_are_said_beforehand(
    run: Run, make_clips: MakeClips, options: list[object]
) -> None:
    done = run("batch", make_clips(4), "--out", "out", "--workers", 1, "--threads", 1, *options)
    first, *_ = done.stdout.splitlines()
    assert first.startswith("trackers: 1, threads of each: 1; about ")
    assert "MB in all of " in first


def test_a_fault_stays_with_its_video(
    run: Run, make_clips: MakeClips, options: list[object]
) -> None:
    clips = make_clips(4, 4, 4, 4)
    (clips / "clip1.mp4").write_bytes(b"no video")
    (clips / "clip2.png").unlink()
    done = run("batch", clips, "--out", "out", "--workers", 0, *options)
    assert (done.returncode, done.stderr) == (1, "")
    assert "2 of 4 videos are done; 2 failed" in done.stdout
    rows = read_table(Path("out"))
    assert [row["state"] for row in rows.values()] == ["done", "failed", "failed", "done"]
    assert "expected a video that FFmpeg can decode" in rows["clip1"]["message"]
    assert "received clip2.mp4 without a mask; expected clip2.png" in rows["clip2"]["message"]
    assert f"line 2, clip1.mp4: {rows['clip1']['message']}" in done.stdout


def test_a_video_that_ends_early_keeps_what_was_tracked_and_says_so(
    run: Run, make_clips: MakeClips, options: list[object]
) -> None:
    clips = make_clips(60)
    video = clips / "clip0.mp4"
    whole = video.read_bytes()
    # Its index is at the end: behind the frames, which are cut out in the middle.
    video.write_bytes(whole.replace(whole[2000:2600], bytes(600)))
    run("batch", clips, "--out", "out", "--workers", 0, *options)
    row = read_table(Path("out"))["clip0"]
    assert int(row["frames"]) == len(list(Path("out/clip0/masks").iterdir()))


def test_lines_have_prompts_and_options_of_their_own(
    run: Run, make_clips: MakeClips, options: list[object], tiny_bundle: Bundle
) -> None:
    clips = make_clips(4)
    (clips / "p.csv").write_text("name,x,y\nnose,20,30\n")
    lines = [
        {"video": "clip0.mp4", "mask": "clip0.png", "frames": 2, "overlay": False},
        {"video": "clip0.mp4", "box": {"7": [10, 10, 30, 30]}, "coco": "coco.json"},
        {"video": "clip0.mp4", "points": "p.csv", "results": "points"},
    ]
    (clips / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    done = run("batch", clips / "list.jsonl", "--out", "out", "--workers", 0, *options)
    assert done.returncode == 0, done.stdout
    assert states(Path("out")) == {"clip0": "done", "clip0~2": "done", "points": "done"}
    assert set(read_results(Path("out/clip0"))) == {
        "masks/00000.png",
        "masks/00001.png",
        "objects.ndjson",
    }
    assert {
        a["category_id"]
        for a in json.loads(Path("out/clip0~2/coco.json").read_text())["annotations"]
    }
    assert len(Path("out/points/points.csv").read_text().splitlines()) == 5


def test_resume_does_again_what_has_changed_and_nothing_else(
    run: Run, make_clips: MakeClips, options: list[object]
) -> None:
    clips, out = make_clips(4, 4, 4, 4, 4), Path("out")
    arguments = ("batch", clips, "--out", out, "--workers", 0, *options)
    assert run(*arguments).returncode == 0
    before = times_of(out)
    done = run(*arguments, "--resume")
    assert "5 of 5 videos are done (5 of them before)" in done.stdout
    assert times_of(out) == before
    # Another video, another mask, and results that were touched.
    shutil.copy(clips / "clip0.mp4", clips / "clip1.mp4")
    write_label_png(clips / "clip2.png", np.eye(48, 64, dtype=np.uint8))
    (out / "clip3" / "masks" / "00002.png").unlink()
    done = run(*arguments, "--resume")
    assert "5 of 5 videos are done (2 of them before)" in done.stdout
    changed = (name for name, when in times_of(out).items() if before.get(name) != when)
    assert {Path(name).parts[1] for name in changed} == {"clip1", "clip2", "clip3"}
    assert read_results(out / "clip1") == read_results(out / "clip0")
    assert states(out) == {f"clip{number}": "done" for number in range(5)}
    done = run(*arguments, "--resume", "--frames", 2)
    assert "of them before" not in done.stdout
    assert {row["frames"] for row in read_table(out).values()} == {"2"}


def test_a_renamed_video_has_its_results_under_its_new_name_and_keeps_them(
    run: Run, make_clips: MakeClips, options: list[object]
) -> None:
    clips, out = make_clips(4, 5), Path("out")
    arguments = ("batch", clips, "--out", out, "--workers", 0, "--coco", "c.json", *options)
    assert run(*arguments).returncode == 0
    expected = read_results(out / "clip0")
    for suffix in (".mp4", ".png"):
        (clips / f"clip0{suffix}").rename(clips / f"new{suffix}")
    done = run(*arguments, "--resume")
    assert "2 of 2 videos are done (2 of them before)" in done.stdout
    assert states(out) == {"clip1": "done", "new": "done"}
    assert read_results(out / "new") == expected
    assert (out / "new" / "c.json").exists()
    # Another video takes the former name.
    for suffix in (".mp4", ".png"):
        shutil.copy(clips / f"clip1{suffix}", clips / f"clip0{suffix}")
    done = run(*arguments, "--resume")
    assert "3 of 3 videos are done (2 of them before)" in done.stdout
    assert read_results(out / "new") == expected
    assert read_results(out / "clip0") == read_results(out / "clip1") != expected
    done = run(*arguments, "--resume")
    assert "3 of 3 videos are done (3 of them before)" in done.stdout


def test_what_failed_is_tried_again_with_resume(
    run: Run, make_clips: MakeClips, options: list[object]
) -> None:
    clips = make_clips(4, 4)
    mask = (clips / "clip0.png").rename(clips.parent / "kept.png")
    arguments = ("batch", clips, "--out", "out", "--workers", 0, *options)
    assert run(*arguments).returncode == 1
    assert states(Path("out")) == {"clip0": "failed", "clip1": "done"}
    shutil.copy(mask, clips / "clip0.png")
    done = run(*arguments, "--resume")
    assert "2 of 2 videos are done (1 of them before)" in done.stdout
    assert states(Path("out")) == {"clip0": "done", "clip1": "done"}


def test_results_that_are_there_are_not_replaced_unasked(
    run: Run, refuse: Callable[..., str], make_clips: MakeClips, options: list[object]
) -> None:
    clips = make_clips(4)
    arguments = ("batch", clips, "--out", "out", "--workers", 0, *options)
    Path("out").mkdir()
    Path("out/results.csv").write_text("mine")
    assert "is not empty and holds no batch" in refuse(*arguments)
    assert "is not empty and holds no batch" in refuse(*arguments, "--overwrite")
    Path("out/results.csv").unlink()
    assert run(*arguments).returncode == 0
    before = times_of(Path("out"))
    assert "holds an earlier batch; pass --resume" in refuse(*arguments)
    assert "expected one of them" in refuse(*arguments, "--resume", "--overwrite")
    assert times_of(Path("out")) == before
    assert run(*arguments, "--overwrite").returncode == 0
    assert times_of(Path("out")).keys() == before.keys()
    assert not set(times_of(Path("out")).values()) & set(before.values())


def test_options_that_cannot_be_are_refused_at_once(
    run: Run, refuse: Callable[..., str], make_clips: MakeClips
) -> None:
    clips = make_clips(4)
    assert "no model 'none'" in refuse("batch", clips, "--model", "none")
    for wrong in (
        ("--size", 256, "--fast"),
        ("--coco", "/tmp/coco.json"),
        ("--workers", 1, "--ray", "auto"),
    ):
        assert run("batch", clips, *wrong).returncode == 2
    assert not Path("vcedge-out").exists()


def test_a_tracker_that_cannot_be_opened_is_told_before_anything_is_tracked(
    refuse: Callable[..., str], make_clips: MakeClips, options: list[object]
) -> None:
    arguments = ("--out", "out", "--workers", 1, "--cuda-graphs", *options)
    assert "cannot be opened" in refuse("batch", make_clips(4), *arguments)
    # Nothing is there that would be in the way of another try.
    assert not Path("out/results.csv").exists()
    assert "cannot be opened" in refuse("batch", "clips", *arguments)


def children_of(process: Popen[str]) -> list[int]:
    """Processes of a crew: those that are spawned, but for multiprocessing's own."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            words = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == process.pid and b"spawn_main" in words:
            found.append(int(folder.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="/proc tells of processes")
def test_a_worker_that_is_killed_costs_its_video_one_more_try(
    launch: Launch, make_clips: MakeClips, options: list[object], tmp_path: Path
) -> None:
    clips, out = make_clips(100, 4), tmp_path / "out"
    process = launch("batch", clips, "--out", out, "--workers", 1, *options)
    wait_for(lambda: len(list(out.glob("*/masks/*.png"))) > 5)
    (worker,) = children_of(process)
    os.kill(worker, signal.SIGKILL)
    said, error = process.communicate(timeout=240)
    assert (process.returncode, error) == (0, "")
    assert "2 of 2 videos are done" in said
    assert [row["frames"] for row in read_table(out).values()] == ["100", "4"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="/proc tells of processes")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_broken_off_is_finished_by_resume(
    run: Run, launch: Launch, make_clips: MakeClips, options: list[object], number: int
) -> None:
    clips, out = make_clips(4, 90), Path("out").absolute()
    (clips / "clip2.mp4").write_bytes(b"no video")
    options = [*options, "--no-log"]
    arguments = ("batch", clips, "--out", out, "--workers", 1, *options)
    process = launch(*arguments)
    wait_for(lambda: len(list(out.glob("clip1/masks/*.png"))) > 5)
    workers = children_of(process)
    process.send_signal(number)
    said, error = process.communicate(timeout=240)
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    if number == signal.SIGKILL:
        assert process.returncode == -number
        assert states(out) == {"clip0": "done"}
    else:
        assert process.returncode == 128 + number
        assert error.strip().count("\n") == 0
        assert states(out) == {"clip0": "done", "clip1": "stopped"}
        assert "1 of 3 videos are done; 2 are left: run it again with --resume" in said
        # What was tracked before is whole.
        assert len(read_results(out / "clip1")) > 6
        assert (out / "clip1" / "overlay.mp4").exists()
    before = times_of(out)
    done = run(*arguments, "--resume")
    assert done.returncode == 1
    assert "2 of 3 videos are done (1 of them before); 1 failed" in done.stdout
    assert states(out) == {"clip0": "done", "clip1": "done", "clip2": "failed"}
    kept = {name: when for name, when in before.items() if "/clip0/" in name}
    assert kept == {name: when for name, when in times_of(out).items() if "/clip0/" in name}
    (clips / "clip2.mp4").unlink()
    expected = track_each(run, clips, options)
    assert {name: read_results(out / name) for name in expected} == expected
