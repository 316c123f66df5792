"""VIP on a small tree of the official layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge.evaluation.vip import (
    CLASSES,
    class_ious,
    count_pixels,
    evaluate_vip,
    list_videos,
    mean_iou,
)
from vcedge_runtime.errors import EvaluationError
from vcedge_runtime.video.palette import read_label_png

HW, FRAMES, SIDE = (48, 64), 3, 128
Image = NDArray[np.uint8]


@pytest.fixture(name="root")
def vip_fixture(
    tmp_path: Path,
    make_frame: Callable[..., Image],
    make_mask: Callable[..., Image],
    write_images: Callable[..., None],
    write_masks: Callable[..., None],
) -> Path:
    """Two validation videos whose parts move by 4 pixels a frame, and one that is not listed."""
    root = tmp_path / "VIP_Fine"
    (root / "lists").mkdir(parents=True)
    (root / "lists" / "val_videos.txt").write_text("videos2\nvideos1\n")
    for name in ("videos1", "videos2", "videos3"):
        names = [f"{index + 1:012d}" for index in range(FRAMES)]
        write_images(root / "Images" / name, {n: make_frame(*HW) for n in names})
        mask = make_mask(*HW, 2, 13)
        masks = {n: np.roll(mask, 4 * step, axis=1) for step, n in enumerate(names)}
        write_masks(root / "Category_ids" / name, masks)
    return root


def labels(root: Path, index: int) -> Path:
    return root / "Category_ids" / "videos1" / f"{index + 1:012d}.png"


def test_the_listed_videos_are_followed_on_squares_and_score_1(
    root: Path, tmp_path: Path, rolling_masks: Callable[..., Any]
) -> None:
    tracker = rolling_masks(4 * SIDE // HW[1])
    done: list[str] = []
    score = evaluate_vip(root, tracker, side=SIDE, out=tmp_path / "out", on_video=done.append)
    assert done == ["videos2", "videos1"]
    assert tracker.sizes == 2 * FRAMES * [(SIDE, SIDE)]
    assert mean_iou(score.later) == mean_iou(score.every) == 1
    assert (score.videos, score.frames) == (2, 2 * FRAMES)
    assert score.later.sum() == 2 * (FRAMES - 1) * HW[0] * HW[1]
    written = sorted((tmp_path / "out" / "videos1").iterdir())
    assert len(written) == FRAMES
    np.testing.assert_array_equal(read_label_png(written[2]), read_label_png(labels(root, 2)))


def test_parts_that_stand_still_lose_what_moves(
    root: Path, rolling_masks: Callable[..., Any]
) -> None:
    score = evaluate_vip(root, rolling_masks(0), side=SIDE)
    # Bars of 12 or 13 pixels, moved by 4 and by 8: one matrix for all frames, not a mean of frames.
    assert 0.2 < class_ious(score.later)[2] < 0.5 < mean_iou(score.every) < 1


def test_classes_that_nobody_shows_do_not_count_and_the_background_does() -> None:
    truth, predicted = np.zeros((2, 10, 10), np.uint8)
    truth[:, :5], predicted[:, :4] = 3, 3
    ious = class_ious(count_pixels(truth, predicted))
    assert (ious[0], ious[3]) == pytest.approx((50 / 60, 40 / 50))
    assert np.isnan(np.delete(ious, [0, 3])).all()
    assert mean_iou(count_pixels(truth, predicted)) == pytest.approx((50 / 60 + 40 / 50) / 2)


def test_a_class_that_is_only_predicted_counts_as_0() -> None:
    truth, predicted = np.zeros((2, 10, 10), np.uint8)
    predicted[:5] = 7
    assert mean_iou(count_pixels(truth, predicted)) == pytest.approx((0.5 + 0) / 2)


def test_ignored_pixels_do_not_count() -> None:
    truth, predicted = np.zeros((2, 10, 10), np.uint8)
    truth[:5], predicted[:5] = 255, 7
    table = count_pixels(truth, predicted)
    assert table.sum() == 50
    assert mean_iou(table) == 1
    assert np.isnan(mean_iou(count_pixels(np.full((4, 4), 255, np.uint8), predicted[:4, :4])))


def test_ids_that_are_no_class_and_other_sizes_are_refused() -> None:
    known = np.zeros((4, 4), np.uint8)
    with pytest.raises(EvaluationError, match="at most 19"):
        count_pixels(known, known + np.uint8(len(CLASSES)))
    with pytest.raises(EvaluationError, match=r"expected \(4, 4\)"):
        count_pixels(known, known[:2])


def test_frames_without_ground_truth_are_followed_but_not_scored(
    root: Path, rolling_masks: Callable[..., Any]
) -> None:
    labels(root, 1).unlink()
    score = evaluate_vip(root, rolling_masks(4 * SIDE // HW[1]), side=SIDE)
    assert score.frames == 2 * FRAMES - 1
    assert mean_iou(score.later) == 1


def test_ignored_pixels_of_the_first_frame_are_given_as_background(
    root: Path, rolling_masks: Callable[..., Any], write_masks: Callable[..., None]
) -> None:
    given = read_label_png(labels(root, 0))
    given[:4] = 255
    labels(root, 0).unlink()
    write_masks(root / "new", {"mask": given})
    (root / "new" / "mask.png").rename(labels(root, 0))
    score = evaluate_vip(root, rolling_masks(4 * SIDE // HW[1]), side=SIDE)
    assert mean_iou(score.later) == mean_iou(score.every) == 1


def test_a_video_that_begins_without_parts_is_background(
    root: Path, rolling_masks: Callable[..., Any], write_masks: Callable[..., None]
) -> None:
    write_masks(root / "new", {"mask": np.zeros(HW, np.uint8)})
    (root / "new" / "mask.png").replace(labels(root, 0))
    score = evaluate_vip(root, rolling_masks(4 * SIDE // HW[1]), side=SIDE)
    assert score.later[2, 0] > 0
    assert score.later[0, 2] == 0


def test_the_annotations_may_lie_one_folder_deeper(
    root: Path, rolling_masks: Callable[..., Any]
) -> None:
    (root / "Annotations").mkdir()
    (root / "Category_ids").rename(root / "Annotations" / "Category_ids")
    score = evaluate_vip(root, rolling_masks(4 * SIDE // HW[1]), side=SIDE)
    assert mean_iou(score.later) == 1


def test_what_is_missing_is_named(root: Path, rolling_masks: Callable[..., Any]) -> None:
    with pytest.raises(EvaluationError, match="names no validation video"):
        list_videos(root / "Images")
    labels(root, 0).unlink()
    with pytest.raises(EvaluationError, match=r"000000000001\.png, which cannot be read"):
        evaluate_vip(root, rolling_masks(4), side=SIDE)
    (root / "Category_ids").rename(root / "Instance_ids")
    with pytest.raises(EvaluationError, match="has no part ids"):
        evaluate_vip(root, rolling_masks(4), side=SIDE)
    (root / "Images" / "videos1").rename(root / "videos1")
    with pytest.raises(EvaluationError, match=r"lacks Images/videos1 \(1 of 2"):
        evaluate_vip(root, rolling_masks(4), side=SIDE)


@pytest.mark.parametrize("name", ["../Images/videos1", "..", "/tmp", "videos1/../videos1"])
def test_a_video_whose_name_would_lead_elsewhere_is_refused(root: Path, name: str) -> None:
    (root / "lists" / "val_videos.txt").write_text(f"videos1\n{name}\n")
    with pytest.raises(EvaluationError, match=r"val_videos\.txt, which names a video"):
        list_videos(root)
