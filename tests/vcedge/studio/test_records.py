"""Masks come back as they were written, and lanes and runs say what the page needs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from vcedge.studio.records import (
    LEAST_ROOM,
    LEAST_SEEN,
    MOST_SEEN,
    UNKNOWN,
    UNSEEN,
    Labels,
    Records,
    runs_of,
    with_drawn,
)

HW = (6, 9)


@pytest.fixture
def records() -> Iterator[Records]:
    with Records(HW) as opened:
        yield opened


def make(*ids: int) -> Labels:
    labels = np.zeros(HW, np.uint8)
    for row, object_id in enumerate(ids):
        labels[row] = object_id
    return labels


def read_runs(data: bytes) -> Labels:
    count = int.from_bytes(data[:4], "little")
    lengths = np.frombuffer(data, "<u4", count, 4)
    return np.repeat(np.frombuffer(data, np.uint8, count, 4 + 4 * count), lengths)


@given(
    arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 3))
)
def test_runs_are_the_mask(labels: Labels) -> None:
    np.testing.assert_array_equal(read_runs(runs_of(labels, labels.shape)), labels.ravel())


def test_runs_of_a_smaller_view_take_its_nearest_pixels() -> None:
    labels = np.repeat(np.repeat(np.arange(6, dtype=np.uint8).reshape(2, 3), 4, 0), 4, 1)
    np.testing.assert_array_equal(read_runs(runs_of(labels, (2, 3))), range(6))


def test_a_mask_comes_back_and_older_ones_stay_as_they_were(records: Records) -> None:
    first = records.make(make(1), {1: 0.5})
    second = records.make(make(2, 3), {})
    np.testing.assert_array_equal(records.labels_of(first), make(1))
    np.testing.assert_array_equal(records.labels_of(second), make(2, 3))
    assert not records.labels_of(None).any()


def test_hidden_objects_are_in_no_mask_until_they_are_shown_again(records: Records) -> None:
    record = records.make(make(1, 2), {}, {1})
    records.put(4, record)
    records.hide({1: records.made})
    np.testing.assert_array_equal(records.labels_of(record), make(0, 2))
    assert records.drawn_frames() == []
    later = records.make(make(1, 2), {})
    np.testing.assert_array_equal(records.labels_of(later), make(1, 2))
    records.hide({})
    np.testing.assert_array_equal(records.labels_of(record), make(1, 2))
    assert records.drawn_frames() == [4]


def test_lanes_tell_no_mask_from_unseen_and_scores(records: Records) -> None:
    record = records.make(make(1), {1: 0.25, 2: 0.0})
    records.put(11, record)
    records.put(12, with_drawn(record, 2, seen=True))
    records.put(13, with_drawn(record, 1, seen=False))
    quarter = LEAST_SEEN + (MOST_SEEN - LEAST_SEEN) // 4
    assert list(records.lane(1, range(10, 14))) == [UNKNOWN, quarter, quarter, UNSEEN]
    assert list(records.lane(2, range(10, 14))) == [UNKNOWN, UNSEEN, MOST_SEEN, UNSEEN]


def test_what_was_put_back_or_forgotten_is_gone(records: Records) -> None:
    record = records.make(make(1), {})
    for index in (3, 5, 8):
        records.put(index, record)
    records.put(5, None)
    assert records.frames() == [3, 8]
    records.forget_before(8)
    assert records.frames() == [8]


def test_the_file_does_not_grow_with_frames_that_are_gone(records: Records) -> None:
    kept = records.make(make(7), {})
    for index in range(50):
        records.put(index, records.make(make(1 + index % 5), {}))
        records.forget_before(index - 3)
    # Five frames are held at once, and one record by who may undo.
    assert records._file.seek(0, 2) <= 6 * LEAST_ROOM
    np.testing.assert_array_equal(records.labels_of(kept), make(7))
    for index in records.frames():
        np.testing.assert_array_equal(records.labels_of(records.find(index)), make(1 + index % 5))


def test_a_record_made_of_another_holds_its_mask(records: Records) -> None:
    record = with_drawn(records.make(make(3), {}), 3, seen=True)
    for _ in range(4):
        records.make(make(1), {})
    np.testing.assert_array_equal(records.labels_of(record), make(3))
