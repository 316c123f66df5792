"""Videos that are folders of pictures, as DAVIS and YouTube-VOS come."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge.training import corpus
from vcedge.training.corpus import CachedVideo, ClipDataset, ClipSettings, load_folder
from vcedge.training.frame_folders import find_frame_folders, keep_named, step_between
from vcedge.training.object_sources import load_masked_videos
from vcedge_runtime.errors import TrainingError

Image = NDArray[np.uint8]
MakeImage = Callable[..., Image]


@pytest.fixture
def write_frames(make_frame: MakeImage) -> Callable[..., Path]:
    """Write frames of a moving texture as PNG of these numbers; returns the folder."""

    def write(folder: Path, numbers: list[int], size: tuple[int, int] = (48, 64)) -> Path:
        folder.mkdir(parents=True)
        for number in numbers:
            cv2.imwrite(str(folder / f"{number:05d}.png"), make_frame(*size, number))
        return folder

    return write


@pytest.fixture
def write_masks(make_mask: MakeImage) -> Callable[..., Path]:
    """Write a mask of some ids for each of these numbers; returns the folder."""

    def write(folder: Path, numbers: list[int], *ids: int) -> Path:
        folder.mkdir(parents=True)
        for number in numbers:
            cv2.imwrite(str(folder / f"{number:05d}.png"), make_mask(48, 64, *ids))
        return folder

    return write


def test_folders_of_frames_are_found_below_jpegimages_alone(
    tmp_path: Path, write_frames: Callable[..., Path]
) -> None:
    for place in ("JPEGImages/bear", "JPEGImages/cow", "Annotations/bear", "holiday"):
        write_frames(tmp_path / "vos" / place, [0, 1])
    write_frames(tmp_path / "vos" / "JPEGImages" / "single", [0])
    for size in ("480p", "Full-Resolution"):
        write_frames(tmp_path / "davis" / "JPEGImages" / size / "dog", [0, 1])
    found = find_frame_folders([tmp_path])
    # Of a sequence in two resolutions, the first.
    places = [str(path.relative_to(tmp_path)) for path in found]
    images = [f"vos/JPEGImages/{name}" for name in ("bear", "cow")]
    assert places == ["davis/JPEGImages/480p/dog", *images]
    assert find_frame_folders([tmp_path / "vos" / "JPEGImages"]) == found[1:]


def test_a_folder_is_a_video_whose_frames_are_read_when_they_are_asked_for(
    tmp_path: Path,
    write_frames: Callable[..., Path],
    make_frame: MakeImage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, cache = write_frames(tmp_path / "JPEGImages" / "a", [0, 1, 2, 10]), tmp_path / "cache"
    video = load_folder(folder, cache, 24, 100)
    assert video is not None
    assert video.frames.shape == (4, 24, 32, 3)
    assert len(load_folder(folder, cache, 24, 3).frames) == 3  # type: ignore[union-attr]
    expected = cv2.resize(make_frame(48, 64, 10), (32, 24), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(video.frames[3], expected)
    assert sum(path.stat().st_size for path in cache.iterdir()) < 1000
    monkeypatch.setattr(corpus, "_mean_motion", None)
    again = load_folder(folder, cache, 24, 100)
    assert again is not None
    assert again.motion == video.motion > 0


def test_clips_of_a_folder_are_those_of_the_same_frames_in_a_file(
    tmp_path: Path, write_frames: Callable[..., Path]
) -> None:
    video = load_folder(
        write_frames(tmp_path / "JPEGImages" / "a", list(range(12))), tmp_path / "cache", 48, 100
    )
    assert video is not None
    array = np.stack([video.frames[index] for index in range(12)])
    held = CachedVideo(video.source, array, video.motion)
    for index in range(4):
        both = (
            ClipDataset([each], 10, lambda _: 32, ClipSettings(flow=True), 0)[index]
            for each in (video, held)
        )
        for found, expected in zip(*both, strict=True):
            np.testing.assert_array_equal(found.numpy(), expected.numpy())


def test_a_list_takes_the_videos_it_names(tmp_path: Path) -> None:
    (tmp_path / "bear").mkdir()
    (tmp_path / "cow.mp4").touch()
    found = [tmp_path / "bear", tmp_path / "cow.mp4"]
    assert keep_named(found, None) == found
    assert keep_named(found, ["cow"]) == found[1:]
    with pytest.raises(TrainingError, match=r"of which 1 are not there \(dog\)"):
        keep_named(found, ["bear", "dog"])


@pytest.mark.parametrize(
    ("names", "step"),
    [(["00000", "00005", "00010", "00020"], 5), (["00000", "00001", "00002"], 1), (["a", "b"], 1)],
)
def test_how_far_frames_are_apart_is_told_by_their_numbers(names: list[str], step: int) -> None:
    assert step_between([Path(f"{name}.jpg") for name in names]) == step


def test_frames_with_a_mask_are_taken_and_their_step_is_known(
    tmp_path: Path, write_frames: Callable[..., Path], write_masks: Callable[..., Path]
) -> None:
    write_frames(tmp_path / "JPEGImages" / "a", list(range(21)))
    write_masks(tmp_path / "Annotations" / "a", [0, 5, 10, 15, 20], 1, 3)
    write_frames(tmp_path / "JPEGImages" / "b", [0, 1, 2], (96, 128))
    write_masks(tmp_path / "Annotations" / "b", [0, 1, 2], 255)
    first, second = load_masked_videos(tmp_path, tmp_path / "cache", short_side=48)
    assert (first.name, first.every, len(first.frames)) == ("a", 5, 5)
    assert (second.name, second.every) == ("b", 1)
    assert first.masks.shape == first.frames.shape[:3] == (5, 48, 64)
    assert set(np.unique(first.masks[4])) == {0, 1, 3}
    # White on black is the only object, and masks are shrunk as frames are.
    assert second.frames[0].shape == (48, 64, 3)
    assert set(np.unique(second.masks[2])) == {0, 1}
    (named,) = load_masked_videos(tmp_path, tmp_path / "cache", names=["b"])
    assert named.name == "b"
    (kept,) = load_masked_videos(tmp_path, tmp_path / "cache", hold_out=["b"])
    assert kept.name == "a"


def test_a_sequence_without_masks_of_its_frames_is_refused(
    tmp_path: Path, write_frames: Callable[..., Path], write_masks: Callable[..., Path]
) -> None:
    write_frames(tmp_path / "JPEGImages" / "a", [0, 1, 2])
    write_masks(tmp_path / "Annotations" / "a", [1, 7], 1)
    with pytest.raises(TrainingError, match=r"3 frames and 2 masks of a, of which 1 share a name"):
        load_masked_videos(tmp_path, tmp_path / "cache")
