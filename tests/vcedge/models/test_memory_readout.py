"""SRNet's readout of the whole memory."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vcedge.models import memory_readout
from vcedge.models.memory_readout import MOST_GATHERED, SPARE, read_memory, read_nearest

# Weights of a softmax over at most 60 cells in float32, of logits of some tens.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
INVALID = -1e4


def make_memory(cells: int = 30, scale: float = 0.5, seed: int = 0) -> tuple[Tensor, ...]:
    """Make 12 queries, keys of as many cells as asked, and their values."""
    torch.manual_seed(seed)
    query, keys = scale * torch.randn(12, 8), scale * torch.randn(cells, 8)
    return query, keys, torch.randn(cells, 5)


def read(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    bias: Tensor | None = None,
    top_k: int | None = None,
) -> Tensor:
    """Read all cells, or the nearest."""
    if top_k is None:
        return read_memory(query, keys, values, bias)
    return read_nearest(query, keys, values, bias, top_k)


def weights_of(
    query: Tensor, keys: Tensor, bias: Tensor | None = None, top_k: int | None = None
) -> Tensor:
    """Read values that are ones of one cell each, which gives the weights themselves."""
    return read(query, keys, torch.eye(len(keys)), bias, top_k)


def take_nearest(query: Tensor, keys: Tensor, values: Tensor, top_k: int) -> Tensor:
    """Re-state the definition: a softmax over the ``top_k`` nearest cells, gathered."""
    distances = (query[:, None] - keys).double().square().sum(-1)
    nearest = distances.argsort(1)[:, :top_k]
    logits = -distances.gather(1, nearest) / math.sqrt(keys.shape[1])
    weights = torch.softmax(logits, 1)
    return (weights[..., None] * values.double()[nearest]).sum(1).float()


def test_the_likeness_is_the_negative_squared_distance() -> None:
    query, keys, values = make_memory()
    distances = torch.cdist(query.double(), keys.double()).square()
    expected = torch.softmax(-distances / math.sqrt(8), 1)
    torch.testing.assert_close(weights_of(query, keys), expected.float(), **CLOSE)
    torch.testing.assert_close(
        read(query, keys, values), (expected @ values.double()).float(), **CLOSE
    )


@settings(max_examples=40)
@given(st.integers(1, 29), st.sampled_from([0.3, 0.7]), st.integers(0, 10**6))
def test_what_is_gathered_is_a_softmax_of_the_nearest(top_k: int, scale: float, seed: int) -> None:
    query, keys, values = make_memory(30, scale, seed)
    # Where two cells are as near within float32, either may be taken.
    ranked = torch.cdist(query.double(), keys.double()).square().sort(1).values
    query = query[ranked[:, top_k] - ranked[:, top_k - 1] > 1e-4]
    found = read(query, keys, values, top_k=top_k)
    expected = take_nearest(query, keys, values, top_k)
    # Logits of up to 10 are rounded by 1e-6, and values are as large as 4.
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-6)
    assert ((weights_of(query, keys, top_k=top_k) > 0).sum(1) == top_k).all()


def test_a_top_k_of_all_cells_is_the_full_softmax() -> None:
    query, keys, values = make_memory()
    full = read(query, keys, values)
    torch.testing.assert_close(read(query, keys, values, top_k=30), full, **CLOSE)
    assert (read(query, keys, values, top_k=5) - full).abs().max() > 0.01


def test_one_nearest_cell_is_copied() -> None:
    query, keys, values = make_memory()
    nearest = torch.cdist(query, keys).argmin(1)
    assert torch.equal(read(query, keys, values, top_k=1), values[nearest])


@pytest.mark.parametrize("top_k", [None, 4, 12, 20])
def test_a_cell_that_is_not_there_has_no_weight_at_all(top_k: int | None) -> None:
    query, keys, values = make_memory()
    # The best keys that there are, and values that the least weight would let through.
    keys[12:24] = query
    values[12:24] = 1e30
    bias = torch.zeros(30)
    bias[12:24] = INVALID
    there = bias == 0
    weights = weights_of(query, keys, bias, top_k)
    assert (weights[:, ~there] == 0).all()
    found = read(query, keys, values, bias, top_k)
    fewer = None if top_k is None else min(top_k, 18)
    torch.testing.assert_close(found, read(query, keys[there], values[there], top_k=fewer), **CLOSE)


def test_a_memory_without_any_valid_cell_gives_no_nan() -> None:
    query, keys, values = make_memory()
    for top_k in (None, 5):
        assert read(query, keys, values, torch.full((30,), INVALID), top_k).isfinite().all()


def test_ties_are_all_kept_and_share_alike() -> None:
    query, keys, values = make_memory(3)
    twice = torch.cat([keys, keys])
    weights = weights_of(query, twice, top_k=1)
    nearest = torch.cdist(query, keys).argmin(1)
    expected = torch.zeros(12, 6).scatter(1, torch.stack([nearest, nearest + 3], 1), 0.5)
    assert torch.equal(weights, expected)
    mean = (values + 1)[nearest]
    found = read(query, twice, torch.cat([values, values + 2]), top_k=1)
    torch.testing.assert_close(found, mean, **CLOSE)


@pytest.mark.parametrize("top_k", [None, 3])
@pytest.mark.parametrize("scale", [1e2, 1e6, 1e15])
def test_huge_logits_do_not_overflow(scale: float, top_k: int | None) -> None:
    query, keys, values = make_memory(scale=scale)
    weights = weights_of(query, keys, top_k=top_k)
    assert weights.isfinite().all()
    torch.testing.assert_close(weights.sum(1), torch.ones(12), **CLOSE)
    # So far apart, the nearest takes all.
    nearest = torch.cdist(query.double(), keys.double()).argmin(1)
    assert torch.equal(weights.argmax(1), nearest)
    assert torch.equal(read(query, keys, values, top_k=top_k), values[nearest])


def test_each_of_a_batch_reads_its_own_memory() -> None:
    memories = [make_memory(seed=seed) for seed in (0, 1)]
    bias = torch.zeros(2, 30)
    bias[0, :7] = bias[1, 20:] = INVALID
    stacked = [torch.stack(parts) for parts in zip(*memories, strict=True)]
    together = read_memory(*stacked, bias)
    for found, memory, own in zip(together, memories, bias, strict=True):
        torch.testing.assert_close(found, read_memory(*memory, own), **CLOSE)


@settings(max_examples=40)
@given(st.integers(1, 30), st.integers(1, 4), st.integers(0, 10**6))
def test_gathering_gives_what_weighing_all_cells_gives(top_k: int, copies: int, seed: int) -> None:
    """Ties among them: each cell is there several times."""
    query, keys, values = make_memory(30 * copies, seed=seed)
    keys = keys[: len(keys) // copies].repeat(copies, 1)
    bias = torch.zeros(len(keys))
    bias[::7] = INVALID
    found = read_nearest(query, keys, values, bias, top_k)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_readout, "MOST_GATHERED", 0)
        expected = read_nearest(query, keys, values, bias, top_k)
    # Sums in another order, of values as large as 4.
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-6)


def test_more_ties_than_are_gathered_share_alike_as_far_as_they_are() -> None:
    query, keys, _ = make_memory(1)
    weights = weights_of(query, keys.repeat(50, 1), top_k=3)
    assert ((weights > 0).sum(1) == 3 + SPARE).all()
    torch.testing.assert_close(weights.amax(1), torch.full((12,), 1 / (3 + SPARE)), **CLOSE)


def test_many_nearest_are_weighed_among_all() -> None:
    query, keys, values = make_memory(MOST_GATHERED + 6)
    found = read_nearest(query, keys, values, None, MOST_GATHERED + 1)
    expected = take_nearest(query, keys, values, MOST_GATHERED + 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-6)
