"""SRNet's memory readout: every cell of memory competes for every cell of the query (STCN)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from vcedge_runtime.model.object_composition import MOST_GATHERED, SPARE

PARTS = 8
"""Parts in which cells are gathered: memory for one of them is held at a time."""
ADDED = 8
"""Columns that hold what is added to the logits: rows stay as long as vector units like them."""
_NOWHERE = -1e38


def read_memory(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None) -> Tensor:
    """Average values by the likeness of keys, the negative squared distance over sqrt(Ck) (STCN).

    Args:
        query: (..., n, Ck).
        keys: (..., m, Ck) of all cells of memory.
        values: (..., m, V).
        bias: (..., m) or (m,) float32, 0, or -1e4 for a cell that is not there; None for 0.

    Returns:
        (..., n, V), in the dtype of the values.
    """
    logits = _compare(query, keys, bias)
    weights = torch.exp(logits - logits.amax(-1, keepdim=True))
    return _normalise(weights).to(values.dtype) @ values


def read_nearest(
    query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, top_k: int
) -> Tensor:
    """The same, of the ``top_k`` nearest cells alone: all that reach the k-th largest logit.

    So ties are kept and share alike, up to ``SPARE`` more than k. The values of the nearest are
    gathered, which costs a hundredth of a product with those of all cells.

    Args:
        query: (n, Ck) float32.
        keys: (m, Ck) float32.
        values: (m, V) float32.
        bias: (m,) float32, as for ``read_memory``.
        top_k: cells that take part, at most m.

    Returns:
        (n, V).
    """
    if top_k > MOST_GATHERED:
        logits = _compare(query, keys, bias)
        largest = torch.topk(logits, top_k, dim=-1, sorted=True).values
        kept = (logits >= largest[..., -1:]).float()
        # Capped at the peak, so that exp of what is not kept cannot be infinite.
        weights = torch.exp(logits - largest[..., :1]) * kept
        return _normalise(weights) @ values
    # Memory may hold no more than the k cells; what stands in for others is never kept.
    keys, values = (functional.pad(cells, (0, 0, 0, SPARE)) for cells in (keys, values))
    bias = keys.new_zeros(len(keys) - SPARE) if bias is None else bias
    logits = _compare(query, keys, functional.pad(bias, (0, SPARE), value=_NOWHERE))
    return read_logits(logits, values, top_k, SPARE).found


class Nearest(NamedTuple):
    """What was read, and of which cells.

    Attributes:
        found: (n, V).
        weights: (n, k + spare), the largest first; those that are not kept are 0.
        cells: (n, k + spare) int64, which cell each is of.
    """

    found: Tensor
    weights: Tensor
    cells: Tensor


def read_logits(logits: Tensor, values: Tensor, top_k: int, spare: int = 0) -> Nearest:
    """Read by logits, of the ``top_k`` nearest cells, and of as many more as ``spare`` if as near.

    Args:
        logits: (n, m), m at least k and what is to spare.
        values: (m, V).
        top_k: k.
        spare: most cells more.
    """
    largest, cells = torch.topk(logits, top_k + spare, dim=-1, sorted=True)
    kept = (largest >= largest[:, top_k - 1 : top_k]).float()
    weights = _normalise(torch.exp(largest - largest[:, :1]) * kept)
    width = -(-(top_k + spare) // PARTS)
    first, *others = zip(weights.split(width, 1), cells.split(width, 1), strict=True)
    found = _gather(*first, values)
    for part in others:
        found = found + _gather(*part, values)
    return Nearest(found, weights, cells)


def _compare(query: Tensor, keys: Tensor, bias: Tensor | None) -> Tensor:
    """Logits (..., n, m); the query's own square is the same for all cells, and left out.

    What is added to a cell's logits is part of the product, where the query has ones: to go over
    all logits once more takes a quarter of the readout's time.
    """
    scale = 1 / math.sqrt(keys.shape[-1])
    # Mixed precision would form the product in bfloat16, of which 8 bits are left of a distance.
    with torch.autocast(query.device.type, enabled=False):
        keys = keys.float()
        own = -scale * keys.square().sum(-1, keepdim=True)
        added = own if bias is None else own + bias[..., None]
        shares = (added / ADDED).expand(*keys.shape[:-1], ADDED)
        ones = functional.pad(2 * scale * query.float(), (0, ADDED), value=1.0)
        product: Tensor = ones @ torch.cat([keys, shares], -1).transpose(-2, -1)
    return product


def _normalise(weights: Tensor) -> Tensor:
    return weights / weights.sum(-1, keepdim=True)


def _gather(weights: Tensor, cells: Tensor, values: Tensor) -> Tensor:
    """Sum up (m, V) values of (n, k) cells by their weights."""
    rows = values.index_select(0, cells.flatten()).unflatten(0, cells.shape)
    summed: Tensor = weights[:, None] @ rows
    return summed[:, 0]
