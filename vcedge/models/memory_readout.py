"""SRNet's memory readout: every cell of memory competes for every cell of the query (STCN)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def read_memory(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    bias: Tensor | None = None,
    top_k: int | None = None,
) -> Tensor:
    """Average values by the likeness of keys, the negative squared distance over sqrt(Ck) (STCN).

    The query's own square is the same for all cells of memory and left out. Among the cells are
    taken the ``top_k`` nearest: all that reach the k-th largest logit, which needs no scatter and
    keeps ties.

    Args:
        query: (..., n, Ck).
        keys: (..., m, Ck) of all cells of memory.
        values: (..., m, V).
        bias: (..., m) or (m,) float32, 0, or -1e4 for a cell that is not there; None for 0.
        top_k: cells that take part, at most m; all where None.

    Returns:
        (..., n, V), in the dtype of the values.
    """
    # Mixed precision would form the product in bfloat16, of which 8 bits are left of a distance.
    with torch.autocast(query.device.type, enabled=False):
        keys = keys.float()
        product = query.float() @ keys.transpose(-2, -1)
    logits = (2 * product - keys.square().sum(-1)[..., None, :]) / math.sqrt(keys.shape[-1])
    if bias is not None:
        logits = logits + bias[..., None, :]
    if top_k is None:
        logits = logits - logits.amax(-1, keepdim=True)
        weights = torch.exp(logits)
    else:
        largest = torch.topk(logits, top_k, dim=-1, sorted=True).values
        kept = (logits >= largest[..., -1:]).float()
        # Capped at the peak, so that exp of what is not kept cannot be infinite.
        weights = torch.exp(logits - largest[..., :1]) * kept
    weights = weights / weights.sum(-1, keepdim=True)
    return weights.to(values.dtype) @ values
