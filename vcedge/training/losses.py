"""The losses of self-supervised training; all take the keys of a clip."""

from __future__ import annotations

import math

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


def clip_keys(encoder: nn.Module, views: Tensor, channel: int) -> Tensor:
    """Encode a batch of clips, with one colour channel hidden in all views but the last.

    The last view is seen whole, as frames are at run time.

    Args:
        encoder: gives (B, C, h, w) for (B, 3, S, S).
        views: (B, T + 1, 3, S, S) float32, normalised Lab.
        channel: the colour channel that is hidden, 1 or 2.

    Returns:
        (B, T + 1, C, h, w) float32.
    """
    seen = torch.cat([drop_channel(views[:, :-1], channel), views[:, -1:]], dim=1)
    keys: Tensor = encoder(seen.flatten(0, 1).contiguous(memory_format=torch.channels_last))
    return keys.float().unflatten(0, views.shape[:2])


def colourisation_loss(keys: Tensor, colour: Tensor, bias: Tensor, stride: int) -> Tensor:
    """Smooth L1 on 20x the hidden channel, each frame of a clip from all others (MAST; MER, eq. 19).

    Every frame is a target once (our choice: its key is there already), and colours are averaged over
    a key cell.

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


def match_cells(warp: Tensor, grid_hw: tuple[int, int], stride: int) -> tuple[Tensor, Tensor]:
    """Cell of the last view that shows what each cell of the first view shows.

    Args:
        warp: (B, 2, 3) from pixels of the first view to pixels of the last.
        grid_hw: height and width of both key grids.
        stride: pixels per key cell.

    Returns:
        (B, h * w) int64 cells, and (B, h * w) bool: whether the cell lies inside the last view.
    """
    height, width = grid_hw
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    centres = torch.stack([xs, ys]).reshape(2, -1).to(warp) + 0.5
    moved = (warp[:, :, :2] @ (centres * stride) + warp[:, :, 2:]) / stride
    column, row = moved.floor().long().unbind(1)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)), inside


def cycle_loss(keys: Tensor, warp: Tensor, stride: int) -> Tensor:
    """Walk from the first view through other frames to its second view, and expect to arrive (CRW).

    Walks go straight, through each frame, and through all of them. The two views differ in position,
    size, angle and light (our choice), so that a walk cannot find home by the image border.

    Args:
        keys: (B, T + 1, C, h, w) float32; the last view shows the first frame again.
        warp: (B, 2, 3) from pixels of the first view to pixels of the last.
        stride: pixels per key cell.
    """
    rows = keys.flatten(3).transpose(2, 3) * keys.shape[2] ** -0.25
    start, *middle, home = rows.unbind(1)
    cells, inside = match_cells(warp, (keys.shape[3], keys.shape[4]), stride)
    walks = [_transition(start, home)]
    onward = _transition(start, middle[0])
    for index, frame in enumerate(middle):
        walks.append(_transition(start, frame) @ _transition(frame, home))
        if index:
            onward = onward @ _transition(middle[index - 1], frame)
    walks.append(onward @ _transition(middle[-1], home))
    arrived = [walk.gather(2, cells[..., None])[..., 0] for walk in walks]
    losses = [-(p.clamp_min(1e-6).log() * inside).sum() / inside.sum().clamp_min(1) for p in arrived]
    return torch.stack(losses).mean() / math.log(rows.shape[2])


def _transition(source: Tensor, target: Tensor) -> Tensor:
    with torch.autocast(source.device.type, enabled=False):
        return torch.softmax(source @ target.transpose(1, 2), dim=-1)
