"""Where a window that follows the objects lies, how fine it is, and when all of a frame is seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vcedge_runtime.frames.following import GROWTH, Following, FollowingWindow, FullWindow
from vcedge_runtime.frames.windows import Window

FRAME, GRID, STRIDE = (480, 848), (12, 21), 16
"""A frame of 480p at a working size of 192: 2.5 pixels of it to one of the working size."""


def begin(policy: FollowingWindow | None = None, **boxes: tuple[int, int, int, int]) -> Following:
    """Windows of a video whose first frame has objects at their top, left, bottom and right."""
    windows = Following(policy or FollowingWindow(), FRAME, GRID, STRIDE)
    ids = np.zeros(FRAME, np.uint8)
    for number, (top, left, bottom, right) in enumerate(boxes.values(), 1):
        ids[top:bottom, left:right] = number
    windows.begin(ids, list(range(1, 1 + len(boxes))))
    return windows


def show(windows: Following, window: Window, **boxes: tuple[int, int, int, int]) -> None:
    """Let objects be found, sure, at places of the frame; one of an empty box is not."""
    ids = np.zeros(FRAME, np.uint8)
    for number, (top, left, bottom, right) in enumerate(boxes.values(), 1):
        ids[top:bottom, left:right] = number
    part: NDArray[np.uint8] = ids[window.slices]
    scores = {n: 0.95 if (part == n).any() else 0.0 for n in range(1, 1 + len(boxes))}
    windows.see(window, part, scores)


def scale(window: Window) -> float:
    """Pixels of the frame to one of the working size."""
    return window.frame_hw[0] / window.span_hw[0] / STRIDE


def holds(window: Window, box: tuple[int, int, int, int]) -> bool:
    top, left, bottom, right = window.box
    return top <= box[0] and left <= box[1] and bottom >= box[2] and right >= box[3]


def test_whole_frames_are_looked_at_whole() -> None:
    windows = FullWindow().begin(FRAME, GRID, STRIDE)
    assert not FullWindow.moves
    assert windows.begin(np.ones(FRAME, np.uint8), [1]).is_whole
    windows.see(windows.choose(), np.zeros(FRAME, np.uint8), {1: 0.0})
    assert windows.states == {1: "absent"}
    assert windows.choose().is_whole


@given(st.integers(0, 400), st.integers(0, 760), st.integers(8, 300), st.integers(8, 300))
def test_the_first_window_holds_the_object_with_room_around_it(
    top: int, left: int, height: int, width: int
) -> None:
    box = (top, left, min(top + height, FRAME[0]), min(left + width, FRAME[1]))
    window = begin(one=box).last
    assert holds(window, box)
    assert window.grid_hw == GRID
    middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    for axis in (0, 1):
        wanted = 1.4 * (box[2 + axis] - box[axis]) / 2
        # As much as the frame has, but for half a cell to which windows are rounded.
        cell = window.frame_hw[axis] / window.span_hw[axis]
        first, last = middle[axis] - wanted, middle[axis] + wanted
        assert window.box[axis] <= max(0, first) + cell
        assert window.box[2 + axis] >= min(FRAME[axis], last) - cell


@pytest.mark.parametrize(
    ("side", "expected"),
    [
        # A large object is seen no finer than the frame's own pixels, ...
        (120, (1.0, 1.2)),
        # ... one of less than CELLS cells finer until it has them, ...
        (70, (0.7, 0.9)),
        # ... and none finer than the policy's finest.
        (20, (0.5, 0.6)),
    ],
)
def test_how_fine_a_window_is_depends_on_the_objects_size(
    side: int, expected: tuple[float, float]
) -> None:
    window = begin(one=(200, 400, 200 + side, 400 + side)).last
    assert expected[0] <= scale(window) <= expected[1]


def test_the_largest_object_decides_how_fine_it_may_be() -> None:
    small = begin(one=(200, 400, 220, 420)).last
    both = begin(one=(200, 400, 220, 420), two=(200, 430, 300, 530)).last
    assert scale(small) < 0.6
    assert scale(both) >= 1


def test_a_window_stays_while_the_object_moves_within_it() -> None:
    windows = begin(one=(200, 400, 300, 500))
    first = windows.last
    for step in range(4):
        window = windows.choose()
        assert window == first
        show(windows, window, one=(200 + step, 400, 300 + step, 500))


def test_it_moves_before_the_object_leaves_it() -> None:
    windows = begin(one=(200, 100, 300, 200))
    seen = set()
    for step in range(30):
        box = (200, 100 + 20 * step, 300, 200 + 20 * step)
        window = windows.choose()
        assert holds(window, box)
        seen.add(window.at)
        show(windows, window, one=box)
    # 580 pixels; a window of 1.2 pixels a cell of 16 shows 400.
    assert 3 <= len(seen) <= 12


def test_it_is_left_for_a_coarser_one_when_the_object_grows() -> None:
    windows = begin(one=(200, 400, 230, 430))
    assert scale(windows.last) < 0.6
    for side in range(30, 240, 6):
        box = (200, 400, 200 + side, 400 + side)
        window = windows.choose()
        show(windows, window, one=box)
        most = GROWTH * windows._policy.cells * STRIDE
        # As it was in the frame before.
        assert scale(window) >= min(1, (side - 6) / most) - 1e-6


def test_an_object_that_is_lost_is_looked_for_in_the_whole_frame_now_and_then() -> None:
    windows = begin(FollowingWindow(search=3), one=(200, 400, 260, 460), two=(220, 470, 280, 530))
    whole = []
    for _ in range(9):
        window = windows.choose()
        whole.append(window.is_whole)
        show(windows, window, one=(200, 400, 260, 460), two=(0, 0, 0, 0))
        assert windows.states == {1: "tracked", 2: "absent" if window.is_whole else "lost"}
    assert whole.count(True) == 3
    # Found again: no more whole frames.
    show(windows, windows.choose(), one=(200, 400, 260, 460), two=(220, 470, 280, 530))
    assert not any(windows.choose().is_whole for _ in range(6))


def test_with_nothing_in_sight_all_of_each_frame_is_looked_at() -> None:
    windows = begin(one=(200, 400, 260, 460))
    show(windows, windows.choose(), one=(0, 0, 0, 0))
    for _ in range(5):
        window = windows.choose()
        assert window.is_whole
        show(windows, window, one=(0, 0, 0, 0))
    show(windows, windows.choose(), one=(20, 40, 80, 100))
    assert holds(windows.choose(), (20, 40, 80, 100))
    assert not windows.choose().is_whole


def test_a_mask_of_which_the_model_is_not_sure_moves_nothing() -> None:
    windows = begin(one=(200, 400, 260, 460))
    window = windows.choose()
    mask = np.ones(FRAME, np.uint8)[window.slices]
    windows.see(window, mask, {1: 0.5})
    assert windows.states == {1: "tracked"}
    assert windows.choose().is_whole


def test_an_object_that_is_drawn_beyond_the_window_makes_it_grow() -> None:
    windows = begin(one=(200, 400, 260, 460))
    near, far = np.zeros(FRAME, np.uint8), np.zeros(FRAME, np.uint8)
    near[220:240, 420:440] = 1
    assert windows.include(2, near) == windows.last
    far[20:60, 20:60] = 1
    window = windows.include(3, far)
    assert holds(window, (20, 20, 60, 60))
    assert holds(window, (200, 400, 260, 460))
    for object_id in (3, 2):
        windows.forget(object_id)
    assert set(windows.states) == {1}
    assert holds(windows.choose(), (200, 400, 260, 460))


@pytest.mark.parametrize("frame_hw", [(1, 1), (3, 2000), (2160, 3840)])
def test_any_frame_has_a_window(frame_hw: tuple[int, int]) -> None:
    windows = FollowingWindow().begin(frame_hw, GRID, STRIDE)
    ids = np.zeros(frame_hw, np.uint8)
    ids[0, 0] = 1
    window = windows.begin(ids, [1])
    for _ in range(3):
        rows, columns = window.slices
        assert 0 <= rows.start < rows.stop <= frame_hw[0]
        assert 0 <= columns.start < columns.stop <= frame_hw[1]
        windows.see(window, ids[window.slices], {1: 1.0})
        window = windows.choose()


def test_an_object_that_shrinks_at_once_is_awaited_where_it_is() -> None:
    windows = begin(one=(20, 40, 460, 800))
    for box in ((120, 300, 300, 500), (120, 300, 300, 500)):
        show(windows, windows.choose(), one=box)
        assert holds(windows.choose(), box)
