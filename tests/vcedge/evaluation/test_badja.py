"""BADJA's joints on a small DAVIS tree, and on the development sequences where they are."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge.evaluation.badja import (
    average,
    evaluate_sequence,
    follow_with_flow,
    follow_with_tracker,
    read_annotations,
)
from vcedge_runtime.errors import EvaluationError

HW, FRAMES, SIDE, STEP = (96, 128), 6, 40, 3
ANNOTATED = (1, 3, 5)
DATA = Path(os.environ.get("VCEDGE_DATA") or Path(__file__).parents[4] / "shared" / "data")
Image = NDArray[np.uint8]


@pytest.fixture(name="root")
def davis_fixture(
    tmp_path: Path,
    make_frame: Callable[..., Image],
    write_images: Callable[..., None],
    write_masks: Callable[..., None],
) -> Path:
    """A texture with a square animal of 40x40 pixels; all of it moves by 3 pixels a frame."""
    root = tmp_path / "DAVIS"
    mask = np.zeros(HW, np.uint8)
    mask[30 : 30 + SIDE, 20 : 20 + SIDE] = 1
    names = [f"{index:05d}" for index in range(FRAMES)]
    frames = {name: make_frame(*HW, STEP * index) for index, name in enumerate(names)}
    write_images(root / "JPEGImages" / "480p" / "cat", frames)
    masks = {name: np.roll(mask, STEP * index, axis=1) for index, name in enumerate(names)}
    write_masks(root / "Annotations" / "480p" / "cat", masks)
    return root


@pytest.fixture(name="joints")
def joints_fixture(tmp_path: Path) -> Path:
    """Three joints; the first annotated frame hides the tail, the last one the ear."""
    rows = [
        {
            "frame": frame,
            "xy": [[30 + STEP * frame, 40], [50 + STEP * frame, 60], [0, 0]],
            "visible": [1, int(frame != 5), int(frame != 1)],
        }
        for frame in reversed(ANNOTATED)
    ]
    path = tmp_path / "joints.json"
    data = {"joint_names": ["paw", "ear", "tail"], "sequences": {"cat": rows}}
    path.write_text(json.dumps(data))
    return path


def test_annotations_come_in_the_order_of_their_frames(joints: Path) -> None:
    cat = read_annotations(joints)["cat"]
    assert cat.frames == ANNOTATED
    assert cat.joints == ("paw", "ear", "tail")
    assert cat.followed.tolist() == [0, 1]
    np.testing.assert_array_equal(cat.xy[0], [(33, 40), (53, 60), (0, 0)])


def test_a_tracker_that_knows_the_motion_is_right_from_the_first_annotated_frame_on(
    root: Path, joints: Path, moving_points: Callable[..., Any]
) -> None:
    tracker = moving_points((float(STEP), 0.0))
    score = evaluate_sequence(root, read_annotations(joints)["cat"], follow_with_tracker(tracker))
    assert len(tracker.frames) == 5
    assert tracker.started == [{"paw": (33.0, 40.0), "ear": (53.0, 60.0)}]
    # Paw and ear in frame 3, the paw alone in frame 5; with frame 1, two more.
    assert (score.later.points, score.every.points) == (3, 5)
    assert score.later.pooled.tolist() == score.every.mean.tolist() == [1, 1]
    assert score.median_error == pytest.approx(0, abs=1e-9)


def test_distances_are_in_roots_of_the_animals_area(
    root: Path, joints: Path, moving_points: Callable[..., Any]
) -> None:
    still = follow_with_tracker(moving_points((0.0, 0.0)))
    score = evaluate_sequence(root, read_annotations(joints)["cat"], still)
    # Off by 6 pixels in frame 3 and by 12 in frame 5; the unit is 40: 0.15 and 0.3.
    assert score.median_error == pytest.approx(0.15)
    np.testing.assert_allclose(score.later.pooled, [0, 2 / 3])
    np.testing.assert_allclose(score.later.mean, [0, (1 / 2 + 1) / 2])
    np.testing.assert_allclose(score.every.pooled, [2 / 5, 4 / 5])
    assert average([score, score]) == pytest.approx((2 / 3, 4 / 5))


def test_a_lost_joint_counts_as_wrong(
    root: Path, joints: Path, moving_points: Callable[..., Any]
) -> None:
    blind = follow_with_tracker(moving_points((float(STEP), 0.0), ("paw",)))
    score = evaluate_sequence(root, read_annotations(joints)["cat"], blind)
    assert score.later.points == 3
    np.testing.assert_allclose(score.later.pooled, [1 / 3, 1 / 3])


def test_the_flow_baseline_follows_a_texture(root: Path, joints: Path) -> None:
    score = evaluate_sequence(root, read_annotations(joints)["cat"], follow_with_flow())
    assert score.later.pooled.tolist() == [1, 1]


def test_what_is_missing_is_named(
    root: Path, joints: Path, moving_points: Callable[..., Any]
) -> None:
    cat = read_annotations(joints)["cat"]
    follow = follow_with_tracker(moving_points((0.0, 0.0)))
    masks = root / "Annotations" / "480p"
    (masks / "cat" / "00005.png").unlink()
    with pytest.raises(EvaluationError, match="5 masks of cat"):
        evaluate_sequence(root, cat, follow)
    (masks / "cat").rename(masks / "dog")
    with pytest.raises(EvaluationError, match="no masks of cat"):
        evaluate_sequence(root, cat, follow)
    (root / "JPEGImages" / "480p" / "cat" / "00005.jpg").unlink()
    with pytest.raises(EvaluationError, match="received 5 frames of cat; expected 6"):
        evaluate_sequence(root, cat, follow)
    (root / "JPEGImages" / "480p" / "cat").rename(root / "cat")
    with pytest.raises(EvaluationError, match="no frames of cat"):
        evaluate_sequence(root, cat, follow)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"joint_names": ["paw"], "sequences": {"cat": [{"frame": 0}]}}',
        '{"joint_names": ["paw"], "sequences": {"cat": [{"frame":0,"xy":[[1]],"visible":[1]}]}}',
        '{"joint_names": [], "sequences": {"cat": []}}',
    ],
)
def test_a_file_of_another_form_is_refused(joints: Path, text: str) -> None:
    joints.write_text(text)
    with pytest.raises(EvaluationError, match="cannot be read as joints"):
        read_annotations(joints)


def test_a_sequence_whose_first_annotation_shows_nothing_is_refused(
    root: Path, joints: Path, moving_points: Callable[..., Any]
) -> None:
    data = json.loads(joints.read_text())
    data["sequences"]["cat"][-1]["visible"] = [0, 0, 0]
    joints.write_text(json.dumps(data))
    with pytest.raises(EvaluationError, match="shows none"):
        evaluate_sequence(
            root,
            read_annotations(joints)["cat"],
            follow_with_tracker(moving_points((0.0, 0.0))),
        )


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "joints").is_dir(), reason=f"no animal joints in {DATA}")
def test_the_baseline_on_a_development_sequence_scores_what_was_measured() -> None:
    joints = read_annotations(DATA / "joints" / "badja_dev.json")
    score = evaluate_sequence(DATA / "dev", joints["dog-agility"], follow_with_flow())
    # 4 of 29 joints; builds of OpenCV may differ in one or two.
    assert score.later.points == 29
    assert score.later.pooled[1] == pytest.approx(0.138, abs=0.07)
