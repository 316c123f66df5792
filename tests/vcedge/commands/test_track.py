"""``vcedge track`` on good input: what it writes, what it says, and what Ctrl-C leaves."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import Any

import click
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge.cli import app
from vcedge.commands import track
from vcedge.commands.track_files import default_output
from vcedge_runtime.memory.dynamic import DynamicPolicy
from vcedge_runtime.model.bundle import DEFAULT_LABEL_MODEL, DEFAULT_MODEL, Bundle, shipped_models
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.opencv import quiet_opencv
from vcedge_runtime.video.outputs import RECORD_NAME
from vcedge_runtime.video.palette import davis_palette, read_label_png, write_label_png

Labels = NDArray[np.uint8]
Run = Callable[..., CompletedProcess[str]]
MakeClip = Callable[..., Any]
"""Makes a ``Clip`` of this folder's conftest, whose ``arguments`` track it."""


def names_in(folder: Path) -> set[str]:
    """What a folder holds, but for the run's record of it."""
    return {path.name for path in folder.iterdir()} - {RECORD_NAME}


def read_masks(out: Path) -> dict[str, Labels]:
    return {path.stem: read_label_png(path) for path in sorted((out / "masks").glob("*.png"))}


def read_log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "objects.ndjson").read_text().splitlines()]


def read_overlay(out: Path) -> Sequence[NDArray[np.generic]]:
    with quiet_opencv():
        capture = cv2.VideoCapture(str(out / "overlay.mp4"))
        assert capture.isOpened()
        frames = []
        while (read := capture.read())[0]:
            frames.append(read[1])
        capture.release()
    return frames


def test_a_folder_of_images_gives_masks_with_their_names_an_overlay_and_a_log(
    run: Run, make_clip: MakeClip
) -> None:
    clip = make_clip(frames=5)
    done = run(*clip.arguments)
    assert (done.returncode, done.stderr) == (0, "")
    out = Path("vcedge-out/clip")
    assert names_in(out) == {"masks", "overlay.mp4", "objects.ndjson"}
    # As people count: shot8 comes before shot10.
    expected = [f"shot{number}" for number in range(8, 13)]
    assert names_in(out / "masks") == {f"{name}.png" for name in expected}
    assert [(line["frame"], line["name"]) for line in read_log(out)] == list(enumerate(expected))


def test_masks_are_palette_pngs_and_the_first_is_the_given_one(
    run: Run, make_clip: MakeClip
) -> None:
    pillow = pytest.importorskip("PIL.Image")
    clip = make_clip()
    assert run(*clip.arguments, "--out", "out").returncode == 0
    with pillow.open("out/masks/shot8.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), clip.labels)
        np.testing.assert_array_equal(np.reshape(image.getpalette(), (-1, 3)), davis_palette())
    for mask in read_masks(Path("out")).values():
        assert set(np.unique(mask)) <= {0, 3, 200}  # a random model may lose one, never invent one


def check_masks(clip: Any, model: Any, frames: int, size: int | None = None, **parts: Any) -> None:
    """Compare what a command wrote to ``out`` with what a tracker gives in a program."""
    found = read_masks(Path("out"))
    with Tracker.open(model, size=size, threads=1, overrides=parts) as tracker:
        for number in range(8, 8 + frames):
            image = np.asarray(cv2.imread(str(clip.source / f"shot{number}.png")), np.uint8)
            if number == 8:
                tracker.start(image, clip.labels)
            else:
                np.testing.assert_array_equal(found[f"shot{number}"], tracker.step(image).mask)


def test_the_masks_are_what_a_tracker_gives_in_a_program(run: Run, make_clip: MakeClip) -> None:
    clip = make_clip()
    assert run(*clip.arguments, "--size", 48, "--out", "out").returncode == 0
    check_masks(clip, clip.model, 5, size=48)


def test_a_glob_takes_the_images_that_it_matches(run: Run, make_clip: MakeClip) -> None:
    clip = make_clip(frames=5)
    _, _, *others = clip.arguments
    assert run("track", clip.source / "shot1[01].png", *others, "--out", "out").returncode == 0
    assert set(read_masks(Path("out"))) == {"shot10", "shot11"}


def test_a_video_file_gives_masks_with_five_digits(run: Run, make_clip: MakeClip) -> None:
    clip = make_clip("clip.mp4", frames=6)
    assert run(*clip.arguments).returncode == 0
    assert list(read_masks(Path("vcedge-out/clip"))) == [f"{index:05d}" for index in range(6)]
    assert len(read_overlay(Path("vcedge-out/clip"))) == 6


@pytest.mark.parametrize("frame_hw", [(48, 64), (47, 65), (81, 46)])
def test_results_have_the_frames_own_size_odd_or_portrait(
    run: Run, make_clip: MakeClip, frame_hw: tuple[int, int]
) -> None:
    clip = make_clip(frames=4, frame_hw=frame_hw)
    assert run(*clip.arguments, "--out", "out").returncode == 0
    assert {mask.shape for mask in read_masks(Path("out")).values()} == {frame_hw}
    overlay = read_overlay(Path("out"))
    assert len(overlay) == 4
    height, width = frame_hw
    # A video of this codec has even sides; the last row or column is repeated.
    assert overlay[0].shape == (height + height % 2, width + width % 2, 3)
    sizes = [tuple(o["rle"]["size"]) for line in read_log(Path("out")) for o in line["objects"]]
    assert set(sizes) == {frame_hw}


def test_the_overlay_tints_the_objects_and_leaves_the_background(
    run: Run, make_clip: MakeClip
) -> None:
    clip = make_clip(frames=2, frame_hw=(96, 128), ids=(1,))
    assert run(*clip.arguments, "--out", "out").returncode == 0
    image = cv2.imread(str(clip.source / "shot8.png"))
    assert image is not None
    change = np.abs(read_overlay(Path("out"))[0].astype(int) - image).mean(axis=2)
    # Half the object's colour is far from what MPEG-4 changes in a smooth texture.
    assert change[clip.labels == 1].mean() > 20
    ground = cv2.dilate(clip.labels, np.ones((17, 17))) == 0
    ground[: np.nonzero(clip.labels)[0].min()] = False  # id and score stand above the object
    assert change[ground].mean() < 8


# pycocotools' decoder lags behind NumPy 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_log_describes_every_object_and_its_rle_is_its_mask(
    run: Run, make_clip: MakeClip
) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    assert run(*make_clip().arguments, "--out", "out").returncode == 0
    masks = read_masks(Path("out"))
    for line in read_log(Path("out")):
        mask = masks[line["name"]]
        assert [each["id"] for each in line["objects"]] == [i for i in (3, 200) if i in mask]
        for each in line["objects"]:
            inside = mask == each["id"]
            np.testing.assert_array_equal(coco.decode(each["rle"]), inside)
            assert each["area"] == inside.sum()
            assert each["box"] == coco.toBbox(each["rle"]).tolist()
            rows, columns = np.nonzero(inside)
            assert each["centroid"] == pytest.approx([columns.mean(), rows.mean()], abs=0.01)
            assert 0 <= each["score"] <= 1


POINTS = "name,x,y\nnose,20,24\ntail,40.5,20\n"


def test_points_give_a_table_and_an_overlay(run: Run, make_clip: MakeClip) -> None:
    clip = make_clip(frames=4)
    Path("joints.csv").write_text(POINTS)
    model = ("--model", clip.model, "--threads", 1, "--backend", "cpu", "--out", "out")
    done = run("track", clip.source, "--points", "joints.csv", *model)
    assert (done.returncode, done.stderr) == (0, "")
    assert names_in(Path("out")) == {"overlay.mp4", "points.csv"}
    rows = [line.split(",") for line in Path("out/points.csv").read_text().splitlines()]
    assert rows[0] == ["frame", "name", "x", "y", "visible", "score"]
    assert [row[:2] for row in rows[1:]] == [
        [str(f), n] for f in range(4) for n in ("nose", "tail")
    ]
    assert rows[1][2:] == ["20.00", "24.00", "1", "1.0000"]
    assert len(read_overlay(Path("out"))) == 4
    assert "tracked 2 points through 4 frames" in done.stdout
    again = run("track", clip.source, "--points", "joints.csv", *model, "--overwrite", "--no-log")
    assert again.returncode == 0
    assert names_in(Path("out")) == {"overlay.mp4"}


@pytest.mark.skipif(DEFAULT_MODEL not in shipped_models(), reason="no model is shipped here")
def test_masks_and_points_each_open_a_model_that_follows_them(
    run: Run, make_clip: MakeClip
) -> None:
    clip, small = make_clip(frames=2), ("--size", 96, "--backend", "cpu", "--no-overlay")
    Path("joints.csv").write_text(POINTS)
    for given, model in (
        (("--mask", clip.mask), DEFAULT_MODEL),
        (("--points", "joints.csv"), DEFAULT_LABEL_MODEL),
    ):
        done = run("track", clip.source, *given, *small, "--out", model)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"next: vcedge bench {model}" in done.stdout


def test_a_model_that_cannot_follow_points_says_which_can(
    refuse: Callable[..., str], make_clip: MakeClip
) -> None:
    clip = make_clip(frames=2)
    Path("joints.csv").write_text(POINTS)
    given = ("--points", "joints.csv", "--model", DEFAULT_MODEL, "--threads", 1)
    line = refuse("track", clip.source, *given)
    assert "follows masks alone; open a model that propagates labels, such as mer-lite" in line
    assert not Path("vcedge-out").exists()


def test_motion_and_values_can_be_switched_off(
    run: Run, make_clip: MakeClip, mer_bundle: Bundle
) -> None:
    clip = make_clip(frames=3)
    options = ("--model", mer_bundle.folder, "--no-motion", "--no-values", "--out", "out")
    assert run(*clip.arguments, *options).returncode == 0
    check_masks(clip, mer_bundle.folder, 3, motion=False, value_extraction=False)


def test_parts_of_the_model_can_be_exchanged(run: Run, make_clip: MakeClip) -> None:
    clip = make_clip(frames=4)
    parts = ("--memory", "dynamic:short=2", "--sampler", "clusters", "--fusion", "vote")
    assert run(*clip.arguments, *parts, "--out", "out").returncode == 0
    given = {"memory": DynamicPolicy(short=2), "sampler": "clusters", "fusion": "vote"}
    check_masks(clip, clip.model, 4, **given)


def test_frames_stops_early(run: Run, make_clip: MakeClip) -> None:
    done = run(*make_clip("clip.mp4", frames=9).arguments, "--frames", 3, "--out", "out")
    assert done.returncode == 0
    assert len(read_masks(Path("out"))) == len(read_log(Path("out"))) == 3
    assert "through 3 frames" in done.stdout


@pytest.mark.parametrize(
    ("option", "left"),
    [
        ("--no-masks", {"overlay.mp4", "objects.ndjson"}),
        ("--no-overlay", {"masks", "objects.ndjson"}),
        ("--no-log", {"masks", "overlay.mp4"}),
    ],
)
def test_each_output_can_be_left_out(
    run: Run, make_clip: MakeClip, option: str, left: set[str]
) -> None:
    done = run(*make_clip(frames=2).arguments, "--out", "out", option)
    assert done.returncode == 0
    assert names_in(Path("out")) == left
    assert set(re.findall(r"wrote out/(\S+)", done.stdout)) == left


def test_the_summary_says_what_was_tracked_how_fast_and_what_was_written(
    run: Run, make_clip: MakeClip
) -> None:
    lines = run(*make_clip(frames=5).arguments, "--out", "out").stdout.splitlines()
    summary = r"tracked 2 objects through 5 frames of 64x48 in [\d.]+ s: [\d.]+ frames/s, memory "
    assert re.match(summary, lines[-8])
    assert lines[-7].startswith("what the model drew (its own belief")
    assert re.fullmatch(r"  object 3: seen in all 5 frames; lowest score 0\.\d\d, in \d", lines[-6])
    assert lines[-5].startswith("  object 200: seen in ")
    assert re.fullmatch(r"wrote out/masks \(5 PNG, [\d.]+ MB\)", lines[-4])
    assert re.fullmatch(r"wrote out/overlay\.mp4 \([\d.]+ MB\)", lines[-3])
    assert re.fullmatch(r"wrote out/objects\.ndjson \([\d.]+ MB\)", lines[-2])
    assert any("5/5" in line for line in lines[:-8])  # the bar


def test_the_next_command_can_be_typed_as_it_stands(
    run: Run, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    clip = make_clip("a [bold] clip", frames=7)
    *_, last = run(*clip.arguments, "--out", "out").stdout.splitlines()
    paths = ["--source", str(clip.source), "--mask", str(clip.mask)]
    paths += ["--threads", "1", "--backend", "cpu"]
    assert shlex.split(last) == ["next:", "vcedge", "bench", str(clip.model), *paths]


def test_the_next_command_repeats_the_options_that_it_takes(run: Run, make_clip: MakeClip) -> None:
    clip = make_clip(frames=7)
    shared = ["--memory", "dynamic:short=2,long=1", "--no-edges"]
    own = ["--size", "48", "--frames", "7", "--no-overlay", "--out", "out"]
    done = run(*clip.arguments, *shared, *own)
    assert done.returncode == 0
    words = shlex.split(done.stdout.splitlines()[-1].removeprefix("next: vcedge "))
    again = ["--sizes", "48", "--threads", "1", "--backend", "cpu", *shared]
    assert words == [
        *("bench", str(clip.model), "--source", str(clip.source), "--mask", str(clip.mask)),
        *again,
    ]
    bench = app.get_command(click.Context(app), "bench")
    assert bench is not None
    given = bench.make_context("bench", words[1:]).params
    assert given["memory"] is not None
    assert given["edges"] is False


def test_a_password_stands_in_no_line(
    run: Run, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip("clip.mp4", frames=7)
    opened = track.open_source
    monkeypatch.setattr(track, "open_source", lambda source, **_: opened(clip.source))
    source = "https://user:secret@host/clip.mp4"
    done = run("track", source, *clip.arguments[2:])
    assert done.returncode == 0
    assert "secret" not in done.stdout + done.stderr
    assert "--source https://host/clip.mp4" in done.stdout


def test_an_object_that_is_lost_at_once_is_told_with_the_mend(
    run: Run, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Tracker.step

    def lose(tracker: Tracker, frame: NDArray[np.uint8]) -> Any:
        result = step(tracker, frame)
        return replace(result, scores={**result.scores, 200: 0.0})

    monkeypatch.setattr(Tracker, "step", lose)
    done = run(*make_clip(frames=4).arguments)
    assert done.returncode == 0
    lost = [line for line in done.stdout.splitlines() if "object 200" in line]
    assert lost[0].startswith("object 200 is lost at once, in frame 1: ")
    assert lost[0].endswith("choose a larger --size")
    assert lost[1] == "  object 200: seen in 1 of 4 frames, lost in 1 and not found again"


def test_a_mask_of_a_few_pixels_is_told_before_it_is_lost(run: Run, make_clip: MakeClip) -> None:
    clip = make_clip(frames=3)
    assert "the model looks at" not in run(*clip.arguments, "--out", "large").stdout
    labels = clip.labels.copy()
    labels[1:3, 1:4] = 9
    write_label_png(clip.mask, labels)
    told = run(*clip.arguments, "--out", "small").stdout
    # A cell of 8x8 in 64x88 is one of 35 pixels in 48x64.
    assert "object 9 covers 6 pixels, and the model looks at cells of 35 at working size 64" in told
    assert "object 3 covers" not in told
    labels[1:3, 10:60:2] = range(10, 35)
    write_label_png(clip.mask, labels)
    told = run(*clip.arguments, "--out", "many").stdout
    assert told.count("covers") == 3
    assert "object 11 covers 2 pixels and 23 more such objects, and the model looks at" in told


def test_fast_takes_a_smaller_working_size_and_accurate_the_models_own(
    run: Run, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    start = Tracker.start

    def note(tracker: Tracker, *arguments: Any) -> None:
        sizes.append(tracker.size)
        start(tracker, *arguments)

    monkeypatch.setattr(Tracker, "start", note)
    clip = make_clip(frames=2)
    for option in ("--fast", "--accurate"):
        assert run(*clip.arguments, option, "--out", option[2:]).returncode == 0
    assert sizes == [34, 64]


def test_paths_are_printed_whole_whatever_they_hold(
    run: Run, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    out = "out [/b] " + 50 * "x"
    lines = run(*make_clip(frames=2).arguments, "--out", out).stdout.splitlines()
    assert any(line.startswith(f"wrote {out}/overlay.mp4 (") for line in lines)


def test_overwrite_replaces_the_results_and_keeps_foreign_files(
    run: Run, make_clip: MakeClip
) -> None:
    clip = make_clip(frames=5)
    assert run(*clip.arguments, "--out", "out").returncode == 0
    Path("out/notes.txt").write_text("mine")
    Path("out/masks/notes.txt").write_text("mine")
    done = run(*clip.arguments, "--out", "out", "--frames", 2, "--no-overlay", "--overwrite")
    assert done.returncode == 0
    assert names_in(Path("out")) == {"masks", "objects.ndjson", "notes.txt"}
    assert names_in(Path("out/masks")) == {"shot8.png", "shot9.png", "notes.txt"}
    assert "notes" not in done.stdout
    assert "2 PNG" in done.stdout


def test_binarize_reads_a_coloured_mask_as_one_object(run: Run, make_clip: MakeClip) -> None:
    clip = make_clip(frames=3)
    colours = np.where(clip.labels[..., None] > 0, (40, 90, 250), 0).astype(np.uint8)
    cv2.imwrite(str(clip.mask), cv2.GaussianBlur(colours, (3, 3), 0))
    done = run(*clip.arguments, "--binarize", "--out", "out")
    assert done.returncode == 0
    assert "tracked 1 object through" in done.stdout
    first = read_masks(Path("out"))["shot8"]
    # The blur moves the edge by a pixel at most, and the corners of two bars of 12 x 24 pixels.
    assert np.mean(first == (clip.labels > 0)) > 0.95
    assert (
        done.stdout.splitlines()[-1] == f"next: vcedge bench {clip.model} --threads 1 --backend cpu"
    )


def test_resize_mask_brings_a_mask_of_another_size_to_the_frames(
    run: Run, make_clip: MakeClip
) -> None:
    clip = make_clip(frames=3)
    write_label_png(clip.mask, np.kron(clip.labels, np.ones((2, 2), np.uint8)))
    done = run(*clip.arguments, "--resize-mask", "--out", "out")
    assert (done.returncode, "is stretched" in done.stdout) == (0, False)
    np.testing.assert_array_equal(read_masks(Path("out"))["shot8"], clip.labels)


def test_a_mask_of_another_shape_is_stretched_and_that_is_told(
    run: Run, make_clip: MakeClip
) -> None:
    clip = make_clip(frames=3)
    write_label_png(clip.mask, np.repeat(clip.labels, 2, axis=0))
    done = run(*clip.arguments, "--resize-mask", "--out", "out")
    assert done.returncode == 0
    height, width = clip.labels.shape
    told = f"{2 * height}x{width} (height x width) is stretched to the frame's {height}x{width}"
    assert told in done.stdout
    np.testing.assert_array_equal(read_masks(Path("out"))["shot8"], clip.labels)


def test_a_bundle_that_is_not_verified_is_told_and_tracks(
    run: Run, make_clip: MakeClip, tmp_path: Path
) -> None:
    clip = make_clip(frames=2)
    folder = tmp_path / "a [red] bundle"
    shutil.copytree(clip.model, folder)
    replace(Bundle.open(clip.model), folder=folder, verification={"passes": False}).save()
    done = run("track", clip.source, "--mask", clip.mask, "--model", folder)
    assert done.returncode == 0
    assert f"{folder} is not verified" in done.stdout


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        ("videos/a clip.mp4", "a_clip"),
        ("frames/", "frames"),
        ("frames/*.jpg", "track"),
        ("0", "0"),
        ("rtsp://user:secret@camera/live", "live"),
        ("rtsp://user:secret@camera", "camera"),
        ("../..", "track"),
        (".hidden.mp4", "hidden"),
    ],
)
def test_the_default_folder_is_named_after_the_source(source: str, folder: str) -> None:
    assert default_output(source) == Path("vcedge-out") / folder


def test_an_interruption_keeps_every_mask_and_finishes_overlay_and_log(
    run: Run, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, calls = Tracker.step, iter(range(100))

    def interrupted(tracker: Tracker, frame: NDArray[np.uint8]) -> Any:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return step(tracker, frame)

    monkeypatch.setattr(Tracker, "step", interrupted)
    done = run(*make_clip("clip.mp4", frames=9).arguments, "--out", "out")
    assert done.returncode == 130
    assert done.stderr.strip() == "vcedge: interrupted"
    assert names_in(Path("out")) == {"masks", "overlay.mp4", "objects.ndjson"}
    assert len(read_masks(Path("out"))) == len(read_log(Path("out"))) == 3
    assert len(read_overlay(Path("out"))) == 3
    assert "through 3 frames" in done.stdout
    assert "next:" not in done.stdout


def test_an_interruption_before_the_first_frame_leaves_no_file(
    run: Run, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Tracker, "start", interrupted)
    done = run(*make_clip("clip.mp4", frames=3).arguments, "--out", "out")
    assert (done.returncode, done.stderr.strip()) == (130, "vcedge: interrupted")
    assert "tracked" not in done.stdout
    assert not [path for path in Path("out").rglob("*") if path.is_file()]


@pytest.mark.slow
def test_ctrl_c_stops_a_real_run_and_leaves_whole_files(
    launch: Callable[..., Popen[str]], make_clip: MakeClip, tmp_path: Path
) -> None:
    clip, out = make_clip("long.avi", frames=3000), tmp_path / "out"
    process = launch(*clip.arguments, "--out", out)
    give_up = time.monotonic() + 120
    while len(list(out.glob("masks/[0-9]*.png"))) < 3 and time.monotonic() < give_up:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert error.strip() == "vcedge: interrupted"
    assert names_in(out) == {"masks", "overlay.mp4", "objects.ndjson"}
    masks, log = read_masks(out), read_log(out)
    assert 3 <= len(masks) < 3000
    assert set(names_in(out / "masks")) == {f"{index:05d}.png" for index in range(len(masks))}
    assert len(masks) == len(read_overlay(out)) == len(log)
