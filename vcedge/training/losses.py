"""The losses of self-supervised training; all take the keys of a clip."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vcedge.models.affinity import reconstruct
from vcedge.models.encoder import KeyEncoder
from vcedge.training.corpus import Clips

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


def clip_keys(encoder: KeyEncoder, clips: Clips, channel: int) -> Tensor:
    """Encode a batch of clips with one colour channel hidden, in mixed precision.

    Args:
        encoder: gives (B, C, h, w) for (B, 3, S, S).
        clips: B clips of T frames.
        channel: the colour channel that is hidden, 1 or 2.

    Returns:
        (B, T, C, h, w) float32.
    """
    seen = drop_channel(clips.lab, channel).flatten(0, 1)
    flow = clips.flow.flatten(0, 1) if clips.flow.shape[2] else None
    with torch.autocast(seen.device.type, torch.bfloat16):
        keys: Tensor = encoder(seen.contiguous(memory_format=torch.channels_last), flow)
    return keys.float().reshape(*clips.lab.shape[:2], *keys.shape[1:])


def cell_colours(colour: Tensor, stride: int) -> Tensor:
    """Hidden colour averaged over key cells, times ``COLOUR_SCALE``.

    Args:
        colour: (B, T, S, S) float32, the hidden channel.
        stride: pixels per key cell.

    Returns:
        (B, T, 1, h, w) float32.
    """
    return nn.functional.avg_pool2d(colour.float(), stride)[:, :, None] * COLOUR_SCALE


def others(frames: int, target: int) -> list[int]:
    """Numbers of a clip's frames without one."""
    return [index for index in range(frames) if index != target]


def colourisation_loss(
    keys: Tensor, colour: Tensor, bias: Tensor, stride: int, weight: Tensor | None = None
) -> Tensor:
    """Smooth L1 on 20x the hidden channel, each frame from all others (MAST; MER, eq. 19).

    Every frame is a target once (our choice: its key is there already), and colours are averaged
    over a key cell.

    Args:
        keys: (B, T, C, h, w) float32.
        colour: (B, T, S, S) float32, the hidden channel.
        bias: (h * w, h * w) additive window mask.
        stride: pixels per key cell.
        weight: (B, T, h, w) float32 of each cell, None for 1 (MER, eq. 20).
    """
    colours = cell_colours(colour, stride)
    losses = []
    for target in range(keys.shape[1]):
        refs = others(keys.shape[1], target)
        copied = reconstruct(keys[:, target], keys[:, refs], colours[:, refs], bias)
        error = nn.functional.smooth_l1_loss(copied, colours[:, target], reduction="none")
        losses.append((error[:, 0] if weight is None else error[:, 0] * weight[:, target]).mean())
    return torch.stack(losses).mean()
