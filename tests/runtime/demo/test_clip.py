from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vcedge_runtime.demo.clip import CAST, DemoClip, render_demo_clip
from vcedge_runtime.errors import SourceError

SMALL = (120, 214)


@pytest.fixture(scope="module")
def clip() -> DemoClip:
    return render_demo_clip(frame_hw=SMALL)


@pytest.mark.parametrize("objects", range(1, len(CAST) + 1))
@settings(max_examples=8)
@given(
    height=st.integers(64, 200),
    width=st.integers(64, 200),
    seed=st.integers(0, 2**32),
)
def test_every_object_is_seen_in_the_first_frame_of_any_size(
    objects: int, height: int, width: int, seed: int
) -> None:
    clip = render_demo_clip(frames=1, frame_hw=(height, width), seed=seed, objects=objects)
    [(image, labels)] = clip
    assert image.dtype == labels.dtype == np.uint8
    assert image.shape == (height, width, 3)
    assert labels.shape == (height, width)
    assert clip.object_ids == tuple(range(1, objects + 1))
    assert set(np.unique(labels)) == {0, *clip.object_ids}


def test_the_same_seed_gives_the_same_frames_in_any_order(clip: DemoClip) -> None:
    again = render_demo_clip(frame_hw=SMALL)
    in_order = [frame for frame, _ in zip(clip, range(4), strict=False)]
    for time in (3, 0):
        for array, other in zip(again.render(time), in_order[time], strict=True):
            np.testing.assert_array_equal(array, other)


def test_another_seed_gives_other_pixels_on_the_same_paths(clip: DemoClip) -> None:
    image, labels = clip.render(5)
    other_image, other_labels = render_demo_clip(frame_hw=SMALL, seed=1).render(5)
    assert (image != other_image).mean() > 0.5
    # The strand's leaves are the only outlines that come from noise.
    assert (labels != other_labels).mean() < 0.05


def test_speed_does_not_depend_on_the_number_of_frames(clip: DemoClip) -> None:
    short = render_demo_clip(frames=6, frame_hw=SMALL)
    np.testing.assert_array_equal(short.render(4)[0], clip.render(4)[0])
    assert len(list(short)) == len(short) == short.length == 6


def test_no_frame_is_drawn_before_it_is_asked_for() -> None:
    endless = render_demo_clip(frames=10**9, frame_hw=SMALL)
    assert next(iter(endless))[0].shape == (*SMALL, 3)


def test_masks_are_exact_an_object_changes_the_picture_in_its_own_mask_alone(
    clip: DemoClip,
) -> None:
    alone = render_demo_clip(frame_hw=SMALL, objects=1)
    for time in (0, 20, 40):
        image, labels = clip.render(time)
        without, labels_without = alone.render(time)
        changed = (image != without).any(axis=2)
        second = labels == 2
        np.testing.assert_array_equal(np.where(second, 0, labels), labels_without)
        # Beyond the mask lies the anti-aliased rim: pixels of which the object has under a half;
        # a few more show it through the narrow gaps between the strand's leaves.
        assert changed[~_grow(second, 2)].mean() < 0.001
        assert changed[second].mean() > 0.99


def _grow(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    kernel = np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8)
    return cv2.dilate(mask.astype(np.uint8), kernel) > 0


def test_the_strand_hides_a_part_of_the_fish_and_the_fish_a_part_of_the_submarine(
    clip: DemoClip,
) -> None:
    fish_parts, hidden = [], []
    alone = render_demo_clip(frame_hw=SMALL, objects=1)
    for time in range(0, 60, 6):
        labels = clip.render(time)[1]
        parts = cv2.connectedComponentsWithStats((labels == 1).astype(np.uint8))[2][1:]
        fish_parts.append(sum(int(area) > 40 for area in parts[:, cv2.CC_STAT_AREA]))
        hidden.append((_grow(labels == 2, 1) & (alone.render(time)[1] == 1)).sum())
    assert max(fish_parts) >= 2
    assert fish_parts[0] == 1
    assert max(hidden) > 10


def test_everything_moves_from_frame_to_frame_but_not_far(clip: DemoClip) -> None:
    centres = [
        [np.argwhere(labels == number).mean(axis=0) for number in clip.object_ids]
        for _, labels in (clip.render(time) for time in range(8))
    ]
    steps = np.linalg.norm(np.diff(np.array(centres), axis=0), axis=2)
    assert steps.max() < 0.05 * SMALL[1]
    assert (steps.max(axis=0) > 0.3).all()


def test_the_camera_moves() -> None:
    clip = render_demo_clip(frame_hw=SMALL, objects=1)
    sky = [cv2.GaussianBlur(clip.render(time)[0][:30, -60:], (0, 0), 2) for time in (0, 10)]
    # The blur leaves less than 1 of 255 of the sensor's noise.
    assert np.abs(sky[0].astype(float) - sky[1]).mean() > 2


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        ({"frames": 0}, "frames=0"),
        ({"frame_hw": (480, 63)}, r"\(480, 63\)"),
        ({"objects": 0}, "objects=0"),
        ({"objects": 7}, "1 to 6"),
    ],
)
def test_a_number_out_of_its_range_is_named(request_: dict[str, int], named: str) -> None:
    with pytest.raises(SourceError, match=named):
        render_demo_clip(**request_)  # type: ignore[arg-type]
