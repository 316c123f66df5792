"""Masks of objects that were found one by one become shares of one (STCN, soft aggregation)."""

from __future__ import annotations

import torch
from torch import Tensor

from vcedge_runtime.propagation.prototypes import SURE


def aggregate_logits(logits: Tensor) -> Tensor:
    """Let objects compete for each pixel; the background is where no object is.

    The background's probability is the product of one minus each object's (Oh et al. 2019, as STCN
    has it).

    Args:
        logits: (B, K, H, W) float32 of each object's own mask; K may be 0.

    Returns:
        (B, K + 1, H, W) float32 log-odds, the background first, whose softmax are the shares.
    """
    own = torch.sigmoid(logits)
    background = (1 - own).prod(1, keepdim=True)
    return torch.logit(torch.cat([background, own], 1).clamp(float(SURE), 1 - float(SURE)))


def aggregate_softly(logits: Tensor) -> Tensor:
    """Shares of each pixel, see ``aggregate_logits``.

    Args:
        logits: (B, K, H, W) float32.

    Returns:
        (B, K + 1, H, W) float32 that sum to 1 over objects, the background first.
    """
    return torch.softmax(aggregate_logits(logits), 1)


def aggregate_odds(logits: Tensor) -> Tensor:
    """The same shares from odds, without a logarithm: for inference, where that costs most.

    Args:
        logits: (K, H, W) float32 of each object's own mask, K at least 1.

    Returns:
        (K + 1, H, W) float32, see ``aggregate_softly``.
    """
    own = torch.sigmoid(logits)
    background = (1 - own).prod(0, keepdim=True)
    shares = torch.cat([background, own]).clamp(float(SURE), 1 - float(SURE))
    odds = shares / (1 - shares)
    return odds / odds.sum(0, keepdim=True)
