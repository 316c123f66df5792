"""What the hand draws covers what it should, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.vcedge.studio.square import BOX, HW, draw_frame, draw_truth, overlap
from vcedge.studio.drawing import Prompts, paint, put_object
from vcedge_runtime.errors import MaskError
from vcedge_runtime.prompts.segmenter import GRABCUT, PromptSegmenter

places = st.tuples(st.floats(-20, 120), st.floats(-20, 90))


@given(st.lists(places, min_size=1, max_size=6), st.floats(0.5, 30), st.integers(1, 255))
def test_a_stroke_covers_what_is_near_it_and_no_more(
    points: list[tuple[float, float]], radius: float, object_id: int
) -> None:
    painted = paint(np.zeros(HW, np.uint8), object_id, points, radius, erase=False)
    assert set(np.unique(painted)) <= {0, object_id}
    ys, xs = np.mgrid[: HW[0], : HW[1]]
    distance = np.full(HW, np.inf)
    for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[-1]], strict=True):
        along = np.array([x1 - x0, y1 - y0])
        length = float(along @ along)
        share = ((xs - x0) * along[0] + (ys - y0) * along[1]) / length if length else 0.0
        share = np.clip(share, 0, 1)
        near = np.hypot(xs - x0 - share * along[0], ys - y0 - share * along[1])
        distance = np.minimum(distance, near)
    # OpenCV draws lines of whole widths, up to a pixel and a half off.
    assert (painted[distance < radius - 2] == object_id).all()
    assert (painted[distance > radius + 2] == 0).all()


def test_a_stroke_takes_pixels_from_others_and_the_eraser_only_from_its_own() -> None:
    labels = np.full(HW, 7, np.uint8)
    painted = paint(labels, 3, [(40.0, 30.0)], 5, erase=False)
    assert painted[30, 40] == 3
    assert painted[0, 0] == 7
    assert (labels == 7).all()
    erased = paint(painted, 3, [(40.0, 30.0), (80.0, 30.0)], 9, erase=True)
    assert not (erased == 3).any()
    assert erased[30, 80] == 7
    assert erased[30, 40] == 0


def test_an_object_that_is_put_elsewhere_leaves_its_place() -> None:
    labels = draw_truth(0)
    found = np.zeros(HW, np.bool_)
    found[:5, :5] = True
    moved = put_object(labels, 1, found)
    np.testing.assert_array_equal(moved == 1, found)


class Answer:
    """Answers with one mask, and remembers what it was asked."""

    def __init__(self, labels: NDArray[np.uint8]) -> None:
        self.labels = labels
        self.asked: list[Any] = []

    def segment(self, frame: object, boxes: Any, clicks: Any, *, mask: Any) -> NDArray[np.uint8]:
        self.asked = [boxes, clicks, mask]
        return self.labels

    def close(self) -> None: ...


EMPTY = np.zeros(HW, np.uint8)


def test_a_box_around_the_square_finds_it() -> None:
    left, top, width, height = BOX
    wide = (left - 5.0, top - 5.0, width + 10.0, height + 10.0)
    found = Prompts(0, 4, EMPTY, box=wide).draw(draw_frame(0), PromptSegmenter.open(GRABCUT))
    assert set(np.unique(found)) == {0, 4}
    assert overlap(found, draw_truth(0)) > 0.9


def test_a_box_replaces_the_object_and_leaves_the_others() -> None:
    base = np.zeros(HW, np.uint8)
    base[:6, :6], base[-6:, -6:] = 4, 9
    wide = (25.0, 15.0, 34.0, 34.0)
    found = Prompts(0, 4, base, box=wide).draw(draw_frame(0), PromptSegmenter.open(GRABCUT))
    assert not (found[:6, :6] == 4).any()
    assert (found[-6:, -6:] == 9).all()


def test_where_nothing_is_found_it_is_said() -> None:
    with pytest.raises(MaskError, match="expected a box"):
        Prompts(0, 1, EMPTY, clicks=((5.0, 5.0, False),)).draw(
            EMPTY[..., None].repeat(3, 2), PromptSegmenter.open(GRABCUT)
        )


def test_what_is_known_is_told_and_its_box_holds_what_was_clicked() -> None:
    known, on, off = draw_truth(0), (90.0, 50.0, True), (2.0, 2.0, False)
    answer = Answer(known)
    Prompts(0, 1, known, clicks=(on, off)).draw(draw_frame(0), answer)
    assert answer.asked[:2] == [{1: (30.0, 20.0, 61.0, 31.0)}, {1: (on, off)}]
    assert answer.asked[2] is known
    Prompts(0, 1, known, clicks=(off,)).draw(draw_frame(0), answer)
    assert answer.asked[0] == {1: tuple(map(float, BOX))}
    Prompts(0, 1, EMPTY, clicks=(on,)).draw(draw_frame(0), answer)
    assert answer.asked == [{}, {1: (on,)}, None]
