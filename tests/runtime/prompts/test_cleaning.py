"""One whole mask, near what was said."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.prompts.cleaning import ROOM, clean_mask, keep_near_box
from vcedge_runtime.prompts.planes import Click


def make_parts(*boxes: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """A mask of rectangles, each top, bottom, left, right."""
    mask = np.zeros((100, 100), bool)
    for top, bottom, left, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


def test_nothing_is_far_from_the_box() -> None:
    chances = np.ones((100, 100), np.float32)
    keep_near_box(chances, (40, 40, 60, 60))
    y, x = np.nonzero(chances)
    reach = ROOM * 20 + 1
    assert 40 - reach - 1 < x.min() < 40
    assert 60 < x.max() + 1 < 60 + reach + 1
    assert (y.min(), y.max()) == (x.min(), x.max())


def test_specks_go_and_large_parts_stay() -> None:
    large, other, speck = (10, 60, 10, 60), (10, 60, 70, 90), (90, 93, 90, 93)
    found = clean_mask(make_parts(large, other, speck), [])
    np.testing.assert_array_equal(found, make_parts(large, other))


def test_of_clicks_alone_what_was_clicked_on_stays_however_small_and_nothing_else() -> None:
    large, clicked = (10, 60, 10, 60), (80, 86, 80, 86)
    found = clean_mask(make_parts(large, clicked), [Click(82, 82)])
    np.testing.assert_array_equal(found, make_parts(clicked))
    boxed = clean_mask(make_parts(large, clicked), [Click(82, 82)], boxed=True)
    np.testing.assert_array_equal(boxed, make_parts(large, clicked))


def test_a_click_on_nothing_changes_nothing() -> None:
    large = make_parts((10, 60, 10, 60))
    np.testing.assert_array_equal(clean_mask(large, [Click(5, 5), Click(500, 5)]), large)


def test_small_holes_are_filled_but_not_where_somebody_said_that_nothing_is() -> None:
    whole = make_parts((10, 60, 10, 60))
    holed = whole.copy()
    holed[30:33, 30:33] = False
    np.testing.assert_array_equal(clean_mask(holed, []), whole)
    np.testing.assert_array_equal(clean_mask(holed, [Click(31, 31, False)]), holed)


def test_large_holes_and_bays_at_the_edge_stay() -> None:
    ring = make_parts((0, 60, 0, 60))
    ring[20:40, 20:40] = False
    ring[0:3, 5:8] = False
    np.testing.assert_array_equal(clean_mask(ring, []), ring)


def test_an_empty_mask_stays_empty() -> None:
    assert not clean_mask(np.zeros((5, 5), bool), [Click(2, 2)]).any()
