"""The losses of self-supervised training; all take the keys of a clip."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vcedge.models.affinity import affinity_logits, reconstruct
from vcedge.models.encoder import KeyEncoder
from vcedge.training.corpus import Clips

COLOUR_SCALE = 20.0
"""Factor on Lab values inside the smooth L1 loss (MAST)."""
SURE = 0.5
"""Largest affinity of a cell above which LIIR's prior looks at it."""


def clip_keys(encoder: KeyEncoder, clips: Clips, channel: int) -> Tensor:
    """Encode a batch of clips with one colour channel hidden, in mixed precision.

    Args:
        encoder: gives (B, C, h, w) for (B, 3, S, S).
        clips: B clips of T frames.
        channel: the colour channel that is hidden, 1 or 2.

    Returns:
        (B, T, C, h, w) float32.
    """
    seen = encoder.hide(clips.lab, channel).flatten(0, 1)
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
    views: Sequence[Tensor],
    colour: Tensor,
    biases: Sequence[Tensor],
    stride: int,
    weight: Tensor | None = None,
) -> Tensor:
    """Smooth L1 on 20x the hidden channel, each frame from all others (MAST; MER, eq. 19).

    Every frame is a target once (our choice: its key is there already), and colours are averaged
    over a key cell.

    Args:
        views: by target, (B, T, C, h, w) float32 keys of the clip as this frame's reading has them.
        colour: (B, T, S, S) float32, the hidden channel.
        biases: by target, what is added to its logits; see ``affinity_logits``.
        stride: pixels per key cell.
        weight: (B, T, h, w) float32 of each cell, None for 1 (MER, eq. 20).
    """
    colours = cell_colours(colour, stride)
    losses = []
    for target, (keys, bias) in enumerate(zip(views, biases, strict=True)):
        refs = others(len(views), target)
        copied = reconstruct(keys[:, target], keys[:, refs], colours[:, refs], bias)
        error = nn.functional.smooth_l1_loss(copied, colours[:, target], reduction="none")
        losses.append((error[:, 0] if weight is None else error[:, 0] * weight[:, target]).mean())
    return torch.stack(losses).mean()


def compactness_loss(views: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    """Pull each cell's affinity to two narrow peaks, where it is sure of one (LIIR's prior).

    The two largest affinities of a cell in a reference say where the peaks are, and their softmax
    how high: exp(-4 ln 2 d^2), d in cells. Only cells whose largest affinity is above ``SURE``
    count.

    Args:
        views: as for ``colourisation_loss``.
        biases: likewise.

    Returns:
        () float32: smooth L1 of 20x the affinities, the mean over those cells and their references;
        0 where there is none.
    """
    total = views[0].new_zeros(())
    counted = views[0].new_zeros(())
    for target, (keys, bias) in enumerate(zip(views, biases, strict=True)):
        height, width = keys.shape[-2:]
        cells = height * width
        refs = others(len(views), target)
        logits = affinity_logits(keys[:, target], keys[:, refs], bias)
        affinity = torch.softmax(logits.unflatten(2, (len(refs), cells)), -1)
        best = affinity.detach().topk(2, -1)
        sure = best.values[..., 0] > SURE
        near = _narrow_peaks(height, width, keys.device)
        share = torch.softmax(best.values, -1)
        peaks = (share[..., None] * near[best.indices]).sum(-2)
        error = nn.functional.smooth_l1_loss(
            COLOUR_SCALE * affinity, COLOUR_SCALE * peaks, reduction="none"
        )
        total = total + (error.mean(-1) * sure).sum()
        counted = counted + sure.sum()
    return total / counted.clamp(min=1)


def _narrow_peaks(height: int, width: int, device: torch.device) -> Tensor:
    """(h * w, h * w): around each cell, a peak that has fallen to a sixteenth at its neighbours."""
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack([ys, xs], -1).reshape(-1, 2).float().to(device)
    return torch.exp(-4 * math.log(2) * torch.cdist(place, place) ** 2)
