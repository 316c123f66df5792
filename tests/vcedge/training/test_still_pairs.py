"""Pictures with masks beside them, as DUTS and FSS-1000 come."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge.training.object_clip_settings import ObjectClipSettings
from vcedge.training.object_clips import ClipPlan, StillClips
from vcedge.training.object_sources import load_stills
from vcedge_runtime.errors import TrainingError

MakeImage = Callable[..., NDArray[np.uint8]]


def write_pair(picture: Path, mask: Path, make_frame: MakeImage, make_mask: MakeImage) -> None:
    """A picture as JPEG, and its mask in grey levels."""
    for path in (picture, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(picture), make_frame(48, 64))
    cv2.imwrite(str(mask), cv2.blur(255 * make_mask(48, 64, 1), (3, 1)))


@pytest.fixture
def pairs(tmp_path: Path, make_frame: MakeImage, make_mask: MakeImage) -> Path:
    """A pair of every layout, a picture without a mask and a mask without a picture."""
    for picture, mask in (
        ("fss/abacus/1.jpg", "fss/abacus/1.png"),
        ("fss/apple/1.jpg", "fss/apple/1.png"),
        ("DUTS-TR/DUTS-TR-Image/a.jpg", "DUTS-TR/DUTS-TR-Mask/a.png"),
        ("ecssd/images/b.jpg", "ecssd/ground_truth_mask/b.png"),
    ):
        write_pair(tmp_path / picture, tmp_path / mask, make_frame, make_mask)
    (tmp_path / "fss" / "apple" / "2.png").touch()
    (tmp_path / "fss" / "apple" / "3.jpg").touch()
    return tmp_path


def test_pairs_of_every_layout_are_found_without_being_read(
    pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vcedge.training.still_pairs.read_picture", None)
    found = load_stills(pairs)
    names = {"abacus/1.jpg", "apple/1.jpg", "DUTS-TR-Image/a.jpg", "images/b.jpg"}
    assert {still.name for still in found} == names
    assert len(load_stills(pairs, lambda name: name.startswith("a"))) == 2


def test_a_pair_is_a_still_of_one_object(pairs: Path, make_mask: MakeImage) -> None:
    still = load_stills(pairs)[0]
    assert still.image.shape == (48, 64, 3)
    assert still.ids.dtype == np.uint8
    # Blurred along a line, and cut at half the brightness.
    np.testing.assert_array_equal(still.ids, make_mask(48, 64, 1))
    plan = ClipPlan(lambda _: 32, lambda _: 1, lambda _: 3)
    clip = StillClips(load_stills(pairs), 4, plan, ObjectClipSettings(), 0)[1]
    assert clip.images.shape == (3, 3, 32, 32)
    assert clip.ids.any()


def test_a_pair_that_does_not_fit_is_named(pairs: Path) -> None:
    still = next(still for still in load_stills(pairs) if still.name == "apple/1.jpg")
    cv2.imwrite(str(pairs / "fss" / "apple" / "1.png"), np.zeros((10, 10), np.uint8))
    with pytest.raises(TrainingError, match=r"1\.png of 10x10 pixels; expected 64x48"):
        _ = still.ids


def test_a_folder_without_a_pair_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"neither a manifest\.csv nor a picture with a mask"):
        load_stills(tmp_path)
