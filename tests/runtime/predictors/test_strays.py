"""What comes into a window apart from an object that is where it was."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge_runtime.buffers import Block
from vcedge_runtime.frames.windows import Window
from vcedge_runtime.predictors.strays import clear_strays, find_fresh

FRAME, GRID, HW = (480, 640), (6, 8), (96, 128)
WHOLE = Window(FRAME, GRID, GRID)
LEFT = Window(FRAME, GRID, (12, 16), (3, 0))
"""Half of the frame's sides, at its left edge: rows 120 to 360, columns 0 to 320."""
Spot = tuple[int, int, int, int]
"""Rows from and to, columns from and to, in a window's pixels."""


def shares_of(*spots: tuple[Spot, float]) -> Block:
    """One object in some rectangles, as surely as said."""
    block = Block((2, *HW), None)
    for (top, bottom, left, right), share in spots:
        block.host[1, top:bottom, left:right] = share
    block.host[0] = 1 - block.host[1]
    return block


def left_over(
    found: Block, last: Block, former: Window, window: Window, places: tuple[int, ...] = (0,)
) -> NDArray[np.float32]:
    """The object's shares after strays were cleared, which all still sum to 1."""
    clear_strays(places, found, last.host, former, window)
    np.testing.assert_allclose(found.host.sum(axis=0), 1, rtol=1e-6)
    return found.host[1]


OBJECT: Spot = (30, 60, 20, 50)
"""Seen through LEFT; through WHOLE it is half as large: rows 39 to 54, columns 10 to 25."""
NOW: Spot = (39, 54, 10, 25)
FAR: Spot = (10, 30, 100, 120)


def test_what_only_the_larger_window_shows_is_not_taken_for_an_object_that_is_in_sight() -> None:
    found = shares_of((NOW, 0.95), (FAR, 0.95))
    kept = left_over(found, shares_of((OBJECT, 0.95)), LEFT, WHOLE)
    np.testing.assert_array_equal(kept, shares_of((NOW, 0.95)).host[1])


def test_nothing_changes_where_both_windows_show_everything() -> None:
    found = shares_of((NOW, 0.95), (FAR, 0.95))
    kept = left_over(found, shares_of((NOW, 0.95)), WHOLE, WHOLE)
    np.testing.assert_array_equal(kept, shares_of((NOW, 0.95), (FAR, 0.95)).host[1])


@pytest.mark.parametrize("share", [0.4, 0.85])
def test_one_that_is_not_surely_where_it_was_may_be_elsewhere(share: float) -> None:
    found = shares_of((NOW, share), (FAR, 0.95))
    kept = left_over(found, shares_of((OBJECT, 0.95)), LEFT, WHOLE)
    assert kept[FAR[0], FAR[2]] == np.float32(0.95)


def test_one_that_was_nowhere_is_found_wherever_it_is() -> None:
    found = shares_of((NOW, 0.95), (FAR, 0.95))
    kept = left_over(found, shares_of((OBJECT, 0.3)), LEFT, WHOLE)
    assert kept[FAR[0], FAR[2]] == np.float32(0.95)


def test_one_that_went_out_of_the_window_whole_is_followed() -> None:
    kept = left_over(shares_of((FAR, 0.95)), shares_of((OBJECT, 0.95)), LEFT, WHOLE)
    assert (kept == shares_of((FAR, 0.95)).host[1]).all()


def test_what_is_joined_to_the_object_or_near_it_stays() -> None:
    # Through LEFT its longer side is 30 pixels, 15 through WHOLE: 6 of these are near.
    grown, near = (39, 54, 10, 120), (20, 36, 20, 90)
    for spot in (grown, near):
        found = shares_of((NOW, 0.95), (spot, 0.95))
        before = found.host[1].copy()
        np.testing.assert_array_equal(
            left_over(found, shares_of((OBJECT, 0.95)), LEFT, WHOLE), before
        )


def test_what_comes_in_over_a_windows_edge_is_cleared_and_what_is_inside_is_not() -> None:
    # The right edge of LEFT is none of the frame's, its left one is.
    edge, frames_edge, inside = (10, 20, 115, 128), (80, 96, 0, 6), (70, 76, 90, 100)
    spots = ((OBJECT, 0.95), (edge, 0.9), (frames_edge, 0.9), (inside, 0.9))
    kept = left_over(shares_of(*spots), shares_of((OBJECT, 0.95)), LEFT, LEFT)
    assert (kept[10:20, 115:128] == 0).all()
    assert kept[70, 90] == np.float32(0.9)
    # At the bottom, where the window ends too.
    assert (kept[80:96, 0:6] == 0).all()
    upper = (20, 60, 0, 6)
    kept = left_over(
        shares_of(((30, 60, 80, 100), 0.95), (upper, 0.9)),
        shares_of(((30, 60, 80, 100), 0.95)),
        LEFT,
        LEFT,
    )
    assert kept[20, 0] == np.float32(0.9)


def test_every_object_is_looked_at_by_itself() -> None:
    found, last = Block((3, *HW), None), Block((3, *HW), None)
    last.host[1, 30:60, 20:50] = last.host[2, 70:90, 20:50] = 0.95
    found.host[1, 39:54, 10:25] = found.host[2, 10:30, 100:120] = 0.95
    for block in (found, last):
        block.host[0] = 1 - block.host[1:].sum(axis=0)
    before = found.host.copy()
    clear_strays((0, 1), found, last.host, LEFT, WHOLE)
    # The first is where it was; the second is there alone.
    np.testing.assert_array_equal(found.host, before)


# Of LEFT a key cell at the top, at the bottom and at the right: 2 of 6 rows, of the rest 1 of 8.
@pytest.mark.parametrize(
    ("former", "window", "share"),
    [(WHOLE, WHOLE, 0.0), (LEFT, WHOLE, 0.75), (WHOLE, LEFT, 1 / 3 + 2 / 3 / 8)],
    ids=["whole", "out", "in"],
)
def test_fresh_is_what_was_not_shown_and_what_lies_at_the_windows_own_edges(
    former: Window, window: Window, share: float
) -> None:
    assert find_fresh(former, window, HW).mean() == pytest.approx(share)
