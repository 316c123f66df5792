"""Dense windowed affinity in PyTorch: what training reconstructs with, and tests compare with."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MASKED_LOGIT = -1e4


def window_bias(height: int, width: int, radius: int) -> Tensor:
    """Additive mask of a square window, |dy| <= radius and |dx| <= radius.

    Returns:
        (height * width, height * width) float32: 0 inside the window, ``MASKED_LOGIT`` outside.
    """
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    ys, xs = ys.flatten(), xs.flatten()
    outside = ((ys[:, None] - ys[None]).abs() > radius) | ((xs[:, None] - xs[None]).abs() > radius)
    return outside.float() * MASKED_LOGIT


def reconstruct(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """Reconstruct a frame's values from references with one joint softmax (DMP, MER, eq. 1 and 2).

    Logits are scaled by 1 / sqrt(C) (our choice after MAMP; the papers print no scale).

    Args:
        query: (B, C, h, w) key of the frame to reconstruct.
        keys: (B, R, C, h, w) keys of the references.
        values: (B, R, L, h, w) what the references carry.
        bias: (h * w, h * w) additive window mask.

    Returns:
        (B, L, h, w) float32.
    """
    batch, channels, height, width = query.shape
    references = keys.shape[1]
    pixels = height * width
    flat_query = query.flatten(2).transpose(1, 2)
    flat_keys = keys.permute(0, 2, 1, 3, 4).reshape(batch, channels, references * pixels)
    logits = torch.bmm(flat_query, flat_keys).float() / math.sqrt(channels)
    affinity = torch.softmax(logits + bias.repeat(1, references), dim=-1)
    flat_values = values.permute(0, 1, 3, 4, 2).reshape(batch, references * pixels, -1).float()
    return torch.bmm(affinity, flat_values).transpose(1, 2).reshape(batch, -1, height, width)
