"""Frames from files, folders and globs, and what is said where they cannot be had."""

from __future__ import annotations

import socket
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vcedge_runtime.errors import SourceError
from vcedge_runtime.video import pictures, videos
from vcedge_runtime.video.prefetch import prefetch
from vcedge_runtime.video.sources import Frame, open_source

HW = (48, 64)


def draw_frame(index: int, hw: tuple[int, int] = HW) -> NDArray[np.uint8]:
    """Draw a frame whose mean gray says its index, up to what a codec loses."""
    return np.full((*hw, 3), 20 + 3 * index, np.uint8)


def write_avi(path: Path, frames: int, hw: tuple[int, int] = HW) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, hw[::-1])
    for index in range(frames):
        writer.write(draw_frame(index, hw))
    writer.release()
    return path


def encode(path: Path, frames: int, hw: tuple[int, int] = HW, **options: Any) -> Path:
    """Encode noise as MPEG-4 with PyAV, so that every frame takes its share of the file."""
    av = pytest.importorskip("av")
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", **options) as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = *hw, "yuv420p"
        for _ in range(frames):
            image = rng.integers(0, 256, (*hw, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    return path


def cut_file(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def read_until_error(frames: Iterable[Frame]) -> tuple[list[Frame], str]:
    """Return the good frames and what the error after them says, if one came."""
    good: list[Frame] = []
    try:
        for frame in frames:
            good.append(frame)  # extend() would hide what came before the error
    except SourceError as exc:
        return good, str(exc)
    return good, ""


def write_images(folder: Path, names: list[str], hw: tuple[int, int] = HW) -> Path:
    folder.mkdir(exist_ok=True)
    for index, name in enumerate(names):
        assert cv2.imwrite(str(folder / name), draw_frame(index, hw))
    return folder


def test_a_video_gives_its_frames_in_order_with_five_digit_names(tmp_path: Path) -> None:
    with open_source(write_avi(tmp_path / "clip.avi", 12)) as source:
        assert (source.frame_hw, source.length, source.fps) == (HW, 12, 20.0)
        assert not source.live
        frames = list(source)
    assert [frame.index for frame in frames] == list(range(12))
    assert [frame.name for frame in frames][-2:] == ["00010", "00011"]
    levels = [frame.image.mean() for frame in frames]
    np.testing.assert_allclose(levels, 20 + 3 * np.arange(12), atol=1.4)  # under half a step
    assert source.ended_early is None


def test_frames_are_bgr_and_the_receivers_own(tmp_path: Path) -> None:
    with open_source(write_avi(tmp_path / "clip.avi", 3)) as source:
        first, second, _ = source
    assert first.image.shape == (*HW, 3)
    assert first.image.dtype == np.uint8
    assert not np.shares_memory(first.image, second.image)


def test_a_video_may_be_read_twice(tmp_path: Path) -> None:
    with open_source(write_avi(tmp_path / "clip.avi", 5)) as source:
        assert [len(list(source)), len(list(source))] == [5, 5]


def test_a_video_left_half_way_begins_anew(tmp_path: Path) -> None:
    with open_source(write_avi(tmp_path / "clip.avi", 5)) as source:
        for frame in source:
            if frame.index == 2:
                break
        assert next(iter(source)).image.mean() == pytest.approx(20, abs=1.4)


def test_a_closed_video_says_so(tmp_path: Path) -> None:
    source = open_source(write_avi(tmp_path / "clip.avi", 3))
    source.close()
    source.close()
    with pytest.raises(SourceError, match="closed"):
        next(iter(source))


def test_a_video_is_decoded_ahead_and_left_early_without_hanging(tmp_path: Path) -> None:
    with open_source(write_avi(tmp_path / "clip.avi", 30)) as source:
        for frame in prefetch(source):
            if frame.index == 3:
                break
    assert frame.index == 3


@pytest.mark.parametrize("options", [{"options": {"movflags": "faststart"}}, {"format": "mpegts"}])
def test_sound_videos_of_other_containers_end_in_time(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    with open_source(encode(tmp_path / "clip.mp4", 20, **options)) as source:
        assert len(list(source)) == 20
        assert source.ended_early is None


def test_a_truncated_mp4_gives_what_is_left_and_reports_the_end(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", 60, options={"movflags": "faststart"})
    with open_source(cut_file(path, 0.5)) as source:
        frames = list(source)
    assert 20 <= len(frames) <= 31
    assert source.ended_early is not None
    assert "the file is cut off" in source.ended_early


def test_a_truncated_avi_gives_what_is_left_and_reports_the_end(tmp_path: Path) -> None:
    with open_source(cut_file(write_avi(tmp_path / "clip.avi", 60), 0.5)) as source:
        frames = list(source)
    assert 10 <= len(frames) <= 31  # the index at the file's end is a good part of it
    assert "the file is cut off" in str(source.ended_early)


def test_ffmpeg_is_silent_about_a_truncated_video(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = encode(tmp_path / "clip.mp4", 60, options={"movflags": "faststart"})
    with open_source(cut_file(path, 0.5)) as source:
        list(source)
    assert capfd.readouterr().err == ""


def test_a_video_without_its_index_cannot_be_opened(tmp_path: Path) -> None:
    path = cut_file(encode(tmp_path / "clip.mp4", 30), 0.5)
    with pytest.raises(SourceError, match=r"clip\.mp4.*cannot be opened.*invalid data"):
        open_source(path)


def test_a_video_without_a_frame_is_refused(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", 30, options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.read_bytes().index(b"mdat") + 8])
    with pytest.raises(SourceError, match="gives no frame"):
        open_source(path)


@pytest.mark.parametrize("data", [b"", b"no video at all" * 100])
def test_a_file_that_is_no_video_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "clip.mp4").write_bytes(data)
    with pytest.raises(SourceError, match=r"clip\.mp4.*cannot be opened"):
        open_source(tmp_path / "clip.mp4")


def test_a_missing_source_is_answered_with_what_there_may_be(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"does not exist; expected a video file, a folder"):
        open_source(str(tmp_path / "absent.mp4"))


class ChangingCapture:
    """A capture whose frames change size, as older OpenCVs give them."""

    def __init__(self, *_: object) -> None:
        self.sizes = [HW, HW, (96, 128), HW]

    def isOpened(self) -> bool:
        return True

    def get(self, _: int) -> float:
        return 0.0

    def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
        return (True, draw_frame(0, self.sizes.pop(0))) if self.sizes else (False, None)

    def release(self) -> None:
        self.sizes.clear()


def test_a_camera_whose_frames_change_size_ends_after_the_good_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", ChangingCapture)
    with open_source(0) as source:
        good, error = read_until_error(prefetch(source))
    assert [frame.index for frame in good] == [0, 1]
    assert "frame 00002 of 96x128" in error
    assert "expected 48x64" in error
    assert source.fps is None
    assert source.length is None


def test_a_video_that_changes_size_ends_after_the_good_frames(tmp_path: Path) -> None:
    first = encode(tmp_path / "a.ts", 5, format="mpegts")
    second = encode(tmp_path / "b.ts", 5, (96, 128), format="mpegts")
    path = tmp_path / "both.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    with open_source(path) as source:
        good, error = read_until_error(source)
    assert [frame.image.shape[:2] for frame in good] == [HW] * 5
    assert "96x128" in error


@pytest.mark.parametrize("channels", [None, 1, 4])
def test_gray_and_alpha_from_a_camera_become_bgr(channels: int | None) -> None:
    shape = HW if channels is None else (*HW, channels)
    image = videos._bgr_from_image(np.full(shape, 9, np.uint8))
    assert image.shape == (*HW, 3)
    assert (image == 9).all()


def test_a_folder_is_read_in_the_order_people_count(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "in", ["f2.png", "f10.png", "f1.png"])
    with open_source(folder) as source:
        assert (source.frame_hw, source.length, source.fps) == (HW, 3, None)
        frames = list(source)
    assert [frame.name for frame in frames] == ["f1", "f2", "f10"]
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [26, 20, 23]


@given(st.lists(st.integers(0, 10**6), unique=True))
def test_numbers_in_names_sort_by_value(numbers: list[int]) -> None:
    paths = [Path(f"in/frame{number}.png") for number in numbers]
    ordered = sorted(paths, key=pictures._natural_key)
    assert ordered == [Path(f"in/frame{number}.png") for number in sorted(numbers)]


def test_any_names_can_be_sorted() -> None:
    names = ["1a", "a1", "", "01", "1", "A1", "²", "a-1"]
    assert len(sorted(map(Path, names), key=pictures._natural_key)) == len(names)


def test_other_and_hidden_files_in_a_folder_are_passed_over(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "in", ["a.png", "b.JPG"])
    (folder / "notes.txt").touch()
    (folder / "._a.png").touch()
    with open_source(folder) as source:
        assert [frame.name for frame in source] == ["a", "b"]
        assert source.left_out == ("notes.txt",)


def test_gray_images_and_those_with_alpha_become_bgr(tmp_path: Path) -> None:
    for index, shape in enumerate([HW, (*HW, 4), (*HW, 3)]):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full(shape, 9, np.uint8))
    with open_source(tmp_path) as source:
        frames = list(source)
    assert {frame.image.shape for frame in frames} == {(*HW, 3)}
    assert all((frame.image == 9).all() for frame in frames)


def test_a_glob_gives_the_images_that_match(tmp_path: Path) -> None:
    write_images(tmp_path / "in", ["a1.png", "a2.png", "b1.png"])
    with open_source(str(tmp_path / "in" / "a*.png")) as source:
        assert [frame.name for frame in source] == ["a1", "a2"]


def test_a_relative_glob_is_looked_for_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "in", ["a1.png", "a2.png"])
    monkeypatch.chdir(tmp_path / "in")
    assert open_source("*.png").length == 2
    assert open_source("../in/*2.png").length == 1


def test_a_file_whose_name_holds_a_bracket_is_no_glob(tmp_path: Path) -> None:
    with open_source(write_avi(tmp_path / "clip[1].avi", 2)) as source:
        assert source.length == 2


def test_a_single_image_is_a_source_of_one_frame(tmp_path: Path) -> None:
    write_images(tmp_path, ["one.png"])
    with open_source(tmp_path / "one.png") as source:
        assert [frame.name for frame in source] == ["one"]


@pytest.mark.parametrize(("spec", "told"), [("", "folder without images"), ("*.png", "no image")])
def test_no_image_is_an_error(tmp_path: Path, spec: str, told: str) -> None:
    with pytest.raises(SourceError, match=told):
        open_source(str(tmp_path / spec))


def test_two_images_of_one_stem_are_refused(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "in", ["a.png", "a.jpg"])
    with pytest.raises(SourceError, match="stems that differ"):
        open_source(folder)


def test_an_image_that_cannot_be_decoded_ends_after_the_good_ones(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "in", ["0.png", "1.png", "2.png"])
    (folder / "1.png").write_bytes(b"no image")
    with open_source(folder) as source:
        good, error = read_until_error(source)
    assert [frame.name for frame in good] == ["0"]
    assert "1.png, which cannot be decoded" in error


def test_an_image_that_vanishes_is_named(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "in", ["0.png", "1.png"])
    with open_source(folder) as source:
        (folder / "1.png").unlink()
        with pytest.raises(SourceError, match=r"1\.png, which cannot be read"):
            list(source)


def test_an_image_of_another_size_is_refused_at_its_place(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "in", ["0.png", "1.png"])
    write_images(folder, ["2.png"], (96, 128))
    with open_source(folder) as source:
        good, error = read_until_error(source)
    assert [frame.name for frame in good] == ["0", "1"]
    assert "2.png of 96x128" in error


@pytest.mark.parametrize("spec", [99, "99"], ids=["number", "digits"])
def test_a_camera_that_is_not_there_is_an_error(spec: str | int) -> None:
    with pytest.raises(SourceError, match="camera 99, which cannot be opened"):
        open_source(spec)


def test_a_stream_that_does_not_answer_is_an_error_without_its_password() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(SourceError, match=rf"received rtsp://127\.0\.0\.1:{port}/a, which cannot"):
        open_source(f"rtsp://user:secret@127.0.0.1:{port}/a")


@pytest.mark.parametrize(
    "spec", ["ftp://user:hunter2@host/a.mp4", 'gst:"a location=x://u:hunter2@c"']
)
def test_an_error_shows_no_password(spec: str) -> None:
    with pytest.raises(SourceError) as error:
        open_source(spec)
    assert "hunter2" not in "".join(traceback.format_exception(error.value))


@pytest.mark.parametrize(
    "address",
    ["http://user:hunter2@127.0.0.1:1/a.mp4", "http://127.0.0.1:1/a.mp4?user=me&pwd=hunter2"],
)
def test_a_traceback_of_a_stream_that_is_down_shows_no_password(address: str) -> None:
    with pytest.raises(SourceError, match="connection refused") as error:
        open_source(address)
    assert "hunter2" not in "".join(traceback.format_exception(error.value))


def test_a_pipeline_without_gstreamer_says_what_is_missing() -> None:
    if cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        pytest.skip("this OpenCV has GStreamer")
    with pytest.raises(SourceError, match="built with GStreamer"):
        open_source('gst:"videotestsrc ! appsink"')


def test_a_pipeline_is_handed_to_gstreamer_without_its_quotes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[tuple[object, ...]] = []

    class Capture(ChangingCapture):
        def __init__(self, *arguments: object) -> None:
            super().__init__()
            opened.append(arguments)

    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda _: True)
    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    with open_source('gst:"videotestsrc ! appsink"') as source:
        assert source.live
        assert source.length is None
    assert opened == [("videotestsrc ! appsink", cv2.CAP_GSTREAMER)]


def test_frames_of_a_video_say_when_they_are_shown(tmp_path: Path) -> None:
    with open_source(write_avi(tmp_path / "clip.avi", 5)) as source:
        for _ in range(2):
            times = [frame.time_s for frame in source]
            assert times == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])


def test_images_have_no_time(tmp_path: Path) -> None:
    with open_source(write_images(tmp_path / "in", ["1.png", "2.png"])) as source:
        assert {frame.time_s for frame in source} == {None}


@pytest.mark.parametrize("spec", ["", "  "])
def test_no_name_is_no_source(spec: str) -> None:
    with pytest.raises(SourceError, match="received no source; expected a video file"):
        open_source(spec)
