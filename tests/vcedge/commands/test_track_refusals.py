"""``vcedge track`` on bad input: one line that names the mend, exit code 2, no half files."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge_runtime import files
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.opencv import quiet_opencv
from vcedge_runtime.video.outputs import RECORD_NAME
from vcedge_runtime.video.palette import davis_palette, read_label_png, write_label_png

OUT = Path("out")
Image = NDArray[np.uint8]
Run = Callable[..., CompletedProcess[str]]
Refuse = Callable[..., str]
MakeClip = Callable[..., Any]
"""Makes a ``Clip`` of this folder's conftest, whose ``arguments`` track it."""


@pytest.fixture
def refuse_untouched(refuse: Refuse) -> Refuse:
    """Refuse a run before it has made its folder."""

    def refuse_untouched(*arguments: object) -> str:
        line = refuse(*arguments, "--out", OUT)
        assert not OUT.exists()
        return line

    return refuse_untouched


def count_frames(path: Path) -> int:
    with quiet_opencv():
        capture = cv2.VideoCapture(str(path))
        count = 0
        while capture.grab():
            count += 1
        capture.release()
    return count


def assert_whole(out: Path, frames: int) -> None:
    """Require that a run which ended early has finished everything up to its last frame."""
    left = {path.name for path in out.iterdir()} - {RECORD_NAME}
    assert left == {"masks", "overlay.mp4", "objects.ndjson"}
    assert len([read_label_png(path) for path in (out / "masks").iterdir()]) == frames
    assert count_frames(out / "overlay.mp4") == frames
    lines = (out / "objects.ndjson").read_text().splitlines()
    assert len([json.loads(line) for line in lines]) == frames


@pytest.mark.parametrize(
    ("source", "mend"),
    [
        ("none.mp4", "does not exist; expected a video file, a folder or glob of images"),
        ("none*.png", "a glob that matches no image"),
        ("empty", "a folder without images; expected files of"),
        ("letter.mp4", "expected a video that FFmpeg can decode"),
        ("letter.png", "cannot be decoded; expected a sound image"),
        ('gst:"videotestsrc"', "expected an OpenCV built with GStreamer"),
    ],
)
def test_a_source_that_cannot_be_read(
    refuse_untouched: Refuse, make_clip: MakeClip, source: str, mend: str
) -> None:
    if source.startswith("gst:") and cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        pytest.skip("this OpenCV reads GStreamer's pipelines")
    _, _, *others = make_clip(frames=2).arguments
    Path("empty").mkdir()
    Path("letter.mp4").write_text("Dear Sir or Madam")
    Path("letter.png").write_text("Dear Sir or Madam")
    assert mend in refuse_untouched("track", source, *others)


@pytest.mark.parametrize("suffix", ["avi", "mp4"])
def test_a_video_truncated_in_the_middle_is_tracked_and_its_end_reported(
    run: Run, make_clip: MakeClip, suffix: str
) -> None:
    clip = make_clip(f"clip.{suffix}", frames=40)
    if suffix == "mp4":
        _move_index_to_the_front(clip.source)
    data = clip.source.read_bytes()
    clip.source.write_bytes(data[: len(data) // 2])
    done = run(*clip.arguments, "--out", OUT)
    masks = len(list(OUT.glob("masks/*.png")))
    assert 5 < masks < 30
    assert done.returncode == 2
    assert done.stderr == (
        f"vcedge: {clip.source}: the file is cut off: it has {len(data) // 2} bytes of the "
        f"{len(data)} that it announces; what was decoded is tracked\n"
    )
    assert_whole(OUT, masks)
    assert f"through {masks} frames" in done.stdout
    assert "wrote out/overlay.mp4" in done.stdout


def _move_index_to_the_front(path: Path) -> None:
    """Put an MP4's table of frames first, as files for the web have it."""
    av = pytest.importorskip("av")
    moved = path.with_stem("moved")
    with (
        av.open(str(path)) as source,
        av.open(str(moved), "w", options={"movflags": "faststart"}) as sink,
    ):
        stream = sink.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                sink.mux(packet)
    moved.replace(path)


def test_frames_asked_for_and_had_are_no_early_end(run: Run, make_clip: MakeClip) -> None:
    clip = make_clip("clip.avi", frames=40)
    data = clip.source.read_bytes()
    clip.source.write_bytes(data[: len(data) // 2])
    run(*clip.arguments, "--out", OUT)
    whole = len(list(OUT.glob("masks/*.png")))
    done = run(*clip.arguments, "--out", OUT, "--overwrite", "--frames", whole)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_video_without_its_table_of_frames_cannot_be_opened(
    refuse_untouched: Refuse, make_clip: MakeClip
) -> None:
    clip = make_clip("clip.mp4", frames=20)
    data = clip.source.read_bytes()
    clip.source.write_bytes(data[: len(data) // 2])
    assert "which cannot be opened (invalid data" in refuse_untouched(*clip.arguments)


def test_frames_that_change_size_are_tracked_up_to_the_change(
    refuse: Refuse, make_clip: MakeClip
) -> None:
    clip = make_clip(frames=4)
    cv2.imwrite(str(clip.source / "shot12.png"), np.zeros((50, 64, 3), np.uint8))
    line = refuse(*clip.arguments, "--out", OUT)
    assert "received frame shot12.png of 50x64 (height x width)" in line
    assert "expected 48x64 like the first; bring them to one size" in line
    assert_whole(OUT, 4)


def test_a_damaged_image_in_the_middle_keeps_what_came_before(
    refuse: Refuse, make_clip: MakeClip
) -> None:
    clip = make_clip(frames=4)
    (clip.source / "shot11.png").write_bytes(b"not an image")
    line = refuse(*clip.arguments, "--out", OUT)
    assert "shot11.png, which cannot be decoded" in line
    assert_whole(OUT, 3)


def test_a_mask_of_another_size_offers_to_resize_it(
    refuse_untouched: Refuse, make_clip: MakeClip
) -> None:
    clip = make_clip(frames=2)
    write_label_png(clip.mask, np.repeat(clip.labels, 2, axis=0))
    line = refuse_untouched(*clip.arguments)
    assert "96x64 (height x width); expected 48x64 like the frame" in line
    assert "--resize-mask" in line


def test_an_object_too_small_to_be_resized_is_named(
    refuse_untouched: Refuse, make_clip: MakeClip
) -> None:
    clip = make_clip(frames=2)
    labels = np.kron(clip.labels, np.ones((4, 4), np.uint8))
    labels[1, 1] = 9
    write_label_png(clip.mask, labels)
    assert "objects [9] are too small" in refuse_untouched(*clip.arguments, "--resize-mask")


def test_neither_or_both_of_mask_and_points(refuse_untouched: Refuse, make_clip: MakeClip) -> None:
    clip = make_clip(frames=2)
    Path("joints.csv").write_text("name,x,y\nnose,1,1\n")
    model = ("--model", clip.model)
    mend = "pass either --mask or --points"
    assert mend in refuse_untouched("track", clip.source, *model)
    assert mend in refuse_untouched(*clip.arguments, "--points", "joints.csv")


@pytest.mark.parametrize(
    "sizes", [("--fast", "--accurate"), ("--fast", "--size", 64), ("--accurate", "--size", 64)]
)
def test_more_than_one_size(run: Run, make_clip: MakeClip, sizes: tuple[object, ...]) -> None:
    done = run(*make_clip(frames=2).arguments, *sizes, "--out", OUT)
    assert done.returncode == 2
    assert "pass one of --size, --fast and --accurate" in done.stderr
    assert not OUT.exists()


def test_points_that_are_not_in_the_frame(refuse_untouched: Refuse, make_clip: MakeClip) -> None:
    clip = make_clip(frames=2)
    Path("joints.csv").write_text("name,x,y\nnose,1000,1\n")
    line = refuse_untouched("track", clip.source, "--points", "joints.csv", "--model", clip.model)
    assert "expected x from 0 to 63" in line


def test_what_is_wrong_with_the_input_is_said_before_a_graph_loads(
    refuse_untouched: Refuse, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("a tracker was opened")

    monkeypatch.setattr(Tracker, "open", load)
    clip = make_clip(frames=2)
    Path("joints.csv").write_text("name,x,y\nnose,1000,1\n")
    refuse_untouched("track", clip.source, "--points", "joints.csv", "--model", clip.model)
    write_label_png(clip.mask, np.zeros_like(clip.labels))
    refuse_untouched(*clip.arguments)


def test_an_empty_mask(refuse_untouched: Refuse, make_clip: MakeClip) -> None:
    clip = make_clip(frames=2)
    write_label_png(clip.mask, np.zeros_like(clip.labels))
    assert "without an object; expected an id over 0" in refuse_untouched(*clip.arguments)


def test_a_mask_that_is_not_there(refuse_untouched: Refuse, make_clip: MakeClip) -> None:
    clip = make_clip(frames=2)
    clip.mask.unlink()
    line = refuse_untouched(*clip.arguments)
    assert "cannot be read (No such file or directory); expected an image file" in line


def _antialiased(labels: Image) -> Image:
    white = np.where(labels > 0, 255, 0).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(white, (5, 5), 0), np.uint8)


def _coloured(labels: Image) -> Image:
    return np.ascontiguousarray(davis_palette()[labels][..., ::-1])


def _deep(labels: Image) -> NDArray[np.uint16]:
    """Draw 300 objects, which 16 bits can count."""
    return np.arange(labels.size, dtype=np.uint16).reshape(labels.shape) % 301


@pytest.mark.parametrize(
    ("draw", "explanation", "mend"),
    [
        (_antialiased, "an anti-aliased or shaded image", "pass --binarize for one bright object"),
        (_coloured, "an image in RGB colours", "palette or gray PNG"),
        (_coloured, "an image in RGB colours", "pass --binarize if it shows one bright object"),
        (_deep, "a PNG of 16 bits; expected at most 255 object ids", "palette PNG of 8 bits"),
    ],
)
def test_an_image_that_holds_no_ids_is_explained(
    refuse_untouched: Refuse,
    make_clip: MakeClip,
    draw: Callable[[Image], Image],
    explanation: str,
    mend: str,
) -> None:
    clip = make_clip(frames=2)
    cv2.imwrite(str(clip.mask), draw(clip.labels))
    line = refuse_untouched(*clip.arguments)
    assert explanation in line
    assert mend in line


def test_binarize_makes_an_anti_aliased_mask_one_object(run: Run, make_clip: MakeClip) -> None:
    clip = make_clip(frames=2)
    cv2.imwrite(str(clip.mask), _antialiased(clip.labels))
    assert run(*clip.arguments, "--binarize", "--out", OUT).returncode == 0
    assert np.unique(read_label_png(OUT / "masks" / "shot8.png")).tolist() == [0, 1]


def test_a_folder_that_exists_is_not_written_without_overwrite(
    refuse: Refuse, make_clip: MakeClip
) -> None:
    clip = make_clip(frames=2)
    (OUT / "masks").mkdir(parents=True)
    write_label_png(OUT / "masks" / "shot8.png", clip.labels)
    before = (OUT / "masks" / "shot8.png").read_bytes()
    assert "--overwrite or choose another --out" in refuse(*clip.arguments, "--out", OUT)
    assert [path.read_bytes() for path in OUT.rglob("*.png")] == [before]


def test_bad_input_with_overwrite_leaves_the_earlier_results(
    refuse: Refuse, make_clip: MakeClip
) -> None:
    clip = make_clip(frames=2)
    OUT.mkdir()
    (OUT / "overlay.mp4").write_bytes(b"an earlier run's")
    clip.mask.unlink()
    refuse(*clip.arguments, "--out", OUT, "--overwrite")
    assert (OUT / "overlay.mp4").read_bytes() == b"an earlier run's"


def test_a_place_that_cannot_be_written(refuse: Refuse, make_clip: MakeClip) -> None:
    clip = make_clip(frames=2)
    line = refuse(*clip.arguments, "--out", clip.mask / "out")
    assert "cannot be written (Not a directory)" in line
    line = refuse(*clip.arguments, "--out", clip.mask)
    assert "cannot be written (File exists); free the place or choose another" in line


def test_a_folder_without_permission(
    refuse: Refuse, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = make_clip(frames=2).arguments
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    line = refuse(*arguments, "--out", OUT)
    assert "may not be written" in line
    assert "change its permissions or choose another --out" in line
    assert not list(OUT.iterdir())


def test_a_disk_that_fills_up_keeps_what_was_written(
    refuse: Refuse, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = files._fill, iter(range(100))
    arguments = make_clip(frames=6).arguments

    def fill_up(place: str, data: bytes) -> None:
        if next(calls) < 3:
            write(place, data)
            return
        write(place, data[:20])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "_fill", fill_up)
    line = refuse(*arguments, "--out", OUT)
    assert "shot11.png cannot be written (No space left on device)" in line
    assert_whole(OUT, 3)


@pytest.fixture
def clip_with_own_bundle(make_clip: MakeClip, tmp_path: Path) -> Any:
    """A clip, and a copy of the bundle that may be damaged in ``bundle``."""
    clip = make_clip(frames=2)
    shutil.copytree(clip.model, tmp_path / "bundle")
    return clip


@pytest.fixture
def refuse_bundle(refuse_untouched: Refuse, clip_with_own_bundle: Any) -> Callable[[str], str]:
    """Refuse to track with a bundle."""
    clip = clip_with_own_bundle

    def refuse_bundle(model: str) -> str:
        arguments = ("track", clip.source, "--mask", clip.mask, "--model", model)
        return refuse_untouched(*arguments)

    return refuse_bundle


def test_a_bundle_with_a_wrong_sha256(refuse_bundle: Callable[[str], str]) -> None:
    with Path("bundle/encoder.onnx").open("ab") as file:
        file.write(b"more")
    line = refuse_bundle("bundle")
    assert "bundle/encoder.onnx has sha256" in line
    assert "damaged or was exchanged; export the bundle again" in line


@pytest.mark.parametrize(("number", "mend"), [(99, "upgrade vcedge"), (0, "export the bundle")])
def test_a_bundle_of_another_format(
    refuse_bundle: Callable[[str], str], number: int, mend: str
) -> None:
    manifest = Path("bundle/bundle.json")
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": number}))
    line = refuse_bundle("bundle")
    assert f"has format {number}" in line
    assert mend in line


def test_a_bundle_that_lacks_a_graph_or_has_a_damaged_manifest(
    refuse_bundle: Callable[[str], str],
) -> None:
    Path("bundle/encoder.onnx").unlink()
    assert "lacks encoder.onnx; export it again" in refuse_bundle("bundle")
    Path("bundle/bundle.json").write_text('{"format": 1')
    assert "cannot be read" in refuse_bundle("bundle")


def test_an_unknown_model_is_told_where_models_are_listed(
    refuse_bundle: Callable[[str], str],
) -> None:
    line = refuse_bundle("base-egde")
    assert "no model 'base-egde'" in line
    assert "`vcedge models` lists them" in line


def test_the_output_of_a_former_run_is_not_tracked_into_its_own_folder(
    tmp_path: Path, refuse: Callable[..., str], tiny_bundle: Bundle
) -> None:
    masks = tmp_path / "out" / "masks"
    masks.mkdir(parents=True)
    for index in range(3):
        write_label_png(masks / f"{index:05d}.png", np.full((24, 32), 1, np.uint8))
    before = sorted(path.name for path in masks.iterdir())
    line = refuse(
        *("track", str(masks), "--mask", str(masks / "00000.png"), "--overwrite"),
        *("--out", str(tmp_path / "out"), "--model", str(tiny_bundle.folder)),
    )
    assert "choose another --out" in line
    assert sorted(path.name for path in masks.iterdir()) == before
