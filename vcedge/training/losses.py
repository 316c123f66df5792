"""The losses of self-supervised training; all take the keys of a clip."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vcedge.models.affinity import reconstruct

COLOUR_SCALE = 20.0
"""Factor on Lab values inside the smooth L1 loss (MAST)."""


def drop_channel(lab: Tensor, channel: int) -> Tensor:
    """Zero one colour channel of normalised Lab and scale the rest by 3/2 (MAST).

    Args:
        lab: (..., 3, H, W).
        channel: 1 for a, 2 for b.
    """
    keep = torch.full((3, 1, 1), 1.5, device=lab.device)
    keep[channel] = 0
    return lab * keep


def clip_keys(encoder: nn.Module, clip: Tensor, channel: int) -> Tensor:
    """Encode a batch of clips with one colour channel hidden.

    Args:
        encoder: gives (B, C, h, w) for (B, 3, S, S).
        clip: (B, T, 3, S, S) float32, normalised Lab.
        channel: the colour channel that is hidden, 1 or 2.

    Returns:
        (B, T, C, h, w) float32.
    """
    seen = drop_channel(clip, channel).flatten(0, 1)
    keys: Tensor = encoder(seen.contiguous(memory_format=torch.channels_last))
    return keys.float().reshape(*clip.shape[:2], *keys.shape[1:])


def colourisation_loss(keys: Tensor, colour: Tensor, bias: Tensor, stride: int) -> Tensor:
    """Smooth L1 on 20x the hidden channel, each frame from all others (MAST; MER, eq. 19).

    Every frame is a target once (our choice: its key is there already), and colours are averaged
    over a key cell.

    Args:
        keys: (B, T, C, h, w) float32.
        colour: (B, T, S, S) float32, the hidden channel.
        bias: (h * w, h * w) additive window mask.
        stride: pixels per key cell.
    """
    frames = keys.shape[1]
    colours = nn.functional.avg_pool2d(colour, stride)[:, :, None] * COLOUR_SCALE
    losses = []
    for target in range(frames):
        others = [index for index in range(frames) if index != target]
        copied = reconstruct(keys[:, target], keys[:, others], colours[:, others], bias)
        losses.append(nn.functional.smooth_l1_loss(copied, colours[:, target]))
    return torch.stack(losses).mean()
