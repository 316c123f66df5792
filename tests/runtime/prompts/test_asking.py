"""What may be said of objects, and how it is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vcedge_runtime.errors import MaskError
from vcedge_runtime.prompts.asking import check_prompts
from vcedge_runtime.prompts.planes import Click

HW = (48, 64)


def test_an_object_may_have_a_box_and_clicks_and_ids_are_sorted() -> None:
    asked = check_prompts(HW, {7: (1, 2, 10, 20)}, {7: [(5, 6, 1)], 3: [(9, 9), (0, 0, False)]})
    assert list(asked) == [3, 7]
    assert asked[7].box == (1, 2, 11, 22)
    assert asked[7].clicks == (Click(5, 6, True),)
    assert asked[3].box is None
    assert asked[3].clicks == (Click(9, 9, True), Click(0, 0, False))
    assert asked[3].positive == (Click(9, 9, True),)


def test_a_box_is_cut_off_at_the_frame() -> None:
    assert check_prompts(HW, {1: (-5, -5, 100, 100)}, None)[1].box == (0, 0, 64, 48)


def test_numbers_may_be_of_numpy() -> None:
    boxes = {np.uint8(2): np.array([1, 2, 3, 4])}
    assert check_prompts(HW, boxes, {})[2].box == (1, 2, 4, 6)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("boxes", "clicks", "told"),
    [
        (None, None, "no box and no click"),
        ({}, {}, "no box and no click"),
        ({0: (1, 2, 3, 4)}, None, "received object id 0; expected 1 to 255"),
        ({256: (1, 2, 3, 4)}, None, "received object id 256"),
        ({"a": (1, 2, 3, 4)}, None, "received object id"),
        ({True: (1, 2, 3, 4)}, None, "received object id"),
        ({1: (1, 2, 3)}, None, "expected x, y, width and height"),
        ({1: "1234"}, None, "expected x, y, width and height"),
        ({1: (1, 2, 0, 4)}, None, "the latter two above 0"),
        ({1: (1, 2, float("nan"), 4)}, None, "expected x, y, width and height"),
        ({1: (64, 2, 5, 4)}, None, "no pixel of the frame"),
        ({1: (2, -9, 5, 4)}, None, "no pixel of the frame"),
        (None, {1: [(64, 5)]}, "outside the frame"),
        (None, {1: [(5, -1)]}, "outside the frame"),
        (None, {1: [(5,)]}, "expected x, y and whether"),
        (None, {1: [(5, 5, False)]}, "clicks off it alone"),
        (None, {1: []}, "clicks off it alone"),
        ((40, 30, 120, 80), None, r"by the id of their object, such as {1: \(40, 30"),
        (None, [(10, 10, True)], r"such as {1: \[\(100, 70, True"),
    ],
)
def test_what_cannot_be_is_refused(boxes: Any, clicks: Any, told: str) -> None:
    with pytest.raises(MaskError, match=told):
        check_prompts(HW, boxes, clicks)
