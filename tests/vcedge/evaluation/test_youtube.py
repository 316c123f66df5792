"""YouTube-VOS on a small tree: objects that begin later, ids with gaps, listed frames alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge.evaluation.youtube import find_first_masks, read_meta, track_videos
from vcedge_runtime.errors import EvaluationError
from vcedge_runtime.video.palette import read_label_png

HW, FRAMES, SHIFT = (48, 64), 12, 2
LISTED = ("00002", "00004", "00006", "00008", "00010")
Image = NDArray[np.uint8]


def made_masks() -> dict[str, Image]:
    """Object 3 from frame 2 on, object 7 from frame 6 on; both move by 2 pixels a frame."""
    masks = {}
    for name in LISTED:
        mask = np.zeros(HW, np.uint8)
        mask[10:20, 5:15] = 3
        if name >= "00006":
            mask[15:40, 12:30] = 7
        masks[name] = np.roll(mask, SHIFT * int(name), axis=1)
    return masks


@pytest.fixture(name="root")
def youtube_fixture(
    tmp_path: Path,
    make_frame: Callable[..., Image],
    write_images: Callable[..., None],
    write_masks: Callable[..., None],
) -> Path:
    """One video of 12 frames of which 5 are listed; only first masks are given, as in ``valid``."""
    root = tmp_path / "valid"
    objects = {
        "3": {"category": "penguin", "frames": list(LISTED)},
        "7": {"category": "leopard", "frames": list(LISTED[2:])},
    }
    frames = {f"{index:05d}": make_frame(*HW, SHIFT * index) for index in range(FRAMES)}
    write_images(root / "JPEGImages" / "0a1b", frames)
    masks = made_masks()
    masks["00006"][masks["00006"] == 3] = 0
    write_masks(root / "Annotations" / "0a1b", {n: masks[n] for n in ("00002", "00006")})
    (root / "meta.json").write_text(json.dumps({"videos": {"0a1b": {"objects": objects}}}))
    return root


def test_the_meta_file_tells_objects_and_frames(root: Path) -> None:
    (video,) = read_meta(root)
    assert [each.object_id for each in video.objects] == [3, 7]
    assert video.objects[1].category == "leopard"
    assert video.frames == set(LISTED)


def test_each_object_begins_in_the_first_frame_that_shows_it(root: Path) -> None:
    begins = find_first_masks(root, read_meta(root)[0])
    assert {name: np.unique(mask).tolist() for name, mask in begins.items()} == {
        "00002": [0, 3],
        "00006": [0, 7],
    }


def test_masks_of_the_listed_frames_alone_are_written_with_the_ids_of_the_data_set(
    root: Path, tmp_path: Path, rolling_masks: Callable[..., Any]
) -> None:
    tracker, done = rolling_masks(SHIFT), []
    track_videos(root, read_meta(root), tracker, tmp_path / "out", done.append)
    assert done == ["0a1b"]
    written = sorted((tmp_path / "out" / "Annotations" / "0a1b").iterdir())
    assert [path.stem for path in written] == list(LISTED)
    for path, truth in zip(written, made_masks().values(), strict=True):
        np.testing.assert_array_equal(read_label_png(path), truth)
    # It starts at frame 2, reads every frame up to the last that is listed, adds 7 after 4 steps.
    assert tracker.added == [(7, 4)]
    assert len(tracker.sizes) == 9


def test_a_new_object_takes_its_pixels_from_a_known_one(
    root: Path, tmp_path: Path, rolling_masks: Callable[..., Any]
) -> None:
    tracker = rolling_masks(0)
    track_videos(root, read_meta(root), tracker, tmp_path / "out")
    mask = read_label_png(tmp_path / "out" / "Annotations" / "0a1b" / "00006.png")
    np.testing.assert_array_equal(mask == 7, made_masks()["00006"] == 7)
    assert 0 < (mask == 3).sum() < (made_masks()["00002"] == 3).sum() + 1


def test_an_object_that_shows_again_in_a_later_mask_does_not_begin_anew(
    root: Path, tmp_path: Path, rolling_masks: Callable[..., Any], write_masks: Callable[..., None]
) -> None:
    for name, mask in made_masks().items():
        write_masks(root / name, {name: mask})
        (root / name / f"{name}.png").replace(root / "Annotations" / "0a1b" / f"{name}.png")
    tracker = rolling_masks(SHIFT)
    track_videos(root, read_meta(root), tracker, tmp_path / "out")
    assert tracker.added == [(7, 4)]


def test_only_the_listed_images_are_enough(
    root: Path, tmp_path: Path, rolling_masks: Callable[..., Any]
) -> None:
    for path in (root / "JPEGImages" / "0a1b").iterdir():
        if path.stem not in LISTED:
            path.unlink()
    track_videos(root, read_meta(root), rolling_masks(2 * SHIFT), tmp_path / "out")
    written = sorted((tmp_path / "out" / "Annotations" / "0a1b").iterdir())
    for path, truth in zip(written, made_masks().values(), strict=True):
        np.testing.assert_array_equal(read_label_png(path), truth)


def test_what_is_missing_is_named_before_anything_is_tracked(
    root: Path, tmp_path: Path, rolling_masks: Callable[..., Any]
) -> None:
    videos, tracker, out = read_meta(root), rolling_masks(SHIFT), tmp_path / "out"
    (root / "JPEGImages" / "0a1b" / "00010.jpg").unlink()
    with pytest.raises(EvaluationError, match="no image of frame 00010 of 0a1b"):
        track_videos(root, videos, tracker, out)
    (root / "Annotations" / "0a1b" / "00006.png").unlink()
    with pytest.raises(EvaluationError, match="no mask of object 7 of 0a1b"):
        track_videos(root, videos, tracker, tmp_path / "other")
    (root / "Annotations" / "0a1b").rename(root / "elsewhere")
    with pytest.raises(EvaluationError, match="lacks Annotations/0a1b"):
        track_videos(root, videos, tracker, tmp_path / "third")
    assert not (tmp_path / "third").exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"videos": {"a": {}}}',
        '{"videos": {"a": {"objects": {}}}}',
        '{"videos": {"a": {"objects": {"1": {"category": "cat", "frames": []}}}}}',
        '{"videos": {"a": {"objects": {"256": {"category": "cat", "frames": ["0"]}}}}}',
        '{"videos": {"a": {"objects": {"one": {"category": "cat", "frames": ["0"]}}}}}',
    ],
)
def test_a_meta_file_of_another_form_is_refused(root: Path, text: str) -> None:
    (root / "meta.json").write_text(text)
    with pytest.raises(EvaluationError, match=r"meta\.json cannot be read"):
        read_meta(root)


def test_videos_may_be_chosen_and_must_be_known(root: Path) -> None:
    assert [video.name for video in read_meta(root, ["0a1b"])] == ["0a1b"]
    with pytest.raises(EvaluationError, match="received other as a video"):
        read_meta(root, ["other"])
    (root / "meta.json").write_text('{"videos": {}}')
    with pytest.raises(EvaluationError, match="received no name"):
        read_meta(root)


@pytest.mark.parametrize("name", ["..", "../0a1b", "../../JPEGImages/0a1b", "/tmp", "\x1b[2J", ""])
def test_a_video_whose_name_would_lead_elsewhere_is_refused(root: Path, name: str) -> None:
    meta = json.loads((root / "meta.json").read_text())
    meta["videos"][name] = meta["videos"].pop("0a1b")
    (root / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(EvaluationError, match="a video is named"):
        read_meta(root)


def test_a_meta_file_that_nests_without_end_is_refused(root: Path) -> None:
    (root / "meta.json").write_text("[" * 100_000)
    with pytest.raises(EvaluationError, match=r"whose meta\.json cannot be read"):
        read_meta(root)
