"""Videos and stills with masks, as they are read."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge.training.object_sources import load_masked_videos, load_stills
from vcedge_runtime.errors import TrainingError
from vcedge_runtime.video.palette import write_label_png

Mask = NDArray[np.uint8]
HEIGHT, WIDTH, FRAMES = 48, 64, 4


def make_masks(value: int) -> list[Mask]:
    masks = []
    for step in range(FRAMES):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[16:32, 8 + 4 * step : 24 + 4 * step] = value
        masks.append(mask)
    return masks


def write_video(root: Path, name: str, masks: list[Mask], palette: bool = False) -> None:
    """Write gray frames, lighter where the mask is, and the masks."""
    (root / "videos").mkdir(parents=True, exist_ok=True)
    (root / "masks" / name).mkdir(parents=True)
    path = str(root / "videos" / f"{name}.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 25, (WIDTH, HEIGHT))
    for number, mask in enumerate(masks):
        target = root / "masks" / name / f"{number:05d}.png"
        if palette:
            write_label_png(target, mask)
        else:
            cv2.imwrite(str(target), mask)
        gray = np.where(mask[:HEIGHT, :WIDTH] > 0, np.uint8(220), np.uint8(60))
        writer.write(cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR))
    writer.release()


def write_stills(root: Path, rows: list[tuple[str, Mask]]) -> None:
    """Write a gray picture for each kind and mask, and the manifest."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "mask", "ids", "kind", "source", "licence"])
        for number, (kind, mask) in enumerate(rows):
            writer.writerow([f"{number}.jpg", f"{number}.png", 1, kind, "made", "none"])
            cv2.imwrite(str(root / f"{number}.jpg"), np.full((40, 60, 3), 99, np.uint8))
            cv2.imwrite(str(root / f"{number}.png"), mask)


def make_mask(**boxes: tuple[int, int, int, int]) -> Mask:
    """Boxes of rows and columns, named by their ids, on 40x60 pixels of background."""
    mask = np.zeros((40, 60), np.uint8)
    for name, (top, bottom, left, right) in boxes.items():
        mask[top:bottom, left:right] = int(name[1:])
    return mask


# Videos.


def test_frames_and_masks_of_a_video_fit_together(tmp_path: Path) -> None:
    write_video(tmp_path, "made", make_masks(255))
    (video,) = load_masked_videos(tmp_path, tmp_path / "cache")
    assert video.name == "made"
    assert video.frames.shape == (FRAMES, HEIGHT, WIDTH, 3)
    assert video.masks.shape == (FRAMES, HEIGHT, WIDTH)
    assert video.frames.dtype == video.masks.dtype == np.uint8
    assert set(np.unique(video.masks)) == {0, 1}
    assert ((video.frames[..., 0] > 140) == (video.masks == 1)).mean() > 0.98


def test_a_cached_video_is_mapped_without_its_masks_being_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path, "made", make_masks(255))
    (first,) = load_masked_videos(tmp_path, tmp_path / "cache")
    monkeypatch.setattr("vcedge.training.object_sources.read_label_png", None)
    (again,) = load_masked_videos(tmp_path, tmp_path / "cache")
    assert isinstance(again.masks, np.memmap)
    assert not again.masks.flags.writeable
    np.testing.assert_array_equal(again.masks, first.masks)


@pytest.mark.parametrize("palette", [False, True])
def test_ids_stay_and_void_stays_among_them(tmp_path: Path, palette: bool) -> None:
    masks = make_masks(2)
    for mask in masks:
        mask[:4] = 255
        mask[40:] = 1
    write_video(tmp_path, "made", masks, palette)
    (video,) = load_masked_videos(tmp_path, tmp_path / "cache")
    assert set(np.unique(video.masks)) == {0, 1, 2, 255}
    assert (video.masks[:, :4] == 255).all()


def test_a_shrunk_videos_masks_are_shrunk_without_new_ids(tmp_path: Path) -> None:
    write_video(tmp_path, "made", make_masks(5), palette=True)
    (video,) = load_masked_videos(tmp_path, tmp_path / "cache", short_side=24, max_frames=3)
    assert video.masks.shape == video.frames.shape[:3] == (3, 24, 32)
    assert set(np.unique(video.masks)) == {0, 5}
    assert ((video.frames[..., 0] > 140) == (video.masks == 5)).mean() > 0.95


def test_of_masks_of_some_frames_those_frames_are_taken(tmp_path: Path) -> None:
    masks = make_masks(2)
    write_video(tmp_path, "made", masks, palette=True)
    (whole,) = load_masked_videos(tmp_path, tmp_path / "cache")
    kept = range(0, len(masks), 2)
    for index in set(range(len(masks))) - set(kept):
        (tmp_path / "masks" / "made" / f"{index:05d}.png").unlink()
    (video,) = load_masked_videos(tmp_path, tmp_path / "cache")
    assert (video.every, whole.every) == (2, 1)
    assert video.frames.shape[:3] == video.masks.shape == (len(kept), HEIGHT, WIDTH)
    for place, index in enumerate(kept):
        np.testing.assert_array_equal(video.frames[place], whole.frames[index])
        np.testing.assert_array_equal(video.masks[place], masks[index])


def test_a_video_without_masks_is_named(tmp_path: Path) -> None:
    write_video(tmp_path, "made", make_masks(255))
    for index in range(1, len(make_masks(255))):
        (tmp_path / "masks" / "made" / f"{index:05d}.png").unlink()
    with pytest.raises(TrainingError, match=r"made, of which 1 have a mask.*add .*00000\.png"):
        load_masked_videos(tmp_path, tmp_path / "cache")


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path, "made", make_masks(255))
    small = np.zeros((HEIGHT, WIDTH - 8), np.uint8)
    cv2.imwrite(str(tmp_path / "masks" / "made" / "00001.png"), small)
    with pytest.raises(TrainingError, match=r"00001\.png of 56x48 pixels; expected the size"):
        load_masked_videos(tmp_path, tmp_path / "cache")


def test_a_damaged_mask_or_video_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path, "made", make_masks(255))
    (tmp_path / "masks" / "made" / "00001.png").write_bytes(b"nothing")
    with pytest.raises(TrainingError, match=r"00001\.png, which is no readable image"):
        load_masked_videos(tmp_path, tmp_path / "cache")
    (tmp_path / "videos" / "a.mp4").write_bytes(b"nothing")
    with pytest.raises(TrainingError, match=r"a\.mp4, of which no two frames"):
        load_masked_videos(tmp_path, tmp_path / "cache")


def test_a_folder_without_videos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"without a video; expected videos/NAME\.mp4"):
        load_masked_videos(tmp_path, tmp_path / "cache")


# Stills.


def test_whole_objects_keep_an_id_each(tmp_path: Path) -> None:
    mask = make_mask(_3=(5, 15, 5, 15), _7=(20, 30, 20, 40))
    kinds = ["animal instances", "binary horse", "instances", "one person instance (others ...)"]
    write_stills(tmp_path, [(kind, mask) for kind in kinds])
    stills = load_stills(tmp_path)
    assert len(stills) == 4
    for still in stills:
        assert still.image.shape == (40, 60, 3)
        np.testing.assert_array_equal(still.ids == 1, mask == 3)
        np.testing.assert_array_equal(still.ids == 2, mask == 7)


@pytest.mark.parametrize("kind", ["parts of one person (>0 = person)", "components of car"])
def test_parts_and_components_become_one_object(tmp_path: Path, kind: str) -> None:
    mask = make_mask(_3=(5, 15, 5, 15), _41=(15, 30, 5, 15))
    write_stills(tmp_path, [(kind, mask)])
    (still,) = load_stills(tmp_path)
    np.testing.assert_array_equal(still.ids, mask > 0)


def test_regions_count_from_2_to_50_percent(tmp_path: Path) -> None:
    mask = np.full((40, 60), 1, np.uint8)
    mask[:10, :20], mask[30:34, :10] = 2, 3
    write_stills(tmp_path, [("regions", mask)])
    (still,) = load_stills(tmp_path)
    np.testing.assert_array_equal(still.ids == 1, mask == 2)
    assert still.ids.max() == 1


def test_specks_and_objects_that_fill_the_picture_are_left_out(tmp_path: Path) -> None:
    speck, full = make_mask(_1=(0, 3, 0, 3)), make_mask(_1=(0, 38, 0, 58))
    good = make_mask(_1=(0, 3, 0, 3), _2=(10, 20, 10, 20))
    write_stills(tmp_path, [("instances", speck), ("instances", full), ("instances", good)])
    (still,) = load_stills(tmp_path)
    assert still.name == "2.jpg"
    np.testing.assert_array_equal(still.ids == 1, good == 2)
    write_stills(tmp_path, [("instances", speck)])
    with pytest.raises(TrainingError, match="1 stills without a usable object"):
        load_stills(tmp_path)


def test_stills_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"neither a manifest\.csv nor a picture with a mask"):
        load_stills(tmp_path)
    mask = make_mask(_1=(5, 15, 5, 15))
    write_stills(tmp_path, [("shapes", mask)])
    with pytest.raises(TrainingError, match="kind 'shapes'; expected one that begins with"):
        load_stills(tmp_path)
    write_stills(tmp_path, [("instances", mask[:-2])])
    with pytest.raises(TrainingError, match=r"0\.png of 60x38 pixels; expected 60x40"):
        load_stills(tmp_path)
    (tmp_path / "0.png").unlink()
    with pytest.raises(TrainingError, match=r"0\.png, which cannot be read"):
        load_stills(tmp_path)
    (tmp_path / "0.jpg").unlink()
    with pytest.raises(TrainingError, match=r"0\.jpg, which cannot be read"):
        load_stills(tmp_path)
    (tmp_path / "manifest.csv").write_text("file,mask\n0.jpg,0.png\n")
    with pytest.raises(TrainingError, match="without column 'kind'"):
        load_stills(tmp_path)
