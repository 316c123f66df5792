"""Masks, overlay and log on the disk: whole, or not there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from vcedge_runtime.errors import OutputError
from vcedge_runtime.video.object_lines import ObjectLines
from vcedge_runtime.video.palette import read_label_png
from vcedge_runtime.video.rle import decode_rle
from vcedge_runtime.video.sinks import (
    ChangedMasks,
    MaskFolder,
    ObjectLog,
    OverlayVideo,
    Sink,
    describe_objects,
    prepare_output,
)
from vcedge_runtime.video.sources import Frame, open_source

HW = (48, 64)
SCORES = {3: 0.91237}


def make_frame(index: int, hw: tuple[int, int] = HW) -> Frame:
    return Frame(index, f"{index:05d}", np.full((*hw, 3), 90, np.uint8))


def make_labels(hw: tuple[int, int] = HW) -> NDArray[np.uint8]:
    labels = np.zeros(hw, np.uint8)
    labels[hw[0] // 4 : hw[0] // 2, hw[1] // 4 : hw[1] // 2] = 3
    return labels


def write_frames(sink: Sink, count: int, hw: tuple[int, int] = HW) -> None:
    for index in range(count):
        sink.write(make_frame(index, hw), make_labels(hw), SCORES)


def test_masks_are_named_like_their_frames(tmp_path: Path) -> None:
    with MaskFolder(tmp_path / "a" / "masks") as sink:
        write_frames(sink, 3)
    written = sorted((tmp_path / "a" / "masks").iterdir())
    assert [path.name for path in written] == ["00000.png", "00001.png", "00002.png"]
    np.testing.assert_array_equal(read_label_png(written[1]), make_labels())


def test_a_mask_folder_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        MaskFolder(tmp_path / "file" / "masks")


@pytest.mark.parametrize("hw", [(48, 64), (241, 353), (48, 63), (47, 64), (3, 5), (1, 1)])
def test_an_overlay_holds_every_frame_whatever_its_size(
    tmp_path: Path, hw: tuple[int, int]
) -> None:
    with OverlayVideo(tmp_path / "overlay.mp4", 20) as sink:
        write_frames(sink, 4, hw)
    with open_source(tmp_path / "overlay.mp4") as source:
        assert len(list(source)) == 4
        assert source.frame_hw == (hw[0] + hw[0] % 2, hw[1] + hw[1] % 2)
        assert source.fps == 20


def test_an_overlay_shows_the_object(tmp_path: Path) -> None:
    with OverlayVideo(tmp_path / "overlay.mp4", 20) as sink:
        write_frames(sink, 1)
    with open_source(tmp_path / "overlay.mp4") as source:
        image = next(iter(source)).image
    # id 3 is (0, 128, 128) in BGR; a lossy codec is a few levels off
    np.testing.assert_allclose(image[18, 24], [45, 109, 109], atol=20)
    np.testing.assert_allclose(image[40, 50], [90, 90, 90], atol=20)


@pytest.mark.parametrize("fps", [None, 12.5, 23.976, 29.97, 59.94, 120])
def test_an_overlay_plays_at_the_rate_of_its_source(tmp_path: Path, fps: float | None) -> None:
    with OverlayVideo(tmp_path / "overlay.mp4", fps) as sink:
        write_frames(sink, 3)
    with open_source(tmp_path / "overlay.mp4") as source:
        assert source.fps == pytest.approx(fps or 25, rel=1e-3)


MakeSink = Callable[[Path], Sink]
MAKERS = [
    pytest.param(lambda path: OverlayVideo(path, 25), id="overlay.mp4"),
    pytest.param(ObjectLog, id="objects.ndjson"),
]


@pytest.fixture
def path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return tmp_path / str(request.node.callspec.id)


def test_no_overlay_stands_under_its_name_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "overlay.mp4"
    with OverlayVideo(path, 25) as sink:
        write_frames(sink, 5)
        assert not path.exists()
    assert list(tmp_path.iterdir()) == [path]


def test_the_log_stands_under_its_name_and_can_be_followed(tmp_path: Path) -> None:
    with ObjectLog(tmp_path / "objects.ndjson") as sink:
        for index in range(5):
            sink.write(make_frame(index), make_labels(), SCORES)
            lines = (tmp_path / "objects.ndjson").read_text().splitlines()
            assert [json.loads(line)["frame"] for line in lines] == list(range(index + 1))


def test_a_frame_that_keeps_the_last_mask_says_so_in_the_log(tmp_path: Path) -> None:
    with ObjectLog(tmp_path / "objects.ndjson") as sink:
        sink.write(make_frame(0), make_labels(), SCORES)
        sink.hold(make_frame(1), make_labels())
    first, held = map(json.loads, (tmp_path / "objects.ndjson").read_text().splitlines())
    assert "held" not in first
    assert held["held"] is True
    assert held["objects"][0]["rle"] == first["objects"][0]["rle"]
    assert held["objects"][0]["score"] is None


@pytest.mark.parametrize("make", MAKERS)
def test_an_interruption_leaves_what_was_written(make: MakeSink, path: Path) -> None:
    def run() -> None:
        with make(path) as sink:
            write_frames(sink, 5)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert list(path.parent.iterdir()) == [path]
    if path.suffix == ".mp4":
        with open_source(path) as source:
            assert len(list(source)) == 5
    else:
        assert len(path.read_text().splitlines()) == 5


@pytest.mark.parametrize("make", MAKERS)
def test_without_a_frame_there_is_no_file(make: MakeSink, path: Path) -> None:
    with make(path):
        pass
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("make", MAKERS)
def test_closing_twice_does_no_harm(make: MakeSink, path: Path) -> None:
    sink = make(path)
    write_frames(sink, 2)
    sink.close()
    size = path.stat().st_size
    sink.close()
    assert path.stat().st_size == size


@pytest.mark.parametrize("make", MAKERS)
def test_a_place_that_cannot_be_written_is_an_output_error(make: MakeSink, path: Path) -> None:
    (path.parent / "file").touch()
    with (
        pytest.raises(OutputError, match="cannot be written"),
        make(path.parent / "file" / path.name) as sink,
    ):
        write_frames(sink, 1)


def write_noise(sink: Sink, frames: int) -> None:
    """Write frames that no encoder makes small."""
    noise = np.random.default_rng(0)
    for index in range(frames):
        image = noise.integers(0, 256, (*HW, 3), np.uint8)
        sink.write(replace(make_frame(index), image=image), make_labels(), {})


def test_an_overlay_notices_a_full_disk_when_it_happens_and_is_not_left(
    tmp_path: Path, limited_files: None
) -> None:
    sink = OverlayVideo(tmp_path / "overlay.mp4", 25)
    with pytest.raises(OutputError, match=r"cannot be written \(File too large\)"):
        write_noise(sink, 100)
    sink.close()
    assert not list(tmp_path.iterdir())


def test_an_overlay_whose_end_does_not_fit_is_not_left(tmp_path: Path, limited_files: None) -> None:
    def write(frames: int) -> None:
        with OverlayVideo(tmp_path / f"{frames:02d}.mp4", 25) as sink:
            write_noise(sink, frames)

    def write_longer_and_longer() -> None:
        for frames in range(1, 100):
            write(frames)
            written.append(f"{frames:02d}.mp4")

    written: list[str] = []
    with pytest.raises(OutputError, match="cannot be written"):
        write_longer_and_longer()
    # The last one failed while it was finished, or before.
    assert written
    assert sorted(path.name for path in tmp_path.iterdir()) == written


def test_the_log_has_a_line_of_json_per_frame(tmp_path: Path) -> None:
    with ObjectLog(tmp_path / "objects.ndjson") as sink:
        write_frames(sink, 2)
        sink.write(make_frame(2), np.zeros(HW, np.uint8), SCORES)
    first, second, third = map(json.loads, (tmp_path / "objects.ndjson").read_text().splitlines())
    assert (first["frame"], first["name"]) == (0, "00000")
    assert (second["frame"], second["name"]) == (1, "00001")
    [record] = second["objects"]
    np.testing.assert_array_equal(decode_rle(record.pop("rle")), make_labels() == 3)
    expected = {"id": 3, "area": 192, "box": [16, 12, 16, 12], "centroid": [23.5, 17.5]}
    assert record == {**expected, "score": 0.9124}
    assert third["objects"] == []


def test_the_log_says_what_became_of_objects_that_are_not_seen(tmp_path: Path) -> None:
    nothing = np.zeros(HW, np.uint8)
    with ObjectLog(tmp_path / "objects.ndjson") as sink:
        sink.write(make_frame(0), make_labels(), SCORES, {3: "tracked"})
        sink.write(make_frame(1), nothing, {3: 0.0, 5: 0.0}, {3: "lost", 5: "absent"})
    first, second = map(json.loads, (tmp_path / "objects.ndjson").read_text().splitlines())
    assert "missing" not in first
    assert second["missing"] == {"3": "lost", "5": "absent"}


def make_live_frame(index: int, time_s: float) -> Frame:
    frame = make_frame(index)
    return replace(frame, time_s=time_s, arrived_s=100.0, dropped=index % 3, age_ms=250.0625)


def test_the_log_says_of_a_live_source_when_how_old_and_what_was_dropped(tmp_path: Path) -> None:
    with ObjectLog(tmp_path / "objects.ndjson") as sink:
        sink.write(replace(make_live_frame(0, 0.0), age_ms=None), make_labels(), SCORES)
        sink.write(make_live_frame(5, 0.16667), make_labels(), SCORES)
        sink.write(replace(make_frame(6), time_s=0.2), make_labels(), SCORES)
    lines = [json.loads(line) for line in (tmp_path / "objects.ndjson").read_text().splitlines()]
    names = ("frame", "time", "age_ms", "dropped")
    assert [{name: line[name] for name in names if name in line} for line in lines] == [
        {"frame": 0, "time": 0.0, "dropped": 0},
        {"frame": 5, "time": 0.167, "age_ms": 250.062, "dropped": 2},
        {"frame": 6},
    ]


class Pipe(StringIO):
    """Keeps what was handed on."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def flush(self) -> None:
        self.seen.append(self.getvalue())


def test_lines_on_a_stream_are_those_of_the_log_and_handed_on_at_once(tmp_path: Path) -> None:
    pipe = Pipe()
    with ObjectLines(pipe) as lines, ObjectLog(tmp_path / "objects.ndjson") as log:
        for index in range(3):
            for sink in (lines, log):
                sink.write(make_frame(index), make_labels(), SCORES)
    assert [text.count("\n") for text in pipe.seen] == [1, 2, 3]
    assert pipe.getvalue() == (tmp_path / "objects.ndjson").read_text()


def test_masks_that_are_the_last_one_again_become_no_file(tmp_path: Path) -> None:
    other = make_labels()
    other[0, 0] = 3
    with MaskFolder(tmp_path) as masks, ChangedMasks(masks) as sink:
        for index, labels in enumerate([make_labels(), make_labels(), other, other, make_labels()]):
            sink.write(make_frame(index), labels, SCORES)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["00000", "00002", "00004"]


def test_an_overlay_of_a_live_source_is_shown_at_the_sources_times(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    times_s = [0.0, 0.04, 1.5, 1.4, 7.25]  # a clock may go back
    with OverlayVideo(tmp_path / "overlay.mp4", 25) as sink:
        for index, time_s in enumerate(times_s):
            sink.write(make_live_frame(index, time_s), make_labels(), SCORES)
    with av.open(str(tmp_path / "overlay.mp4")) as video:
        found = [frame.time for frame in video.decode(video=0)]
    assert found == pytest.approx([0.0, 0.04, 1.5, 1.501, 7.25], abs=1e-3)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20))))
def test_objects_are_measured_as_their_pixels_say(labels: NDArray[np.uint8]) -> None:
    records = describe_objects(labels, {})
    assert [record["id"] for record in records] == [i for i in np.unique(labels) if i > 0]
    for record in records:
        ys, xs = np.nonzero(labels == record["id"])
        left, top, width, height = record["box"]
        assert record["area"] == ys.size
        assert (left, top) == (xs.min(), ys.min())
        assert (left + width - 1, top + height - 1) == (xs.max(), ys.max())
        # written with two decimals
        assert record["centroid"] == pytest.approx([xs.mean(), ys.mean()], abs=0.0051)
        assert record["score"] is None
        np.testing.assert_array_equal(decode_rle(record["rle"]), labels == record["id"])


def test_a_missing_output_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    folder = prepare_output(tmp_path / "a" / "b")
    assert folder.is_dir()
    assert prepare_output(folder) == folder


def test_an_output_folder_that_holds_something_is_never_overwritten_unasked(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"existing folder.*--overwrite or choose another"):
        prepare_output(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["file", "file/out"])
def test_a_file_in_the_folders_place_is_refused(tmp_path: Path, name: str, overwrite: bool) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match=r"cannot be written.*choose another"):
        prepare_output(tmp_path / name, overwrite=overwrite)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_without_write_permission_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(OutputError, match="may not be written"):
        prepare_output(tmp_path / "out")


def test_the_mask_written_for_an_opencv_user_has_palette_colours(tmp_path: Path) -> None:
    with MaskFolder(tmp_path) as sink:
        write_frames(sink, 1)
    image = cv2.imread(str(tmp_path / "00000.png"))
    assert image is not None
    assert image[18, 24].tolist() == [0, 128, 128]
