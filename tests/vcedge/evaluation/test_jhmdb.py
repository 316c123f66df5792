"""JHMDB on a small tree of the official layout."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge.evaluation.jhmdb import (
    JOINTS,
    evaluate_jhmdb,
    list_videos,
    person_scale,
    read_joints,
)
from vcedge_runtime.errors import EvaluationError, MissingExtraError
from vcedge_runtime.installing import how_to_install

HW, FRAMES = (48, 64), 4
SHIFT = (2.0, 1.0)
"""How the made joints move, in the images' pixels."""


@pytest.fixture(name="root")
def jhmdb_fixture(
    tmp_path: Path, make_frame: Callable[..., Any], write_images: Callable[..., None]
) -> Path:
    """Two test videos and one training video; joints move by ``SHIFT`` a frame."""
    savemat = pytest.importorskip("scipy.io", reason="JHMDB's files are MATLAB's").savemat
    root = tmp_path / "JHMDB"
    (root / "splits").mkdir(parents=True)
    (root / "splits" / "pour_test_split1.txt").write_text("water.avi 2\nmilk.avi 1\n")
    (root / "splits" / "stand_test_split1.txt").write_text("still.avi 2 \nold.avi 0\n")
    (root / "splits" / "stand_test_split2.txt").write_text("old.avi 2\n")
    for name in ("pour/water", "pour/milk", "stand/still"):
        (root / "joint_positions" / name).mkdir(parents=True)
        savemat(root / "joint_positions" / name / "joint_positions.mat", {"pos_img": matlab()})
        images = {f"{index + 1:05d}": make_frame(*HW, 2 * index) for index in range(FRAMES)}
        write_images(root / "Rename_Images" / name, images, ".png")
    return root


def made_joints() -> NDArray[np.float64]:
    """(T, 15, 2) x, y; the first joint lies outside of every frame."""
    steps = np.arange(FRAMES)[:, None, None] * np.array(SHIFT)
    places = np.stack([np.linspace(4, 40, 15), np.linspace(30, 5, 15)], axis=-1)
    places[0] = -20, 10
    return places + steps


def matlab() -> NDArray[np.float64]:
    """(2, 15, T), counted from 1."""
    return made_joints().transpose(2, 1, 0) + 1


def on_square(side: int) -> tuple[float, float]:
    return SHIFT[0] * side / HW[1], SHIFT[1] * side / HW[0]


def test_test_videos_of_all_classes_are_listed(root: Path) -> None:
    assert list_videos(root) == ["pour/water", "stand/still"]
    assert list_videos(root, 2) == ["stand/old"]


def test_joints_are_read_with_the_first_pixel_at_0(root: Path) -> None:
    path = root / "joint_positions" / "pour" / "water" / "joint_positions.mat"
    np.testing.assert_allclose(read_joints(path), made_joints())


def test_a_tracker_that_knows_the_motion_scores_1(
    root: Path, moving_points: Callable[..., Any]
) -> None:
    tracker = moving_points(on_square(80))
    done: list[str] = []
    score = evaluate_jhmdb(root, tracker, side=80, on_video=done.append)
    assert done == ["pour/water", "stand/still"]
    assert [frame.shape for frame in tracker.frames] == 2 * FRAMES * [(80, 80, 3)]
    assert list(tracker.started[0]) == list(JOINTS[1:])
    np.testing.assert_array_equal(score.later.mean, np.ones(5))
    np.testing.assert_array_equal(score.every.mean, np.ones(5))
    assert score.videos == 2
    # The joint outside of the first frame is lost, and does not count.
    assert score.lost == pytest.approx(1 / 15)
    assert score.later.points == 2 * 14 * (FRAMES - 1)
    assert score.every.points == 2 * 14 * FRAMES


def test_positions_are_stretched_about_pixel_centres(
    root: Path, moving_points: Callable[..., Any]
) -> None:
    tracker = moving_points(on_square(80))
    evaluate_jhmdb(root, tracker, side=80)
    x, y = made_joints()[0, 5]
    found = tracker.started[0][JOINTS[5]]
    assert found == pytest.approx(((x + 0.5) * 80 / 64 - 0.5, (y + 0.5) * 80 / 48 - 0.5))


def test_joints_that_stand_still_score_the_frames_in_which_they_are_near(
    root: Path, moving_points: Callable[..., Any]
) -> None:
    score = evaluate_jhmdb(root, moving_points((0.0, 0.0)), side=80)
    unit = 0.6 * np.hypot(*np.ptp(made_joints()[0, 1:], axis=0))
    off = np.arange(1, FRAMES) * np.hypot(*SHIFT) / unit
    expected = [(off <= threshold).mean() for threshold in (0.1, 0.2, 0.3, 0.4, 0.5)]
    assert 0 < expected[0] < 1
    np.testing.assert_allclose(score.later.mean, expected)
    first = [(1 + 3 * rate) / 4 for rate in expected]
    np.testing.assert_allclose(score.every.mean, first)


def test_a_lost_joint_neither_counts_nor_stretches_the_box(
    root: Path, moving_points: Callable[..., Any]
) -> None:
    score = evaluate_jhmdb(root, moving_points(on_square(80), ("face",)), side=80)
    assert score.later.counted[JOINTS.index("face")] == 0
    assert score.lost == pytest.approx(2 / 15)
    np.testing.assert_array_equal(score.later.mean, np.ones(5))


def test_the_unit_is_six_tenths_of_the_diagonal_of_the_joints_that_count() -> None:
    joints = np.array([[(0.0, 0.0), (30.0, 40.0), (900.0, 0.0)]] * 3)
    counted = np.array([[True, True, False], [True, False, False], [False, False, False]])
    np.testing.assert_allclose(person_scale(joints, counted), [30, 0, 0])


def test_what_is_missing_is_named(root: Path, moving_points: Callable[..., Any]) -> None:
    tracker = moving_points((0.0, 0.0))
    with pytest.raises(EvaluationError, match="names no test video of split 3"):
        evaluate_jhmdb(root, tracker, split=3)
    with pytest.raises(EvaluationError, match=r"joint_positions\.mat, which cannot be read"):
        evaluate_jhmdb(root, tracker, split=2)
    (root / "Rename_Images" / "pour" / "water" / "00004.png").unlink()
    with pytest.raises(EvaluationError, match="3 images of pour/water; expected 4"):
        evaluate_jhmdb(root, tracker)
    (root / "Rename_Images" / "pour" / "water").rename(root / "elsewhere")
    with pytest.raises(EvaluationError, match="lacks Rename_Images/pour/water"):
        evaluate_jhmdb(root, tracker)


def test_a_file_of_another_kind_is_refused(root: Path, tmp_path: Path) -> None:
    from scipy.io import savemat

    (tmp_path / "text.mat").write_bytes(b"no matrix, but long enough to have a header" * 8)
    with pytest.raises(EvaluationError, match=r"text\.mat, which cannot be read"):
        read_joints(tmp_path / "text.mat")
    savemat(tmp_path / "other.mat", {"pos_img": np.zeros((3, 15, 4))})
    with pytest.raises(EvaluationError, match=r"\(3, 15, 4\); expected \(2, 15, T\)"):
        read_joints(tmp_path / "other.mat")
    savemat(tmp_path / "none.mat", {"pos_world": np.zeros((2, 15, 4))})
    with pytest.raises(EvaluationError, match=r"none\.mat, which cannot be read"):
        read_joints(tmp_path / "none.mat")


def test_without_scipy_the_mend_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(MissingExtraError, match=re.escape(how_to_install("eval"))):
        read_joints(tmp_path / "any.mat")
