"""What ends a command in the middle, or stands in its way: nothing that was written is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.predictors.finite import NotFiniteError
from vcedge_runtime.predictors.labels import LabelPredictor
from vcedge_runtime.video.outputs import RECORD_NAME
from vcedge_runtime.video.palette import read_label_png
from vcedge_runtime.video.sources import open_source

Run = Callable[..., CompletedProcess[str]]
Refuse = Callable[..., str]
Launch = Callable[..., Popen[str]]
Shell = Callable[..., CompletedProcess[bytes]]
MakeClip = Callable[..., Any]
"""Makes a ``Clip`` of this folder's conftest, whose ``arguments`` track it."""
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


def read_log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "objects.ndjson").read_text().splitlines()]


def count_overlay(out: Path) -> int:
    with open_source(out / "overlay.mp4") as video:
        return len(list(video))


def read_refusal(done: CompletedProcess[bytes]) -> str:
    """What a command in a shell that failed said, in one line."""
    assert done.returncode == 2, done
    assert b"Traceback" not in done.stderr + done.stdout
    [line] = [line for line in done.stderr.decode().splitlines() if line.startswith("vcedge: ")]
    return line


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {RECORD_NAME}


def wait_for_masks(process: Popen[str], out: Path, count: int = 3) -> None:
    give_up = time.monotonic() + 120
    while len(list(out.glob("masks/[0-9]*.png"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_run_like_ctrl_c(
    launch: Launch, make_clip: MakeClip, tmp_path: Path, name: str
) -> None:
    clip, out = make_clip("long.avi", frames=3000), tmp_path / "out"
    process = launch(*clip.arguments, "--out", out, before=SLOWLY)
    wait_for_masks(process, out)
    # The log is there to be followed, a line a frame.
    assert len(read_log(out)) >= 2
    number = getattr(signal, name)
    for _ in range(2):  # a terminal that closes says so twice
        process.send_signal(number)
    _, error = process.communicate(timeout=120)
    assert (process.returncode, error.strip()) == (128 + number, f"vcedge: stopped by {name}")
    assert names_in(out) == {"masks", "overlay.mp4", "objects.ndjson"}
    masks = names_in(out / "masks")
    assert len(masks) == len(read_log(out)) == count_overlay(out) >= 3


@pytest.mark.slow
def test_a_run_under_nohup_does_not_hear_that_the_terminal_closes(
    launch: Launch, make_clip: MakeClip, tmp_path: Path
) -> None:
    clip, out = make_clip("long.avi", frames=60), tmp_path / "out"
    ignored = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    process = launch(*clip.arguments, "--out", out, before=ignored + SLOWLY)
    wait_for_masks(process, out)
    process.send_signal(signal.SIGHUP)
    _, error = process.communicate(timeout=120)
    assert (process.returncode, error) == (0, "")
    assert len(read_log(out)) == 60


@pytest.mark.slow
def test_a_second_run_on_the_same_output_is_refused(
    launch: Launch, refuse: Refuse, make_clip: MakeClip, tmp_path: Path
) -> None:
    clip, out = make_clip("long.avi", frames=3000), tmp_path / "out"
    first = launch(*clip.arguments, "--out", out, before=SLOWLY)
    wait_for_masks(first, out)
    for options in ([], ["--overwrite"]):
        line = refuse(*clip.arguments, "--out", out, *options)
        assert f"received {out}, which another process is writing to" in line
    assert first.poll() is None
    first.kill()
    first.communicate()


@pytest.mark.slow
def test_a_run_that_was_killed_leaves_whole_masks_and_lines_and_no_lock(
    launch: Launch, run: Run, make_clip: MakeClip, tmp_path: Path
) -> None:
    clip, out = make_clip("long.avi", frames=3000), tmp_path / "out"
    killed = launch(*clip.arguments, "--out", out, before=SLOWLY)
    wait_for_masks(killed, out)
    killed.kill()
    killed.communicate()
    masks = [read_label_png(path) for path in out.glob("masks/[0-9]*.png")]
    assert len(masks) - len(read_log(out)) in (0, 1)
    assert not (out / "overlay.mp4").exists()
    done = run(*clip.arguments, "--out", out, "--frames", 2, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert names_in(out) == {"masks", "overlay.mp4", "objects.ndjson"}
    assert names_in(out / "masks") == {"00000.png", "00001.png"}


def test_standard_output_on_a_full_disk_is_one_line_and_the_results_are_whole(
    shell: Shell, make_clip: MakeClip, tmp_path: Path
) -> None:
    if not Path("/dev/full").is_char_device():
        pytest.skip("the system has no /dev/full")
    words = " ".join(map(str, make_clip(frames=4).arguments))
    line = read_refusal(shell(f"vcedge {words} --out out > /dev/full"))
    assert line.startswith("vcedge: standard output cannot be written (No space left on device)")
    out = tmp_path / "out"
    assert names_in(out) == {"masks", "overlay.mp4", "objects.ndjson"}
    assert len(read_log(out)) == count_overlay(out) == 4


@pytest.mark.parametrize("command", ["doctor", "models", "--help", "track --help"])
def test_every_command_tells_of_a_full_standard_output_in_one_line(
    shell: Shell, command: str
) -> None:
    if not Path("/dev/full").is_char_device():
        pytest.skip("the system has no /dev/full")
    assert "standard output cannot be written" in read_refusal(
        shell(f"vcedge {command} >/dev/full")
    )
    # Where nobody hears what went wrong, the exit code tells it all the same, whether Python holds
    # back what is written or not.
    for environment in ("-u PYTHONUNBUFFERED", "PYTHONUNBUFFERED=1"):
        told = shell(f"env {environment} vcedge {command} >/dev/full 2>/dev/full")
        assert told.returncode == 2


@pytest.mark.parametrize("command", ["demo --frames 3", "models", "track a.mp4 --mask b.png"])
def test_a_working_directory_that_is_gone_is_one_line(shell: Shell, command: str) -> None:
    line = read_refusal(shell(f"mkdir gone; cd gone; rmdir ../gone; vcedge {command}"))
    assert line.endswith("a working directory that was deleted; change to another and run again")


@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C", "PYTHONUTF8": "0"}], ids=["utf8", "C"])
@pytest.mark.parametrize("name", ["caf\udce9", "café", "12:30:05", "line\nbreak", "%05d", "a*[b]?"])
def test_a_name_of_any_kind_is_read_and_written(
    shell: Shell,
    make_clip: MakeClip,
    tmp_path: Path,
    name: str,
    locale: dict[str, str],
) -> None:
    clip = make_clip("clip.mp4", frames=3)
    clip.source.rename(tmp_path / f"{name}.mp4")
    options = f"--mask {clip.mask} --model {clip.model} --backend cpu --out '{name}'"
    done = shell(f"vcedge track '{name}.mp4' {options}", **locale)
    assert done.returncode == 0, done
    # Names are printed as the bytes that they are, so that they can be copied.
    assert os.fsencode(f"wrote {name}/overlay.mp4") in done.stdout
    out = tmp_path / name
    assert len(read_log(out)) == count_overlay(out) == len(names_in(out / "masks")) == 3


def test_a_name_as_long_as_the_disk_takes_gives_masks_of_that_name(
    run: Run, make_clip: MakeClip
) -> None:
    clip = make_clip(frames=3)
    for path in sorted(clip.source.iterdir()):
        path.rename(clip.source / (245 * "x" + path.name.removeprefix("shot").rjust(10, "0")))
    assert run(*clip.arguments, "--out", OUT).returncode == 0
    assert {len(name) for name in names_in(OUT / "masks")} == {255}


def test_an_input_in_the_output_folder_is_refused_before_anything_is_removed(
    run: Run, refuse: Refuse, make_clip: MakeClip
) -> None:
    clip = make_clip("clip.mp4", frames=3)
    assert run(*clip.arguments, "--out", OUT).returncode == 0
    before = {path: path.read_bytes() for path in OUT.rglob("*") if path.is_file()}
    Path("link.mp4").symlink_to(OUT / "overlay.mp4")
    for source, mask in (
        (OUT / "overlay.mp4", clip.mask),
        ("link.mp4", clip.mask),
        (OUT / "masks", clip.mask),
        (OUT / "masks" / "*.png", clip.mask),
        (clip.source, OUT / "masks" / "00000.png"),
    ):
        options = ["--mask", mask, "--out", OUT, "--overwrite"]
        assert "of the output folder out; choose another" in refuse("track", source, *options)
    assert before == {path: path.read_bytes() for path in OUT.rglob("*") if path.is_file()}


def test_overwrite_keeps_a_label_of_the_users_own(run: Run, make_clip: MakeClip) -> None:
    clip = make_clip(frames=4)
    (OUT / "masks").mkdir(parents=True)
    for name in ("masks/my_label.png", "first.png"):
        shutil.copy(clip.mask, OUT / name)
    for frames in (4, 2):
        done = run(*clip.arguments, "--out", OUT, "--overwrite", "--frames", frames)
        assert done.returncode == 0
        assert f"wrote out/masks ({frames} PNG, " in done.stdout
    assert names_in(OUT / "masks") == {"my_label.png", "shot8.png", "shot9.png"}
    assert (OUT / "first.png").read_bytes() == clip.mask.read_bytes()


def lose_frames(monkeypatch: pytest.MonkeyPatch, lost: set[int]) -> None:
    """Let a model give nothing in some frames, by their number from 1."""
    step, numbers = LabelPredictor.step, iter(range(1, 100))

    def fail(predictor: LabelPredictor, image: NDArray[np.float32], timings: Any) -> None:
        if next(numbers) in lost:
            raise NotFiniteError("received keys that are not finite")
        step(predictor, image, timings)

    monkeypatch.setattr(LabelPredictor, "step", fail)


def test_frames_that_the_model_gave_nothing_of_are_told(
    run: Run, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_frames(monkeypatch, {2, 3})
    done = run(*make_clip(frames=5).arguments, "--out", OUT)
    assert done.returncode == 0
    assert (
        "2 frames keep the mask of the one before: the model gave numbers that are" in done.stdout
    )
    assert [line.get("held", False) for line in read_log(OUT)] == [False, False, True, True, False]
    by_name = {path.stem: read_label_png(path) for path in (OUT / "masks").iterdir()}
    for name in ("shot10", "shot11"):
        np.testing.assert_array_equal(by_name[name], by_name["shot9"])
    assert len(by_name) == 5


def test_where_nothing_was_tracked_the_exit_code_says_so(
    run: Run, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_frames(monkeypatch, set(range(1, 100)))
    done = run(*make_clip(frames=5).arguments, "--out", OUT)
    assert done.returncode == 2
    assert "nothing was tracked" in done.stderr
    assert "4 frames keep the mask" in done.stdout
    assert len(read_log(OUT)) == 5


def test_a_bundle_is_not_replaced_where_its_folder_holds_something_else(
    refuse: Refuse, tiny_bundle: Bundle, truth: tuple[object, ...], tmp_path: Path
) -> None:
    pytest.importorskip("onnx", reason="it rewrites graphs")
    folder = Path(shutil.copytree(tiny_bundle.folder, tmp_path / "bundle"))
    (folder / "first.png").write_text("mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    options = ["--fp16", "--out", folder, "--overwrite"]
    line = refuse("export", tiny_bundle.folder, *options, *truth)
    assert "which holds first.png, which vcedge did not write" in line
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert names_in(tmp_path) >= {"bundle"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_ends_an_export_without_a_half_bundle(
    launch: Launch, refuse: Refuse, tiny_bundle: Bundle, tmp_path: Path, name: str
) -> None:
    pytest.importorskip("onnx", reason="it rewrites graphs")
    folder = tmp_path / "bundles" / "half"
    arguments = ["export", tiny_bundle.folder, "--fp16", "--frames", 300, "--out", folder]
    process = launch(*arguments)
    give_up = time.monotonic() + 120
    while not list(tmp_path.glob("bundles/.half.*.part/*.onnx")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up
        time.sleep(0.01)
    assert "which another process is writing to" in refuse(*arguments)
    number = getattr(signal, name)
    process.send_signal(number)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert error.strip().startswith("vcedge: ")
    assert not list(folder.parent.iterdir())


@pytest.mark.parametrize("name", ["null", "full"])
def test_a_table_may_go_to_a_device(run: Run, make_clip: MakeClip, name: str) -> None:
    device = Path("/dev") / name
    if not device.is_char_device():
        pytest.skip(f"the system has no {device}")
    clip = make_clip(frames=3)
    assert run(*clip.arguments, "--out", "pred/clip").returncode == 0
    shutil.copytree("pred/clip/masks", "gt/clip")
    shutil.copytree("pred/clip/masks", "found/clip")
    done = run("eval", "davis", "--gt", "gt", "--pred", "found", "--csv", device)
    assert done.returncode == (0 if name == "null" else 2), done
    assert ("No space left" in done.stderr) == (name == "full")
    assert device.is_char_device()
