"""Videos in the cache."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.runtime.video.test_decoding import spoil_packets
from tests.runtime.video.test_decoding import write_video as encode_video
from vcedge.training import corpus
from vcedge.training.corpus import (
    CachedVideo,
    find_videos,
    load_video,
    sampling_weights,
)

Frame = NDArray[np.uint8]


@pytest.fixture
def write_video(tmp_path: Path) -> Callable[..., Path]:
    """Write a video without loss; returns its path."""

    def write(name: str, frames: list[Frame]) -> Path:
        path = tmp_path / "videos" / name
        path.parent.mkdir(exist_ok=True)
        with av.open(path, "w", format="matroska") as file:
            stream = file.add_stream("ffv1", rate=10, pix_fmt="bgr0")
            stream.height, stream.width = frames[0].shape[:2]
            for frame in frames:
                file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "bgr24")))
            file.mux(stream.encode(None))
        return path

    return write


def make_frames(count: int, height: int = 48, width: int = 64) -> list[Frame]:
    """Make frames of one gray each, so that a frame tells its number."""
    return [np.full((height, width, 3), 10 * number, np.uint8) for number in range(count)]


def cached(frames: list[Frame], motion: float = 1.0) -> CachedVideo:
    return CachedVideo(Path("made"), np.stack(frames), motion)


def test_videos_are_found_below_every_folder_in_order(tmp_path: Path) -> None:
    for name in ["b/2.MP4", "b/deep/1.webm", "a/3.mov", "a/notes.txt"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_videos([tmp_path / "b", tmp_path / "a"])
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "a/3.mov",
        "b/2.MP4",
        "b/deep/1.webm",
    ]


def test_a_real_file_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for frame in make_frames(5):
        writer.write(frame)
    writer.release()
    video = load_video(path, tmp_path / "cache", 24, 100)
    assert video is not None
    assert video.frames.shape == (5, 24, 32, 3)
    # JPEG keeps flat gray within a few steps.
    np.testing.assert_allclose(video.frames.mean(axis=(1, 2, 3)), [0, 10, 20, 30, 40], atol=3)


@pytest.mark.parametrize(
    ("size_hw", "cached_hw"), [((48, 64), (24, 32)), ((100, 50), (48, 24)), ((20, 30), (20, 30))]
)
def test_frames_are_made_smaller_and_never_larger(
    write_video: Callable[..., Path],
    tmp_path: Path,
    size_hw: tuple[int, int],
    cached_hw: tuple[int, int],
) -> None:
    video = load_video(write_video("a.mp4", make_frames(3, *size_hw)), tmp_path / "cache", 24, 9)
    assert video is not None
    assert video.frames.shape == (3, *cached_hw, 3)
    assert video.frames.dtype == np.uint8


def test_the_cache_is_read_again_without_decoding(
    write_video: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, cache = write_video("a.mp4", make_frames(4)), tmp_path / "cache"
    first = load_video(path, cache, 24, 9)
    monkeypatch.setattr(corpus, "_decode", lambda *_: pytest.fail("decoded again"))
    again = load_video(path, cache, 24, 9)
    assert first is not None
    assert again is not None
    np.testing.assert_array_equal(again.frames, first.frames)
    assert again.motion == first.motion
    with pytest.raises(ValueError, match="read-only"):
        again.frames[0] = 0
    assert not list(cache.glob("*.part*"))


@pytest.mark.parametrize("changed", ["short side", "frames", "file"])
def test_the_cache_is_not_taken_for_another_decoding(
    write_video: Callable[..., Path], tmp_path: Path, changed: str
) -> None:
    path, cache = write_video("a.mp4", make_frames(6)), tmp_path / "cache"
    load_video(path, cache, 24, 9)
    if changed == "file":
        path = write_video("a.mp4", make_frames(3))
    short_side, frames = (16 if changed == "short side" else 24), (2 if changed == "frames" else 9)
    video = load_video(path, cache, short_side, frames)
    assert video is not None
    expected = {"short side": (6, 16, 21, 3), "frames": (2, 24, 32, 3), "file": (3, 24, 32, 3)}
    assert video.frames.shape == expected[changed]


def test_two_videos_of_one_name_do_not_share_a_cache(
    write_video: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "videos" / "b").mkdir(parents=True)
    paths = [write_video("a.mp4", make_frames(2)), write_video("b/a.mp4", make_frames(5))]
    videos = [load_video(path, tmp_path / "cache", 24, 9) for path in paths]
    assert [len(video.frames) for video in videos if video is not None] == [2, 5]


@pytest.mark.parametrize("count", [0, 1])
def test_a_video_without_two_frames_is_skipped(
    write_video: Callable[..., Path], tmp_path: Path, count: int
) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(write_video("one.mp4", make_frames(1)).read_bytes() if count else b"")
    assert load_video(path, tmp_path / "cache", 24, 9) is None
    assert not (tmp_path / "cache").exists()


def test_a_video_ends_where_its_frames_change_size(tmp_path: Path) -> None:
    frames = [*make_frames(3), *make_frames(4, 64, 48), *make_frames(2)]
    path = tmp_path / "changes.mjpeg"
    path.write_bytes(b"".join(cv2.imencode(".jpg", frame)[1].tobytes() for frame in frames))
    video = load_video(path, tmp_path / "cache", 24, 99)
    assert video is not None
    assert video.frames.shape == (3, 24, 32, 3)


def test_a_frame_that_is_lost_leaves_the_later_ones_their_places(tmp_path: Path) -> None:
    options = {"bf": "0", "g": "1"}
    path = encode_video(tmp_path / "a.mp4", make_frames(9), codec="libx264", options=options)
    video = load_video(spoil_packets(path, [4, 5]), tmp_path / "cache", 24, 9)
    assert video is not None
    shown = [0, 10, 20, 30, 30, 30, 60, 70, 80]
    # The codec keeps flat gray within a few steps.
    np.testing.assert_allclose(video.frames.mean(axis=(1, 2, 3)), shown, atol=3)


def test_an_interrupted_decoding_leaves_no_video_in_the_cache(
    write_video: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video("a.mp4", make_frames(3))
    with monkeypatch.context() as patch:
        patch.setattr(corpus, "_mean_motion", lambda frames: pytest.fail("stopped"))
        with pytest.raises(pytest.fail.Exception):
            load_video(path, tmp_path / "cache", 24, 9)
    video = load_video(path, tmp_path / "cache", 24, 9)
    assert video is not None
    assert len(video.frames) == 3


def test_motion_is_measured_in_percent_of_the_short_side(
    write_video: Callable[..., Path], tmp_path: Path, make_frame: Callable[..., Frame]
) -> None:
    moving = [make_frame(64, 96, 2 * step) for step in range(6)]
    still = [make_frame(64, 96)] * 6
    videos = [
        load_video(write_video(name, frames), tmp_path / "cache", 64, 9)
        for name, frames in (("moving.mp4", moving), ("still.mp4", still))
    ]
    assert videos[0] is not None
    assert videos[1] is not None
    # Two pixels of 64; the flow is less sure where the texture leaves the frame.
    assert videos[0].motion == pytest.approx(100 * 2 / 64, rel=0.2)
    assert videos[1].motion == pytest.approx(0, abs=0.01)


def test_livelier_and_longer_videos_weigh_more_with_ceilings() -> None:
    def weights(*parts: tuple[int, float]) -> NDArray[np.float64]:
        videos = [CachedVideo(Path("v"), np.zeros((n, 1, 1, 3), np.uint8), m) for n, m in parts]
        return sampling_weights(videos)

    np.testing.assert_allclose(weights((50, 1.0), (200, 1.0), (800, 1.0)), [1 / 5, 2 / 5, 2 / 5])
    np.testing.assert_allclose(weights((9, 0.5), (9, 2.0), (9, 50.0)), [1 / 5, 2 / 5, 2 / 5])
    assert weights((9, 0.0), (9, 0.1)).tolist() == [0.5, 0.5]


def test_two_processes_that_decode_one_video_leave_whole_files(
    write_video: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, cache = write_video("a.mp4", make_frames(4)), tmp_path / "cache"
    targets: list[str] = []
    places: list[str] = []
    replace = os.replace

    def watched(path: str, target: str) -> None:
        targets.append(Path(target).name)
        places.append(path)
        replace(path, target)

    monkeypatch.setattr(os, "replace", watched)
    video = load_video(path, cache, 24, 9)
    assert video is not None
    for file in [*cache.iterdir()]:
        file.unlink()
    load_video(path, cache, 24, 9)
    assert len(set(places)) == 4
    del targets[2:]
    # Frames that stand in the cache have their motion beside them, both moved there whole.
    motion, frames = targets
    assert motion.endswith(".motion.npy")
    assert {motion, frames} == {file.name for file in cache.iterdir()}
