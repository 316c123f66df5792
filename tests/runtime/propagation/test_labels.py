"""Soft labels: from masks, through the reader, and back to masks."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from vcedge_runtime.propagation.labels import (
    TRACE,
    clear_traces,
    labels_from_mask,
    mask_from_labels,
)
from vcedge_runtime.propagation.upsample import CubicUpsampler

CHANNEL_OF = {7: 1, 200: 2, 9: 4}
SIDES = st.integers(1, 60)
MASKS = hnp.arrays(np.uint8, st.tuples(SIDES, SIDES), elements=st.sampled_from([0, 7, 9, 200, 33]))
GRIDS = st.tuples(st.integers(2, 12), st.integers(2, 12))


@given(MASKS, GRIDS)
def test_every_cell_shares_itself_among_the_channels(
    mask: NDArray[np.uint8], grid_hw: tuple[int, int]
) -> None:
    labels = labels_from_mask(mask, CHANNEL_OF, grid_hw, 8)
    assert labels.shape == (*grid_hw, 8)
    assert labels.dtype == np.float32
    # Shares are sums of float32 weights, so rows may miss 1 in the last bits.
    np.testing.assert_allclose(labels.sum(axis=-1), 1, atol=1e-5)
    assert labels.min() > -1e-5
    assert not labels[..., [3, 5, 6, 7]].any()


def test_a_label_is_the_share_of_the_cell_that_the_object_covers() -> None:
    mask = np.zeros((8, 12), np.uint8)
    mask[:4, :4] = 7
    mask[0, 4:6] = 9
    labels = labels_from_mask(mask, CHANNEL_OF, (2, 3), 8)
    expected = np.zeros((2, 3, 8), np.float32)
    expected[..., 0] = [[0, 14 / 16, 1], [1, 1, 1]]
    expected[0, 0, 1] = 1
    expected[0, 1, 4] = 2 / 16
    np.testing.assert_allclose(labels, expected, atol=1e-6)


def test_ids_without_a_channel_are_background() -> None:
    mask = np.full((8, 8), 33, np.uint8)
    labels = labels_from_mask(mask, CHANNEL_OF, (2, 2), 8)
    np.testing.assert_array_equal(labels[..., 0], 1)


@given(MASKS, GRIDS)
def test_the_mask_holds_known_ids_alone_and_scores_are_shares(
    mask: NDArray[np.uint8], grid_hw: tuple[int, int]
) -> None:
    labels = labels_from_mask(mask, CHANNEL_OF, grid_hw, 8)
    decision = mask_from_labels(labels, CHANNEL_OF, CubicUpsampler(mask.shape))
    assert decision.mask.shape == mask.shape
    assert decision.mask.dtype == np.uint8
    assert set(np.unique(decision.mask)) <= {0, *CHANNEL_OF}
    assert set(decision.scores) == set(CHANNEL_OF)
    for object_id, score in decision.scores.items():
        assert 0 <= score <= 1
        assert (score > 0) == bool((decision.mask == object_id).any())


@pytest.mark.parametrize("stride", [1, 4, 8])
def test_a_mask_of_whole_cells_comes_back_but_for_its_border(stride: int) -> None:
    cells = np.zeros((9, 12), np.uint8)
    cells[2:7, 1:5] = 7
    cells[3:9, 7:11] = 200
    mask = np.kron(cells, np.ones((stride, stride), np.uint8))
    labels = labels_from_mask(mask, CHANNEL_OF, (9, 12), 8)
    found = mask_from_labels(labels, CHANNEL_OF, CubicUpsampler(mask.shape)).mask
    # Cubic interpolation rounds a corner by less than a tenth of a cell's area.
    assert (found != mask).mean() < 0.01


@given(
    hnp.arrays(np.float32, (6, 9, 4), elements=st.floats(0, 1, width=32)),
    st.sampled_from([{1: 1}, {9: 2, 4: 1}, {3: 3, 1: 1, 2: 2}]),
    st.tuples(st.integers(5, 80), st.integers(5, 80)),
)
def test_each_pixel_has_the_object_of_the_largest_share(
    labels: NDArray[np.float32], channel_of: dict[int, int], frame_hw: tuple[int, int]
) -> None:
    labels[:2] = 0  # so that some of the frame shows nothing
    labels[..., 1:] /= np.maximum(1, labels[..., 1:].sum(axis=-1, keepdims=True))
    found = mask_from_labels(labels, channel_of, CubicUpsampler(frame_hw))
    planes = [np.ascontiguousarray(labels[..., channel]) for channel in channel_of.values()]
    sizes = frame_hw[::-1]
    shares = np.stack([cv2.resize(p, sizes, interpolation=cv2.INTER_CUBIC) for p in planes])
    every = np.concatenate([1 - shares.sum(axis=0)[None], shares])
    first, second = np.sort(every, axis=0)[[-1, -2]]
    expected = np.array([0, *channel_of], np.uint8)[every.argmax(axis=0)]
    # OpenCV before 5 rounds the places of a part to a 32nd of a cell.
    clear = first - second > 0.1
    np.testing.assert_array_equal(found.mask[clear], expected[clear])
    for object_id, share in zip(channel_of, shares, strict=True):
        own = found.mask == object_id
        mean = min(1.0, float(share[own].mean())) if own.any() else 0.0
        assert found.scores[object_id] == pytest.approx(mean, abs=0.05)


def test_on_equal_labels_the_background_wins() -> None:
    labels = np.zeros((3, 3, 4), np.float32)
    labels[..., :2] = 0.5
    decision = mask_from_labels(labels, {5: 1}, CubicUpsampler((24, 24)))
    assert not decision.mask.any()
    assert decision.scores == {5: 0.0}


@given(
    hnp.arrays(np.float32, (3, 4, 5), elements=st.sampled_from([0, 2e-4, 9e-4, 1e-3, 0.01, 0.2]))
)
def test_traces_go_to_the_background_and_the_rest_stays(labels: NDArray[np.float32]) -> None:
    labels[..., 0] = 1 - labels[..., 1:].sum(axis=-1)
    cleared = labels.copy()
    clear_traces(cleared)
    kept = labels[..., 1:] >= TRACE
    np.testing.assert_array_equal(cleared[..., 1:], np.where(kept, labels[..., 1:], 0))
    # One sum of five float32 numbers in another order.
    np.testing.assert_allclose(cleared.sum(axis=-1), 1, atol=1e-6)
