"""YTVOS-holdout: which frames of which object count, and how groups are averaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge.evaluation.youtube import ListedObject, ListedVideo
from vcedge.evaluation.youtube_score import read_categories, score_holdout
from vcedge_runtime.errors import EvaluationError

FRAMES = ("00000", "00005", "00010", "00015")
CAT = ListedObject(2, "cat", FRAMES)
OWL = ListedObject(9, "owl", FRAMES[1:])
VIDEOS = [ListedVideo("a", (CAT, OWL)), ListedVideo("b", (CAT,))]
Image = NDArray[np.uint8]


def draw(cat: int, owl: int | None = None) -> Image:
    """Draw a cat of 20x20 pixels and an owl of 20x10, that far to the right of their places."""
    mask = np.zeros((60, 80), np.uint8)
    mask[5:25, 5 + cat : 25 + cat] = 2
    if owl is not None:
        mask[35:55, 10 + owl : 20 + owl] = 9
    return mask


@pytest.fixture
def roots(tmp_path: Path, write_masks: Callable[..., None]) -> tuple[Path, Path]:
    """Ground truth that stands still; the predicted cat is off by 10 and the owl by 5 in ``a``."""
    truth, predicted = tmp_path / "train", tmp_path / "out"
    owls = dict.fromkeys(FRAMES[1:], 0)
    write_masks(truth / "Annotations" / "a", {n: draw(0, owls.get(n)) for n in FRAMES})
    write_masks(truth / "Annotations" / "b", {n: draw(0) for n in FRAMES})
    wrong = {FRAMES[0]: draw(30), FRAMES[1]: draw(10, 30)}
    wrong |= {n: draw(10, 5) for n in FRAMES[2:]}
    write_masks(predicted / "Annotations" / "a", wrong)
    write_masks(predicted / "Annotations" / "b", {n: draw(0) for n in FRAMES})
    return truth, predicted


def test_objects_are_scored_after_their_own_first_frames(roots: tuple[Path, Path]) -> None:
    score = score_holdout(roots[0], VIDEOS, roots[1])
    found = {(each.video, each.object_id): each for each in score.objects}
    assert {key: each.frames for key, each in found.items()} == {
        ("a", 2): 3,
        ("a", 9): 2,
        ("b", 2): 3,
    }
    assert found["a", 2].region == pytest.approx(10 / 30)
    assert found["a", 9].region == pytest.approx(5 / 15)
    assert found["b", 2].region == found["b", 2].boundary == 1


def test_groups_average_objects_and_the_whole_averages_groups(roots: tuple[Path, Path]) -> None:
    score = score_holdout(roots[0], VIDEOS, roots[1], ["owl"])
    groups = {group.name: group for group in score.groups}
    assert {name: group.objects for name, group in groups.items()} == {
        "all": 3,
        "seen": 2,
        "unseen": 1,
    }
    assert groups["seen"].region == pytest.approx((1 / 3 + 1) / 2)
    assert groups["unseen"].region == pytest.approx(1 / 3)
    four = [groups["seen"].region, groups["seen"].boundary]
    four += [groups["unseen"].region, groups["unseen"].boundary]
    assert score.overall == pytest.approx(np.mean(four))


def test_without_categories_or_with_one_side_alone_all_objects_weigh_the_same(
    roots: tuple[Path, Path],
) -> None:
    plain = score_holdout(roots[0], VIDEOS, roots[1])
    assert [group.name for group in plain.groups] == ["all"]
    assert plain.overall == plain.groups[0].j_and_f
    unseen = score_holdout(roots[0], VIDEOS, roots[1], ["owl", "cat"])
    assert [group.name for group in unseen.groups] == ["all", "unseen"]
    assert unseen.overall == plain.overall


def test_listed_frames_without_ground_truth_do_not_count(roots: tuple[Path, Path]) -> None:
    (roots[0] / "Annotations" / "a" / "00010.png").unlink()
    score = score_holdout(roots[0], VIDEOS, roots[1])
    assert [each.frames for each in score.objects] == [2, 1, 3]


def test_a_part_without_later_masks_cannot_be_scored(roots: tuple[Path, Path]) -> None:
    for path in roots[0].rglob("*.png"):
        if path.stem != "00000":
            path.unlink()
    with pytest.raises(EvaluationError, match="scored on the official server"):
        score_holdout(roots[0], VIDEOS, roots[1])


def test_missing_and_resized_predictions_are_named(
    roots: tuple[Path, Path], write_masks: Callable[..., None]
) -> None:
    place = roots[1] / "Annotations" / "a" / "00010.png"
    place.unlink()
    with pytest.raises(EvaluationError, match=r"a/00010\.png, which cannot be read"):
        score_holdout(roots[0], VIDEOS, roots[1])
    write_masks(roots[1] / "small", {"mask": draw(0)[:30]})
    (roots[1] / "small" / "mask.png").rename(place)
    with pytest.raises(EvaluationError, match=r"frame 00010 of a of \(30, 80\)"):
        score_holdout(roots[0], VIDEOS, roots[1])


def test_categories_are_read_by_line_and_must_occur(
    roots: tuple[Path, Path], tmp_path: Path
) -> None:
    path = tmp_path / "unseen.txt"
    path.write_text("owl\n\n polar bear \n")
    assert read_categories(path) == {"owl", "polar bear"}
    with pytest.raises(EvaluationError, match="expected some of: cat, owl"):
        score_holdout(roots[0], VIDEOS, roots[1], ["owls"])
    path.write_text("\n")
    with pytest.raises(EvaluationError, match="which is empty"):
        read_categories(path)
    with pytest.raises(EvaluationError, match="cannot be read"):
        read_categories(tmp_path / "none.txt")
