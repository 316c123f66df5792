"""MER's value extraction on clips, whose crops show parts of a frame, each a little off."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vcedge.models.value_extraction import Grid, ValueExtraction
from vcedge.training.losses import others


def value_maps(values: ValueExtraction, raw: Tensor, place: Tensor, grid: Grid) -> Tensor:
    """Each frame's value map by all others, which are looked at where this frame's crop lies.

    So the same place of the references is the same place of the video, however crops jitter.

    Args:
        values: the network.
        raw: (B, T, C, h, w) keys as the encoder gives them.
        place: (B, T, 2, 3) as ``Clips`` has it.
        grid: the tables of this key grid.

    Returns:
        (B, T, N, N) in [0, 1].
    """
    frames = raw.shape[1]
    found = []
    for target in range(frames):
        refs = others(frames, target)
        moved = [move_planes(raw[:, r], place[:, r], place[:, target]) for r in refs]
        tokens = grid.pool(torch.stack(moved, 1).flatten(0, 1))
        valid = raw.new_ones(len(raw), frames - 1)
        found.append(values.value_map(grid.pool(raw[:, target]), tokens, valid))
    return torch.stack(found, 1)


def refine_clip(
    values: ValueExtraction, raw: Tensor, tokens: Tensor, where: Tensor, grid: Grid
) -> Tensor:
    """Refine all frames of a clip by one target's tokens (MER, eq. 11).

    Args:
        values: the network.
        raw: (B, T, C, h, w).
        tokens: (B, C, tokens) of the target.
        where: (B, T, 1, h, w) of ``spread_positions``.
        grid: the tables of this key grid.

    Returns:
        (B, T, C, h, w).
    """
    frames = raw.shape[1]
    refined = values.refine(
        raw.flatten(0, 1), tokens.repeat_interleave(frames, 0), where.flatten(0, 1), grid
    )
    return refined.reshape(raw.shape)


def spread_positions(values: ValueExtraction, place: Tensor, side: int) -> Tensor:
    """What the network's positions, which are places of the frame, are at each cell of a crop.

    Args:
        values: the network.
        place: (B, T, 2, 3) as ``Clips`` has it.
        side: cells a side.

    Returns:
        (B, T, 1, side, side) float32.
    """
    flat = place.flatten(0, 1)
    table = values.position.float().expand(len(flat), -1, -1, -1)
    spread = _sample(table, _map_cells(flat, side))
    return spread.reshape(*place.shape[:2], *spread.shape[1:])


def move_planes(planes: Tensor, place: Tensor, wanted: Tensor) -> Tensor:
    """See planes of one crop at the cells of another of the same video.

    Args:
        planes: (B, C, h, h).
        place: (B, 2, 3) of the planes' crop, as ``Clips`` has it.
        wanted: (B, 2, 3) of the other.

    Returns:
        (B, C, h, h); beyond the planes, what their edge has.
    """
    back = torch.linalg.inv(place[:, :, :2])
    between = back @ torch.cat([wanted[:, :, :2], wanted[:, :, 2:] - place[:, :, 2:]], -1)
    return _sample(planes, _map_cells(between, planes.shape[-1]))


def _map_cells(place: Tensor, side: int) -> Tensor:
    """(B, side, side, 2): the middles of cells, as shares of the sides, through (B, 2, 3) maps."""
    middles = (torch.arange(side, device=place.device, dtype=torch.float32) + 0.5) / side
    ys, xs = torch.meshgrid(middles, middles, indexing="ij")
    homogeneous = torch.stack([xs, ys, torch.ones_like(xs)], -1)
    return torch.einsum("yxc,bdc->byxd", homogeneous, place.float())


def _sample(planes: Tensor, shares: Tensor) -> Tensor:
    found: Tensor = nn.functional.grid_sample(
        planes.float(), 2 * shares - 1, padding_mode="border", align_corners=False
    )
    return found
