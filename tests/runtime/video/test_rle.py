"""COCO's run-length encoding, against pycocotools."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from vcedge_runtime.errors import MaskError
from vcedge_runtime.video.rle import decode_rle, encode_rle

Mask = NDArray[np.bool_]
speckled_masks = hnp.arrays(bool, st.tuples(st.integers(1, 30), st.integers(1, 30)))
flat_masks = st.tuples(speckled_masks, st.integers(1, 40), st.integers(1, 40)).map(
    lambda parts: np.kron(parts[0], np.ones(parts[1:], bool))
)
"""Runs long enough to need several characters each."""
any_mask = speckled_masks | flat_masks


@given(any_mask)
def test_a_mask_is_encoded_as_pycocotools_does(mask: Mask) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = encode_rle(mask)
    assert ours["counts"] == theirs["counts"].decode()
    assert ours["size"] == list(theirs["size"])


@given(any_mask)
def test_any_mask_comes_back(mask: Mask) -> None:
    np.testing.assert_array_equal(decode_rle(encode_rle(mask)), mask)


@pytest.mark.parametrize("value", [False, True])
def test_masks_of_one_value_come_back(value: bool) -> None:
    mask = np.full((480, 854), value)
    np.testing.assert_array_equal(decode_rle(encode_rle(mask)), mask)


def test_what_is_not_zero_is_the_object() -> None:
    assert encode_rle(np.array([[0, 7], [9, 0]])) == encode_rle(np.eye(2, dtype=bool)[::-1])


def test_an_encoded_mask_is_json() -> None:
    encoded = encode_rle(np.eye(50, dtype=bool))
    assert json.loads(json.dumps(encoded)) == encoded


SIZES = [None, [], [4], [4, 5, 6], "45", [4, "5"], [-4, -5], [True, 20], [4.0, 5]]


@pytest.mark.parametrize("size", SIZES)
def test_a_size_that_is_none_is_refused(size: Any) -> None:
    with pytest.raises(MaskError, match="expected its height and width"):
        decode_rle({"size": size, "counts": "0"})


def test_a_size_that_would_fill_the_memory_is_refused() -> None:
    for size in ([2**20, 2**20], [10**30, 1], [1, 2**31]):
        with pytest.raises(MaskError, match="received an RLE of"):
            decode_rle({"size": size, "counts": "0"})


@pytest.mark.parametrize("counts", [None, b"0", 3, ["0"], "é", " 0", "p0", "oooooooo0", "0" * 1000])
def test_counts_that_are_no_runs_are_refused(counts: Any) -> None:
    with pytest.raises(MaskError, match="expected COCO's compressed runs"):
        decode_rle({"size": [4, 5], "counts": counts})


@pytest.mark.parametrize("rle", [None, [], "0", 3, {}, {"size": [4, 5]}, {"counts": "0"}])
def test_what_is_no_record_is_refused(rle: Any) -> None:
    with pytest.raises(MaskError, match="received an RLE"):
        decode_rle(rle)


@given(
    st.tuples(st.integers(0, 40), st.integers(0, 40)), st.text("0123456789OPQRfgno", max_size=40)
)
def test_any_runs_fill_their_size_or_are_refused(size: tuple[int, int], counts: str) -> None:
    try:
        mask = decode_rle({"size": list(size), "counts": counts})
    except MaskError:
        return
    assert mask.shape == size


@pytest.mark.parametrize("counts", ["", "0", "Z", "52203"])
def test_runs_that_do_not_fill_the_size_are_refused(counts: str) -> None:
    with pytest.raises(MaskError, match="expected 4x5"):
        decode_rle({"size": [4, 5], "counts": counts})
