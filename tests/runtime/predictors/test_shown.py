"""What stays in sight where a model gives nothing."""

from __future__ import annotations

import numpy as np

from vcedge_runtime.predictors.shown import Shown


def test_an_object_that_is_corrected_is_where_it_was_drawn_alone() -> None:
    mask = np.zeros((4, 6), np.uint8)
    mask[:2], mask[2:] = 1, 2
    shown = Shown(mask)
    corrected = np.zeros((4, 6), np.uint8)
    corrected[1:3, :2] = 255
    shown.draw(1, corrected)
    expected = np.zeros((4, 6), np.uint8)
    expected[2:], expected[1:3, :2] = 2, 1
    np.testing.assert_array_equal(shown.show_again([1, 2]).mask, expected)
    assert (mask[:2] == 1).all()
