"""Videos in the cache, and the clips that are drawn from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from vcedge.training import corpus
from vcedge.training.corpus import (
    CachedVideo,
    ClipDataset,
    ClipSettings,
    find_videos,
    load_video,
    sampling_weights,
)
from vcedge_runtime.colour import lab_from_bgr

Frame = NDArray[np.uint8]


class StubCapture:
    """A video file made of arrays, behind the part of cv2.VideoCapture that is used."""

    def __init__(self, frames: list[Frame]) -> None:
        self._frames = iter(frames)
        self.released = False

    def read(self) -> tuple[bool, Frame | None]:
        frame = next(self._frames, None)
        return frame is not None, frame

    def release(self) -> None:
        self.released = True


@pytest.fixture
def write_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write the name of a video that decodes to given frames; returns its path."""
    contents: dict[str, list[Frame]] = {}
    monkeypatch.setattr(cv2, "VideoCapture", lambda path: StubCapture(contents[path]))

    def write(name: str, frames: list[Frame]) -> Path:
        path = tmp_path / "videos" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        contents[str(path)] = frames
        return path

    return write


def make_frames(count: int, height: int = 48, width: int = 64) -> list[Frame]:
    """Make frames of one gray each, so that a frame tells its number."""
    return [np.full((height, width, 3), 10 * number, np.uint8) for number in range(count)]


def cached(frames: list[Frame], motion: float = 1.0) -> CachedVideo:
    return CachedVideo(Path("made"), np.stack(frames), motion)


# The cache.


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
    assert not list(cache.glob("*partial*"))


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
    path = write_video("a.mp4", make_frames(count))
    assert load_video(path, tmp_path / "cache", 24, 9) is None
    assert not (tmp_path / "cache").exists()


def test_a_video_ends_where_its_frames_change_size(
    write_video: Callable[..., Path], tmp_path: Path
) -> None:
    frames = [*make_frames(3), *make_frames(4, 64, 48), *make_frames(2)]
    video = load_video(write_video("a.mp4", frames), tmp_path / "cache", 24, 99)
    assert video is not None
    assert video.frames.shape == (3, 24, 32, 3)


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


# Clips.


def draw(videos: list[CachedVideo], index: int, size: int = 32, **settings: Any) -> Tensor:
    return ClipDataset(videos, 1000, lambda _: size, ClipSettings(**settings), seed=3)[index]


@pytest.fixture
def videos(make_frame: Callable[..., Frame]) -> list[CachedVideo]:
    """Two videos of different sizes."""
    return [
        cached([make_frame(48, 64, 3 * step) for step in range(12)]),
        cached([make_frame(80, 40, step) for step in range(5)]),
    ]


def test_a_clip_is_three_frames_in_normalised_lab(videos: list[CachedVideo]) -> None:
    clip = draw(videos, 0)
    assert clip.shape == (3, 3, 32, 32)
    assert clip.dtype == torch.float32
    assert clip.abs().max() < 1.01
    assert draw(videos, 0, frames=5).shape == (5, 3, 32, 32)


def test_a_clip_is_a_function_of_seed_and_index(videos: list[CachedVideo]) -> None:
    def dataset(seed: int) -> ClipDataset:
        return ClipDataset(videos, 100, lambda index: 16 + 8 * (index % 3), ClipSettings(), seed)

    forward, backward = dataset(5), dataset(5)
    clips = [forward[index] for index in range(12)]
    for index in reversed(range(12)):
        assert torch.equal(backward[index], clips[index])
    assert not torch.equal(dataset(6)[0], clips[0])
    assert not torch.equal(clips[3], clips[0])
    assert [clip.shape[-1] for clip in clips[:3]] == [16, 24, 32]
    assert len(forward) == 100


def frame_numbers(video: CachedVideo, index: int, gaps: tuple[int, int]) -> list[int]:
    """Read the numbers of a clip's frames off their gray, which no crop changes."""
    clip = draw([video], index, gaps=gaps)
    grays = np.stack([np.full((1, 1, 3), 10 * number, np.uint8) for number in range(26)])
    known = np.array([lab_from_bgr(gray)[0, 0, 0] for gray in grays])
    return [int(np.abs(known - value).argmin()) for value in clip[:, 0].mean(dim=(1, 2)).numpy()]


def test_frames_are_as_far_apart_as_wanted_forward_or_backward() -> None:
    video = cached(make_frames(25))
    steps, firsts = set(), set()
    for index in range(60):
        numbers = frame_numbers(video, index, (2, 5))
        assert 0 <= min(numbers) <= max(numbers) < 25
        moves = np.diff(numbers)
        assert (moves > 0).all() or (moves < 0).all()
        steps |= set(moves.tolist())
        firsts.add(numbers[0])
    assert steps == {-5, -4, -3, -2, 2, 3, 4, 5}
    assert len(firsts) > 12


@pytest.mark.parametrize("length", [2, 3, 4])
def test_a_video_shorter_than_a_clip_is_spread_over_it(length: int) -> None:
    video = cached(make_frames(length))
    for index in range(20):
        numbers = frame_numbers(video, index, (4, 6))
        assert {numbers[0], numbers[-1]} == {0, length - 1}
        assert numbers in (sorted(numbers), sorted(numbers, reverse=True))


def test_videos_are_drawn_by_their_weight() -> None:
    still = cached([np.full((32, 32, 3), 0, np.uint8)] * 50, motion=0.1)
    lively = cached([np.full((32, 32, 3), 255, np.uint8)] * 50, motion=1.6)
    lit = [bool(draw([still, lively], index, size=8)[0, 0].mean() > 0) for index in range(200)]
    # Weights of 1 to 4; a binomial of 200 draws has a standard deviation of 0.03.
    assert np.mean(lit) == pytest.approx(0.8, abs=0.1)


def make_ramps(height: int, width: int) -> CachedVideo:
    """Make a still video whose blue grows to the right and whose green grows downwards."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[..., 0] = np.arange(width)[None]
    frame[..., 1] = np.arange(height)[:, None]
    return cached([frame] * 12)


def read_ramps(monkeypatch: pytest.MonkeyPatch, clip: Callable[[], Tensor]) -> NDArray[np.float64]:
    """Draw a clip without its colour conversion: where each pixel was in the video, x and y."""
    with monkeypatch.context() as patch:
        patch.setattr(corpus, "lab_from_bgr", lambda frame: frame.astype(np.float32))
        return clip()[:, :2].numpy().astype(np.float64)


def local_scales(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Measure video pixels per clip pixel in the middle of each frame, where none is mirrored."""
    inner = places[:, :, 12:-12, 12:-12]
    along_x = np.diff(inner, axis=3).mean(axis=(2, 3))
    along_y = np.diff(inner, axis=2).mean(axis=(2, 3))
    return np.sqrt(np.abs(along_x[:, 0] * along_y[:, 1] - along_x[:, 1] * along_y[:, 0]))


def test_a_crop_is_zoomed_as_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    video = make_ramps(200, 250)
    zooms = []
    for index in range(40):
        places = read_ramps(monkeypatch, lambda i=index: draw([video], i, 48, jitter=0.0))
        assert np.ptp(places, axis=0).max() == 0
        zooms.append(1 / local_scales(places)[0])
    # Steps of whole ramp values average to within 3 %.
    assert 0.97 < min(zooms) < 1.15
    assert 1.9 < max(zooms) < 2.27


def test_a_crop_never_exceeds_a_small_video(monkeypatch: pytest.MonkeyPatch) -> None:
    video = make_ramps(40, 90)
    for index in range(20):
        places = read_ramps(monkeypatch, lambda i=index: draw([video], i, 64, jitter=0.0))
        assert local_scales(places)[0] <= 40 / 64 * 1.05
        spans = np.ptp(places, axis=(2, 3))
        # The crop's outermost pixels stand half a pixel inside it.
        assert spans.max() <= 40
        assert spans.min() > 15


def test_frames_of_a_clip_move_against_each_other_and_are_flipped_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    video = make_ramps(200, 250)
    flips = set()
    for index in range(30):
        places = read_ramps(monkeypatch, lambda i=index: draw([video], i, 48))
        directions = np.sign(np.diff(places[:, 0, 12:-12, 12:-12], axis=2).mean(axis=(1, 2)))
        assert len(set(directions)) == 1
        flips.add(directions[0])
        assert not np.array_equal(places[0], places[1])
        middles = places[:, :, 24, 24]
        side = 48 * local_scales(places).mean()
        # Each frame is moved by at most a tenth of the crop, so two by at most two.
        assert np.abs(middles - middles[0]).max() <= 0.2 * side * 1.1 + 1
    assert flips == {-1, 1}
