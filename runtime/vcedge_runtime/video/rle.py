"""COCO's compressed run-length encoding of a mask, byte for byte that of pycocotools.

Runs go down the columns and alternate, background first. From the fourth on, a run is stored as
its difference to the one two before. Each number is cut into groups of five bits, lowest first;
each group is a character, 48 + bits + 32 when more follow; the last one's highest bit is the sign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from reprlib import repr as brief
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import MaskError
from vcedge_runtime.video.opencv import MOST_PIXELS

_GROUPS = 7
"""Five bits each: enough for a run of 2**34 pixels."""


class Rle(TypedDict):
    """A mask as COCO writes it: ``size`` is height and width, ``counts`` the encoded runs."""

    size: list[int]
    counts: str


def encode_rle(mask: NDArray[np.generic]) -> Rle:
    """Encode one object's mask.

    Args:
        mask: (H, W) bool or any number; what is not 0 is the object.

    Returns:
        The mask in COCO's form, ready for JSON.
    """
    height, width = mask.shape
    counts = measure_runs(np.ascontiguousarray(mask != 0))
    deltas = counts.copy()
    deltas[3:] -= counts[1:-2]
    return {"size": [height, width], "counts": _characters(deltas)}


def decode_rle(rle: Rle) -> NDArray[np.bool_]:
    """Decode one object's mask.

    Args:
        rle: a mask in COCO's compressed form, from wherever it comes.

    Returns:
        (H, W) bool; owned by the caller.

    Raises:
        MaskError: it is no such mask, of more than ``MOST_PIXELS``, or its runs do not fill the
            size.
    """
    height, width, characters = _check_rle(rle)
    counts = _numbers(characters or "0")
    counts[1::2] = np.cumsum(counts[1::2])
    counts[2::2] = np.cumsum(counts[2::2])
    if (counts < 0).any() or (counts > height * width).any() or counts.sum() != height * width:
        raise MaskError(
            f"received an RLE of {counts.sum()} pixels; expected {height}x{width}; it is damaged"
        )
    flat = np.repeat(np.arange(counts.size) % 2 == 1, counts)
    return np.ascontiguousarray(flat.reshape(width, height).T)


def _check_rle(rle: object) -> tuple[int, int, str]:
    """Height, width and characters of what may be anything, such as a line of JSON."""
    record: Mapping[str, Any] = rle if isinstance(rle, Mapping) else {}
    size, counts = record.get("size"), record.get("counts")
    pair: Sequence[Any] = size if isinstance(size, list | tuple) and len(size) == 2 else [None]
    if not all(type(n) is int and 0 <= n <= MOST_PIXELS for n in pair):
        raise MaskError(
            f"received an RLE of size {brief(size)}; expected its height and width; it is damaged"
        )
    height, width = pair
    if height * width > MOST_PIXELS:
        raise MaskError(
            f"received an RLE of {height}x{width}; expected {MOST_PIXELS} pixels at most"
        )
    most = _GROUPS * (height * width + 2)
    if not isinstance(counts, str) or not counts.isascii() or len(counts) > most:
        raise _refuse_counts(counts)
    return height, width, counts


def _refuse_counts(counts: object) -> MaskError:
    return MaskError(
        f"received an RLE with counts {brief(counts)}; expected COCO's compressed runs, each "
        f"of up to {_GROUPS} characters from 0 to o; it is damaged"
    )


def measure_runs(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Measure the runs down the columns, background first; only the object's are walked.

    Args:
        mask: (H, W) bool; of ``mask.T``, the runs go along the rows of ``mask``.

    Returns:
        (N,) int64, whose sum is H * W; the first is 0 where the first pixel is the object's.
    """
    height, width = mask.shape
    columns = np.flatnonzero(mask.any(axis=0))
    if not columns.size:
        return np.array([height * width], np.int64)
    first, last = columns[0], columns[-1] + 1
    part = np.zeros(height * (last - first) + 2, np.int8)  # a background pixel at either end
    part[1:-1].reshape(last - first, height)[...] = mask[:, first:last].T
    changes = np.flatnonzero(part[1:] != part[:-1]) + first * height
    return np.diff(np.concatenate([[0], changes, [height * width]]))[: _run_count(mask, changes)]


def _run_count(mask: NDArray[np.bool_], changes: NDArray[np.intp]) -> int:
    """Drop the empty last run of a mask whose last pixel is the object's, as pycocotools does."""
    return changes.size if mask[-1, -1] else changes.size + 1


def _characters(numbers: NDArray[np.int64]) -> str:
    rest = numbers[:, None] >> (5 * np.arange(_GROUPS))
    bits = rest & 31
    sign_fits = np.where(bits & 16, rest >> 5 == -1, rest >> 5 == 0)
    more = ~np.logical_or.accumulate(sign_fits, axis=1)
    used = np.concatenate([np.ones_like(more[:, :1]), more[:, :-1]], axis=1)
    return bytes((48 + bits + 32 * more)[used].tolist()).decode("ascii")


def _numbers(characters: str) -> NDArray[np.int64]:
    groups = np.frombuffer(characters.encode("ascii"), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((groups & 32 == 0) | (np.arange(groups.size) == groups.size - 1))
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (groups < 0).any() or (groups > 63).any() or (ends - starts >= _GROUPS).any():
        raise _refuse_counts(characters)
    place = np.arange(ends[-1] + 1) - np.repeat(starts, ends - starts + 1)
    numbers = np.add.reduceat((groups[: place.size] & 31) << (5 * place), starts)
    negative = groups[ends] & 16 != 0
    return np.where(negative, numbers - (1 << (5 * (ends - starts + 1))), numbers)
