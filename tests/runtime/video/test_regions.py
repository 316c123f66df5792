"""Area, box and centroid, against the pixels themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from vcedge_runtime.video.regions import Region, measure_regions


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20))))
def test_objects_are_measured_as_their_pixels_say(labels: NDArray[np.uint8]) -> None:
    found = measure_regions(labels)
    assert list(found) == [i for i in np.unique(labels).tolist() if i > 0]
    for object_id, region in found.items():
        ys, xs = np.nonzero(labels == object_id)
        left, top, width, height = region.box
        assert region.area == ys.size
        assert (left, top) == (xs.min(), ys.min())
        assert (left + width - 1, top + height - 1) == (xs.max(), ys.max())
        assert region.centroid == pytest.approx((xs.mean(), ys.mean()))


def test_a_pixel_is_a_box_of_one_and_its_own_middle() -> None:
    labels = np.zeros((9, 9), np.uint8)
    labels[5, 3] = 255
    assert measure_regions(labels) == {255: Region(1, (3, 5, 1, 1), (3.0, 5.0))}


def test_what_is_measured_is_plain_numbers() -> None:
    [region] = measure_regions(np.ones((2, 3), np.uint8)).values()
    assert {type(value) for value in (region.area, *region.box)} == {int}
    assert {type(value) for value in region.centroid} == {float}
