"""Objects found again by their keys, and the windows that follow them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vcedge_runtime.errors import BundleError
from vcedge_runtime.sampling.alignment import (
    AlignmentSettings,
    ObjectAligner,
    ObjectShifts,
    Template,
    mean_cosines,
)

GRID = (20, 30)
KEY_DIM = 16


def make_keys(frames: int, seed: int = 0) -> NDArray[np.float32]:
    """Make random keys, which resemble each other by chance alone, over a common direction."""
    rng = np.random.default_rng(seed)
    keys = rng.normal(size=(frames, *GRID, KEY_DIM)) + 0.5
    return keys.astype(np.float32)


def blob(top: int, left: int, side: int = 4) -> NDArray[np.float32]:
    """One object's soft labels, (h, w, 2)."""
    labels = np.zeros((*GRID, 2), np.float32)
    labels[..., 0] = 1
    labels[top : top + side, left : left + side] = (0, 1)
    return labels


def move(
    keys: NDArray[np.float32], top: int, left: int, shift: tuple[int, int], side: int = 4
) -> NDArray[np.float32]:
    """Copy a square of keys elsewhere."""
    moved = make_keys(1, seed=99)[0]
    row, column = top + shift[0], left + shift[1]
    moved[row : row + side, column : column + side] = keys[top : top + side, left : left + side]
    return moved


def align(
    query: NDArray[np.float32],
    keys: NDArray[np.float32],
    labels: NDArray[np.float32],
    *,
    joined: bool = False,
    **settings: float,
) -> ObjectShifts:
    """Align one query with all frames of a memory, in their order."""
    parts = AlignmentSettings(**settings)  # type: ignore[arg-type]
    aligner = ObjectAligner(parts, len(keys) + 1, GRID, KEY_DIM, joined=joined)
    for slot, key in enumerate([*keys, query]):
        aligner.look(slot, key)
    return aligner.align(range(len(keys)), keys, labels)


@given(row=st.integers(-6, 10), column=st.integers(-7, 15))
def test_an_object_that_moved_is_found_where_it_is(row: int, column: int) -> None:
    keys = make_keys(1)
    query = move(keys[0], 6, 8, (row, column))
    ((found,),) = align(query, keys, blob(6, 8)[None]).found
    assert found[1] == (row, column)


def test_the_last_frame_tells_where_an_older_one_is_to_be_looked_for() -> None:
    keys = make_keys(2)
    keys[1] = move(keys[0], 2, 2, (8, 12))
    query = move(keys[0], 2, 2, (10, 15))
    labels = np.stack([blob(2, 2), blob(10, 14)])
    (oldest,), (last,) = align(query, keys, labels, reach=4).found
    assert (oldest[1], last[1]) == ((10, 15), (2, 3))


def test_an_object_that_was_lost_is_looked_for_in_the_whole_frame() -> None:
    keys = make_keys(2)
    query = move(keys[0], 2, 2, (13, 21))
    labels = np.stack([blob(2, 2), np.zeros((*GRID, 2), np.float32)])
    (oldest,), last = align(query, keys, labels, reach=2).found
    assert oldest[1] == (13, 21)
    assert last == ()


def test_an_object_that_is_nowhere_keeps_its_place() -> None:
    keys = make_keys(2)
    labels = np.stack([blob(2, 2), np.zeros((*GRID, 2), np.float32)])
    (oldest,), _ = align(make_keys(1, seed=5)[0], keys, labels, sure=0.6).found
    assert oldest[1] == (0, 0)


def test_of_places_that_look_alike_the_expected_one_is_taken() -> None:
    keys = make_keys(1)
    query = move(keys[0], 8, 8, (1, 1))
    query[13:17, 22:26] = keys[0, 8:12, 8:12]
    ((found,),) = align(query, keys, blob(8, 8)[None]).found
    assert found[1] == (1, 1)


@pytest.mark.parametrize("cells", [0, 1, 2])
def test_an_object_of_fewer_than_three_cells_is_not_followed(cells: int) -> None:
    labels = np.zeros((1, *GRID, 2), np.float32)
    labels[0, 5, 5 : 5 + cells, 1] = 1
    assert align(make_keys(1)[0], make_keys(1), labels).found == ((),)


def test_faint_points_of_a_body_are_found_together() -> None:
    keys, labels = make_keys(1), np.zeros((1, *GRID, 5), np.float32)
    for channel, (row, column) in enumerate([(6, 8), (7, 11), (9, 9), (8, 10)], start=1):
        labels[0, row, column, channel] = 0.1 * channel
    labels[..., 0] = 1 - labels[..., 1:].sum(axis=-1)
    query = move(keys[0], 6, 8, (3, -4))
    assert align(query, keys, labels).found == ((),)
    ((found,),) = align(query, keys, labels, joined=True).found
    assert found[1] == (3, -4)


def test_each_tile_follows_the_object_that_is_expected_nearest() -> None:
    left, right = np.array([[5, 5], [6, 6]]), np.array([[5, 20], [6, 21]])
    shifts = ObjectShifts((((left, (0, 4)), (right, (3, 0))), ()))
    centres = np.array([[5.0, 9.0], [9.0, 20.0]])
    np.testing.assert_array_equal(shifts.of_queries(centres), [[[0, 4], [0, 0]], [[3, 0], [0, 0]]])
    # Seen from the reference, where the left object still stands at column 5.
    near = np.array([[5.0, 12.0], [5.0, 14.0]])
    np.testing.assert_array_equal(shifts.of_references(near)[:, 0], [[0, 4], [3, 0]])
    np.testing.assert_array_equal(shifts.of_queries(near)[:, 0], [[0, 4], [0, 4]])


def test_a_large_object_is_compared_by_a_part_of_its_cells() -> None:
    keys = make_keys(1)
    query = move(keys[0], 4, 4, (3, 5), side=12)
    ((found,),) = align(query, keys, blob(4, 4, 12)[None], cells=9).found
    assert len(found[0]) == 9
    assert found[1] == (3, 5)


def test_what_is_kept_does_not_grow() -> None:
    aligner = ObjectAligner(AlignmentSettings(), 3, GRID, KEY_DIM)
    before = aligner.nbytes
    aligner.look(0, make_keys(1)[0])
    aligner.align([0], make_keys(3), np.stack([blob(2, 2)] * 3))
    assert aligner.nbytes == before == 4 * KEY_DIM * (3 + GRID[0] * GRID[1])


@pytest.mark.parametrize("settings", [{"reach": 0}, {"cells": 2}, {"spread": 0.0}, {"doubt": -1.0}])
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    expected = f"received {next(iter(settings))}=.* for AlignmentSettings; expected a"
    with pytest.raises(BundleError, match=expected):
        AlignmentSettings(**settings)  # type: ignore[arg-type]


@given(
    st.tuples(st.integers(-9, 9), st.integers(-9, 9)),
    st.tuples(st.integers(0, 7), st.integers(0, 7)),
    st.integers(1, 9),
    st.integers(0, 99),
)
def test_cosines_are_those_of_the_cells_that_a_shift_lays_over_each_other(
    expected: tuple[int, int], reach: tuple[int, int], cells: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    query = rng.standard_normal((5, 7, 3), np.float32)
    places = np.stack([rng.integers(0, 5, cells), rng.integers(0, 7, cells)], axis=-1)
    template = Template(places, rng.standard_normal((cells, 3), np.float32))
    wanted = np.zeros((2 * reach[0] + 1, 2 * reach[1] + 1))
    for down, right in np.ndindex(*wanted.shape):
        for (row, column), key in zip(places, template.keys, strict=True):
            y = row + expected[0] - reach[0] + down
            x = column + expected[1] - reach[1] + right
            if 0 <= y < 5 and 0 <= x < 7:
                wanted[down, right] += key @ query[y, x] / cells
    np.testing.assert_allclose(mean_cosines(query, template, expected, reach), wanted, atol=1e-5)
