"""Masks of what stands out are kept where they come back as they went."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge.training.self_labels import SelfLabelSettings, find_objects, label_video
from vcedge_runtime.errors import TrainingError

Picture = NDArray[np.uint8]
FRAMES, HW, SIDE = 20, (48, 120), 14


def draw(step: int, *, second: bool = False, right: int = 4) -> Picture:
    """A bright square that moves to the right, and a darker one that stands still; the blue
    channel tells the step."""
    image = np.zeros((*HW, 3), np.uint8)
    image[10 : 10 + SIDE, max(0, right * step) : right * step + SIDE, 1] = 200
    if second:
        image[30 : 30 + 10, 50:60, 2] = 200
    image[..., 0] = step
    return image


def square(image: Picture) -> NDArray[np.bool_]:
    return image[..., 1] > 100


def still(image: Picture) -> NDArray[np.bool_]:
    return image[..., 2] > 100


class Finder:
    """Sees both squares; as sure as it is told."""

    def __init__(self, sure: float = 0.9, second: float = 0.9) -> None:
        self._sure, self._second = sure, second

    def find_salient(self, frame: Picture) -> NDArray[np.float32]:
        both = np.where(square(frame), self._sure, 0) + np.where(still(frame), self._second, 0)
        return both.astype(np.float32)

    def segment(
        self,
        frame: Picture,
        boxes: Mapping[int, tuple[float, float, float, float]],
        *,
        required: bool,
    ) -> Picture:
        assert not required
        ids = np.zeros(HW, np.uint8)
        for object_id, (left, top, width, height) in boxes.items():
            part = np.s_[int(top) : int(top + height), int(left) : int(left + width)]
            ids[part][(square(frame) | still(frame))[part]] = object_id
        return ids


@dataclass
class _Result:
    mask: Picture


class Tracker:
    """Follows the squares, and errs as it is told.

    Args:
        spoil: of each step, given the frame's number, the direction, and the right mask.
    """

    def __init__(
        self, spoil: Callable[[int, int, Picture], Picture] = lambda step, way, mask: mask
    ) -> None:
        self._spoil = spoil

    def start(self, frame: Picture, mask: Picture) -> None:
        self._at = int(frame[0, 0, 0])
        self._ids = [int(mask[see(frame)].max(initial=0)) for see in (square, still)]

    def step(self, frame: Picture) -> _Result:
        step = int(frame[0, 0, 0])
        way, self._at = step - self._at, step
        mask = np.where(square(frame), self._ids[0], 0)
        mask = np.where(still(frame), self._ids[1], mask).astype(np.uint8)
        return _Result(self._spoil(step, way, mask))


def clip(**how: object) -> list[Picture]:
    return [draw(step, **how) for step in range(FRAMES)]  # type: ignore[arg-type]


def test_what_stands_out_is_followed_over_the_whole_video() -> None:
    frames = clip()
    found = label_video(frames, Tracker(), Finder())
    assert found is not None
    assert (found.first, found.objects, found.agreed) == (0, 1, 1.0)
    np.testing.assert_array_equal(found.masks, [square(frame) for frame in frames])


def test_frames_in_which_the_way_back_is_another_one_are_left_out() -> None:
    def drift(step: int, way: int, mask: Picture) -> Picture:
        return np.roll(mask, 9, axis=0) if way > 0 and step > 14 else mask

    found = label_video(clip(), Tracker(drift), Finder())
    assert found is not None
    assert (found.first, len(found.masks)) == (0, 15)


def test_the_beginning_too_is_left_out_where_the_ways_differ() -> None:
    def drift(step: int, way: int, mask: Picture) -> Picture:
        return np.roll(mask, 9, axis=0) if way < 0 and step < 4 else mask

    # The surest frame is in the middle.
    class Middle(Finder):
        def find_salient(self, frame: Picture) -> NDArray[np.float32]:
            sure = 0.9 if frame[0, 0, 0] == 10 else 0.85
            return np.where(square(frame), np.float32(sure), np.float32(0))

    found = label_video(clip(), Tracker(drift), Middle())
    assert found is not None
    assert found.first == 4
    np.testing.assert_array_equal(found.masks, [square(frame) for frame in clip()[4:]])


def test_nothing_is_said_of_frames_after_an_object_left() -> None:
    frames = clip(right=9)  # it is out of the picture from frame 14 on
    assert not square(frames[14]).any()
    found = label_video(frames, Tracker(), Finder())
    assert found is not None
    assert (found.first, len(found.masks)) == (0, 14)


def test_pixels_that_differ_are_void() -> None:
    def fray(step: int, way: int, mask: Picture) -> Picture:
        frayed = mask.copy()
        frayed[10] = 0
        return frayed if way < 0 else mask

    found = label_video(clip(), Tracker(fray), Finder())
    assert found is not None
    assert found.objects == 1
    # The first and the last are the masks that the ways began with.
    for step in range(1, FRAMES - 1):
        columns = slice(4 * step, 4 * step + SIDE)
        assert (found.masks[step][10, columns] == 255).all()
        assert (found.masks[step][11, columns] == 1).all()


def test_an_object_that_is_lost_early_takes_no_frames_of_the_others() -> None:
    def lose(step: int, way: int, mask: Picture) -> Picture:
        return np.where((mask == 2) & (way > 0) & (step > 4), 0, mask).astype(np.uint8)

    found = label_video(clip(second=True), Tracker(lose), Finder())
    assert found is not None
    assert len(found.masks) == FRAMES
    np.testing.assert_array_equal(found.masks, [square(frame) for frame in clip()])


def test_two_objects_that_stay_are_both_kept() -> None:
    found = label_video(clip(second=True), Tracker(), Finder())
    assert found is not None
    assert found.objects == 2
    assert (found.masks[3] == 2).sum() == 100


@pytest.mark.parametrize("finder", [Finder(0.7, 0.7), Finder(0.0, 0.0)])
def test_where_nothing_is_sure_nothing_is_kept(finder: Finder) -> None:
    assert label_video(clip(), Tracker(), finder) is None


def test_a_video_of_which_too_little_agrees_is_left_out() -> None:
    def drift(step: int, way: int, mask: Picture) -> Picture:
        return np.roll(mask, 9, axis=0) if way > 0 and step > 5 else mask

    assert label_video(clip(), Tracker(drift), Finder()) is None
    loose = SelfLabelSettings(fewest=6)
    found = label_video(clip(), Tracker(drift), Finder(), loose)
    assert found is not None
    assert len(found.masks) == 6


def test_an_object_that_its_own_box_does_not_give_is_no_whole() -> None:
    class Halving(Finder):
        def segment(self, frame: Picture, boxes: object, *, required: bool) -> Picture:
            ids = np.zeros(HW, np.uint8)
            ids[10 : 10 + SIDE // 2] = square(frame)[10 : 10 + SIDE // 2]
            return ids

    ids, sure = find_objects(draw(0), Halving(), SelfLabelSettings())
    assert not ids.any()
    assert sure == 0


@pytest.mark.parametrize(
    "wrong",
    [{"sure": float("nan")}, {"agreed": 0.0}, {"shares": (0.5, 0.1)}, {"fewest": 1}, {"looks": 0}],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(TrainingError, match="expected"):
        SelfLabelSettings(**wrong)  # type: ignore[arg-type]
