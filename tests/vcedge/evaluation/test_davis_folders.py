"""Scoring folders of PNG: layouts, names, and everything that can be missing."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge.evaluation.davis import (
    SequenceScore,
    evaluate_folders,
    list_sequences,
    score_sequence,
)
from vcedge.evaluation.davis_folders import find_mixed_parts
from vcedge_runtime.errors import EvaluationError

Labels = NDArray[np.uint8]
PROJECT = Path(__file__).resolve().parents[3]
DATA = Path(os.environ.get("VCEDGE_DATA") or PROJECT.parent / "shared" / "data")


def write_palette_png(path: Path, labels: Labels) -> None:
    """Write ids under colours whose gray values say nothing of the ids."""
    height, width = labels.shape
    palette = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)
    rows = np.pad(labels, ((0, 0), (1, 0)))
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0),
        b"PLTE": palette.tobytes(),
        b"IDAT": zlib.compress(rows.tobytes()),
        b"IEND": b"",
    }
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, body in chunks.items():
        crc = zlib.crc32(kind + body)
        parts.append(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc))
    path.write_bytes(b"".join(parts))


def clip(seed: int, frames: int = 5) -> list[Labels]:
    """Make masks of ids 0 to 2, all of which the first shows."""
    blocks = np.random.default_rng(seed).integers(0, 3, (frames, 5, 7), np.uint8)
    blocks[0, 0, :3] = 0, 1, 2
    return list(blocks.repeat(6, axis=1).repeat(6, axis=2))


def write_clip(folder: Path, masks: list[Labels]) -> None:
    folder.mkdir(parents=True)
    for index, mask in enumerate(masks):
        write_palette_png(folder / f"{index:05d}.png", mask)


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    """A data set in DAVIS layout and predictions in plain folders, two sequences of five frames."""
    truth, predicted = tmp_path / "DAVIS", tmp_path / "predicted"
    for seed, name in enumerate(["cows", "boat"]):
        write_clip(truth / "Annotations" / "480p" / name, clip(seed))
        write_clip(predicted / name, clip(seed + 10))
    return truth, predicted


def test_folders_score_as_the_masks_in_memory(roots: tuple[Path, Path]) -> None:
    seen: list[SequenceScore] = []
    score = evaluate_folders(*roots, on_sequence=seen.append)
    assert list(score.sequences) == seen
    assert [s.name for s in score.sequences] == ["boat", "cows"]
    assert score.sequences[0] == score_sequence(clip(1), clip(11), name="boat")
    assert score.sequences[1] == score_sequence(clip(0), clip(10), name="cows")


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_number_of_workers_changes_nothing(roots: tuple[Path, Path], workers: int) -> None:
    assert evaluate_folders(*roots, workers=workers) == evaluate_folders(*roots)


def test_the_ground_truth_may_lie_in_plain_folders(roots: tuple[Path, Path]) -> None:
    plain = roots[0] / "Annotations" / "480p"
    assert evaluate_folders(plain, roots[1]) == evaluate_folders(*roots)


def test_a_single_folder_is_one_sequence_whatever_its_name(roots: tuple[Path, Path]) -> None:
    truth, predicted = roots[0] / "Annotations" / "480p" / "cows", roots[1] / "cows"
    masks = shutil.move(predicted, roots[1] / "masks")
    expected = score_sequence(clip(0), clip(10), name="cows")
    assert evaluate_folders(truth, masks).sequences == (expected,)
    assert evaluate_folders(roots[0], masks, ["cows"]).sequences == (expected,)


def test_sequences_are_scored_in_the_order_named(roots: tuple[Path, Path]) -> None:
    score = evaluate_folders(*roots, sequences=["cows", "boat"])
    assert [s.name for s in score.sequences] == ["cows", "boat"]


@pytest.mark.parametrize(
    "text",
    ["cows\n\n", "/JPEGImages/480p/cows/00000.jpg /Annotations/480p/cows/00000.png\n" * 2],
    ids=["names", "DAVIS-2016"],
)
def test_a_list_file_names_the_sequences(roots: tuple[Path, Path], text: str) -> None:
    path = roots[0] / "ImageSets" / "2017" / "val.txt"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert list_sequences(roots[0], path) == ["cows"]
    assert list_sequences(roots[0], Path("2017/val.txt")) == ["cows"]
    assert len(evaluate_folders(*roots, Path("ImageSets/2017/val.txt")).sequences) == 1


def test_only_frames_of_the_ground_truth_are_read(roots: tuple[Path, Path]) -> None:
    expected = evaluate_folders(*roots)
    (roots[1] / "cows" / "00099.png").write_bytes(b"")
    (roots[1] / "cows" / "notes.txt").write_text("")
    (roots[1] / "cows" / "00000.png").unlink()
    (roots[1] / "cows" / "00004.png").unlink()
    assert evaluate_folders(*roots) == expected


def test_a_sparse_ground_truth_picks_the_predictions_of_its_names(roots: tuple[Path, Path]) -> None:
    (roots[0] / "Annotations" / "480p" / "cows" / "00002.png").unlink()
    truth, predicted = clip(0), clip(10)
    del truth[2], predicted[2]
    expected = score_sequence(truth, predicted, name="cows")
    assert evaluate_folders(*roots, ["cows"]).sequences == (expected,)


def test_gray_masks_of_0_and_255_are_one_object(tmp_path: Path) -> None:
    for folder in (tmp_path / "truth", tmp_path / "predicted"):
        folder.mkdir()
        for index, mask in enumerate(clip(0)):
            cv2.imwrite(str(folder / f"{index:05d}.png"), np.where(mask > 0, 255, 0).astype("u1"))
    score = evaluate_folders(tmp_path / "truth", tmp_path / "predicted")
    assert len(score.objects) == 1
    assert score.j_and_f == 1


def test_binary_scores_ids_as_one_object(roots: tuple[Path, Path]) -> None:
    score = evaluate_folders(*roots, ["cows"], binary=True)
    assert score.sequences == (score_sequence(clip(0), clip(10), name="cows", binary=True),)


def test_a_sequence_without_predictions_is_named(roots: tuple[Path, Path]) -> None:
    shutil.rmtree(roots[1] / "cows")
    with pytest.raises(EvaluationError, match=r"no predictions of cows .*1 of 2 sequences"):
        evaluate_folders(*roots)


def test_a_frame_without_prediction_is_named_before_anything_is_scored(
    roots: tuple[Path, Path],
) -> None:
    (roots[1] / "cows" / "00002.png").unlink()
    seen: list[SequenceScore] = []
    with pytest.raises(EvaluationError, match=r"frame 00002 of cows .*1 of 3 frames"):
        evaluate_folders(*roots, on_sequence=seen.append)
    assert seen == []


def test_a_prediction_of_another_size_is_named(roots: tuple[Path, Path]) -> None:
    write_palette_png(roots[1] / "cows" / "00002.png", clip(0)[0][:20])
    with pytest.raises(EvaluationError, match=r"frame 00002 of cows of shape \(20, 42\)"):
        evaluate_folders(*roots)


@pytest.mark.parametrize("where", [0, 1], ids=["ground truth", "prediction"])
def test_a_file_that_is_no_image_is_named(roots: tuple[Path, Path], where: int) -> None:
    folder = [roots[0] / "Annotations" / "480p", roots[1]][where]
    (folder / "cows" / "00002.png").write_bytes(b"no picture")
    with pytest.raises(EvaluationError, match=r"cows/00002\.png"):
        evaluate_folders(*roots)


def test_a_mask_in_colour_is_named(roots: tuple[Path, Path]) -> None:
    path = roots[1] / "cows" / "00001.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (30, 42, 3), np.uint8))
    with pytest.raises(EvaluationError, match=r"cows/00001\.png.*colour"):
        evaluate_folders(*roots)


def test_a_ground_truth_of_two_frames_is_refused(tmp_path: Path) -> None:
    write_clip(tmp_path / "swan", clip(0, frames=2))
    with pytest.raises(EvaluationError, match="fewer than 3 frames of ground truth of swan"):
        evaluate_folders(tmp_path, tmp_path)


def test_a_sequence_that_the_ground_truth_lacks_is_refused(roots: tuple[Path, Path]) -> None:
    with pytest.raises(EvaluationError, match=r"received goat .* boat, cows"):
        evaluate_folders(*roots, sequences=["goat"])


def test_no_sequence_at_all_is_refused(roots: tuple[Path, Path]) -> None:
    with pytest.raises(EvaluationError, match="received no name"):
        evaluate_folders(*roots, sequences=[])


def test_a_list_that_is_absent_is_refused(roots: tuple[Path, Path]) -> None:
    with pytest.raises(EvaluationError, match=r"received 2016/val\.txt .* cannot be read"):
        evaluate_folders(*roots, sequences=Path("2016/val.txt"))


def test_a_folder_without_masks_is_refused(roots: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(EvaluationError, match="empty, which holds no masks"):
        evaluate_folders(tmp_path / "empty", roots[1])
    with pytest.raises(EvaluationError, match="absent, which is no folder"):
        evaluate_folders(roots[0], tmp_path / "absent")


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "dev").is_dir(), reason=f"no development sequences in {DATA}")
@pytest.mark.slow
def test_copying_the_first_mask_scores_what_others_measured(tmp_path: Path) -> None:
    for folder in sorted((DATA / "dev" / "Annotations" / "480p").iterdir()):
        (tmp_path / folder.name).mkdir()
        masks = sorted(folder.glob("*.png"))
        for mask in masks:
            (tmp_path / folder.name / mask.name).symlink_to(masks[0].resolve())
    score = evaluate_folders(DATA / "dev", tmp_path)
    assert len(score.objects) == 8
    # The published figure has three digits.
    assert score.j_and_f == pytest.approx(0.163, abs=0.001)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b"], None),
        (["a", "c"], (1, 1)),
        (["c"], None),
        (["x"], None),
        (["a", "b", "c"], (2, 1)),
    ],
)
def test_lists_of_frames_tell_parts_too(
    tmp_path: Path, names: list[str], expected: tuple[int, int] | None
) -> None:
    """DAVIS-2016 lists frames, not sequences."""
    folder = tmp_path / "ImageSets" / "480p"
    folder.mkdir(parents=True)
    for part, sequences in (("train", "ab"), ("val", "c")):
        lines = (f"/JPEGImages/480p/{s}/0000{i}.jpg /x\n" for s in sequences for i in range(3))
        (folder / f"{part}.txt").write_text("".join(lines))
    found = find_mixed_parts(tmp_path, names)
    assert (None if found is None else (found.training, found.validation)) == expected


def test_without_lists_nothing_is_known_of_parts(tmp_path: Path) -> None:
    (tmp_path / "ImageSets" / "2017").mkdir(parents=True)
    (tmp_path / "ImageSets" / "2017" / "val.txt").write_text("a\n")
    assert find_mixed_parts(tmp_path, ["a"]) is None
