"""Boxes and clicks as planes."""

from __future__ import annotations

import numpy as np
import pytest

from vcedge_runtime.model.prompt_composition import PLANES
from vcedge_runtime.prompts.planes import Click, draw_planes


def test_a_box_is_filled_and_all_else_is_nothing() -> None:
    planes = draw_planes((20, 30), (4, 5, 10, 9), [], 2)
    assert planes.shape == (len(PLANES), 20, 30)
    assert planes.dtype == np.float32
    expected = np.zeros((20, 30))
    expected[5:9, 4:10] = 1
    np.testing.assert_array_equal(planes[PLANES.index("box")], expected)
    assert planes.sum() == expected.sum()


@pytest.mark.parametrize(("positive", "plane"), [(True, "positive"), (False, "negative")])
def test_a_click_is_a_disc_in_its_own_plane(positive: bool, plane: str) -> None:
    planes = draw_planes((20, 30), None, [Click(12, 8, positive)], 3)
    disc = planes[PLANES.index(plane)]
    y, x = np.nonzero(disc)
    assert (x.mean(), y.mean()) == (12, 8)
    assert ((x - 12) ** 2 + (y - 8) ** 2).max() <= 9
    assert disc[8, 15] == disc[5, 12] == 1
    assert planes.sum() == disc.sum()


@pytest.mark.parametrize("place", [(0, 0), (29, 19), (-10, 5), (5, 60)])
def test_a_disc_ends_at_the_edge(place: tuple[float, float]) -> None:
    planes = draw_planes((20, 30), None, [Click(*place)], 4)
    inside = 0 <= place[0] < 30 and 0 <= place[1] < 20
    assert bool(planes.any()) == inside


def test_a_box_that_leaves_the_plane_is_cut_off() -> None:
    planes = draw_planes((20, 30), (-8, -3, 6, 40), [], 2)
    assert planes[PLANES.index("box")].sum() == 6 * 20
