"""Dense windowed affinity in PyTorch: what training reconstructs with, and tests compare with."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vcedge_runtime.sampling import windows

MASKED_LOGIT = float(windows.MASKED_LOGIT)


def window_bias(height: int, width: int, radius: int) -> Tensor:
    """Additive mask of a square window, |dy| <= radius and |dx| <= radius.

    Returns:
        (height * width, height * width) float32: 0 inside the window, ``MASKED_LOGIT`` outside.
    """
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    ys, xs = ys.flatten(), xs.flatten()
    outside = ((ys[:, None] - ys[None]).abs() > radius) | ((xs[:, None] - xs[None]).abs() > radius)
    return outside.float() * MASKED_LOGIT


def affinity_logits(query: Tensor, keys: Tensor, bias: Tensor) -> Tensor:
    """Scaled products of a frame's cells with those of its references (DMP, MER, eq. 1).

    Logits are scaled by 1 / sqrt(C) (our choice after MAMP; the papers print no scale).

    Args:
        query: (B, C, h, w) key of the frame to reconstruct.
        keys: (B, R, C, h, w) keys of the references.
        bias: added to the logits: a window mask of every reference, (h * w, h * w), or of each
            frame and all its references, (B, h * w, R * h * w).

    Returns:
        (B, h * w, R * h * w) float32.
    """
    batch, channels, height, width = query.shape
    references, pixels = keys.shape[1], height * width
    flat_query = query.flatten(2).transpose(1, 2)
    flat_keys = keys.permute(0, 2, 1, 3, 4).reshape(batch, channels, references * pixels)
    logits = torch.bmm(flat_query, flat_keys).float() / math.sqrt(channels)
    return logits + (bias.repeat(1, references) if bias.dim() == 2 else bias)


def read_values(logits: Tensor, values: Tensor) -> Tensor:
    """Carry values over with one joint softmax over all references (DMP, MER, eq. 1 and 2).

    Args:
        logits: (B, h * w, R * h * w) float32.
        values: (B, R, L, h, w) what the references carry.

    Returns:
        (B, L, h, w) float32.
    """
    batch, references, _, height, width = values.shape
    affinity = torch.softmax(logits, dim=-1)
    flat = values.permute(0, 1, 3, 4, 2).reshape(batch, references * height * width, -1)
    return torch.bmm(affinity, flat.float()).transpose(1, 2).reshape(batch, -1, height, width)


def reconstruct(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """Reconstruct a frame's values from its references; see the two functions above.

    Returns:
        (B, L, h, w) float32.
    """
    return read_values(affinity_logits(query, keys, bias), values)
