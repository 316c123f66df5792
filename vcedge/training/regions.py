"""DMP's regions in PyTorch, for a batch of training crops; the runtime's are in numpy."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class RegionBatch(NamedTuple):
    """Regions of N frames of h x w cells, cut from S seeds.

    Attributes:
        ids: (N, h * w) int64 region of each cell.
        features: (N, S, C) unit mean key of each region.
        positions: (N, S, 2) mean row and column of each region.
    """

    ids: Tensor
    features: Tensor
    positions: Tensor


@torch.no_grad()
def cluster_batch(
    keys: Tensor, step: int = 4, weight: float = 0.5, iterations: int = 3
) -> RegionBatch:
    """Cut frames into regions by feature and place (methods of ``sampling/regions.py``).

    Args:
        keys: (N, C, h, w).
        step: side of a seed's cell in key cells; smaller than at run time, as crops are.
        weight: lambda, of the distance in steps beside 1 - cos.
        iterations: of assignment and estimation (fewer than at run time: our choice).
    """
    count, _, height, width = keys.shape
    cells = nn.functional.normalize(keys.float(), dim=1).flatten(2).transpose(1, 2)
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack([ys, xs], -1).reshape(-1, 2).float().to(keys.device)
    rows, columns = -(-height // step), -(-width // step)
    owner = (place[:, 0] * rows // height) * columns + place[:, 1] * columns // width
    ids = owner.long().expand(count, -1)
    seed = torch.stack([ids[0] // columns, ids[0] % columns], -1)
    grid = torch.arange(rows * columns, device=keys.device)
    apart = (seed[:, None] - torch.stack([grid // columns, grid % columns], -1)).abs().amax(-1)
    features, positions = _estimate(cells, place, ids, rows * columns, None)
    for _ in range(iterations):
        distance = torch.cdist(place.expand(count, -1, -1), positions) / step
        cost = 1 - torch.bmm(cells, features.transpose(1, 2)) + weight * distance
        ids = cost.masked_fill(apart > 1, torch.inf).argmin(-1)
        features, positions = _estimate(cells, place, ids, rows * columns, (features, positions))
    return RegionBatch(ids, features, positions)


def enhance_batch(keys: Tensor, regions: RegionBatch, eta: float) -> Tensor:
    """Draw each cell's key towards its region's mean and keep its length.

    Args:
        keys: (N, C, h, w); gradients pass through.
        regions: of the same frames.
        eta: weight of the region's mean beside the unit key.
    """
    length = keys.norm(dim=1, keepdim=True).clamp(min=1e-6)
    index = regions.ids[..., None].expand(-1, -1, keys.shape[1])
    mean = regions.features.gather(1, index).transpose(1, 2).reshape(keys.shape)
    drawn: Tensor = nn.functional.normalize(keys / length + eta * mean, dim=1) * length
    return drawn


def mix_batch(values: Tensor, regions: RegionBatch, eta: float) -> Tensor:
    """Mix what each cell carries with the mean of its region.

    Args:
        values: (N, L, h, w).
        regions: of the same frames.
        eta: share of the mean.
    """
    flat = values.flatten(2).transpose(1, 2)
    member = nn.functional.one_hot(regions.ids, regions.features.shape[1]).to(flat.dtype)
    size = member.sum(1)[..., None].clamp(min=1)
    mean = torch.bmm(member, torch.bmm(member.transpose(1, 2), flat) / size)
    return torch.lerp(flat, mean, eta).transpose(1, 2).reshape(values.shape)


@torch.no_grad()
def match_bias(
    query: RegionBatch, references: RegionBatch, radius: float, step: int = 4, matches: int = 5
) -> Tensor:
    """Additive mask that keeps the ``matches`` most alike near regions of each reference.

    An empty region is never one of them.

    Args:
        query: of N frames.
        references: of N * R frames, those of a query together.
        radius: window radius in cells.
        step: side of a seed's cell.
        matches: regions that a region may look into.

    Returns:
        (N, h * w, R * h * w) float32, 0 or -1e4.
    """
    count, cells = query.ids.shape
    each = len(references.ids) // count
    own = [part.repeat_interleave(each, 0) for part in query]
    distance = torch.cdist(own[2], references.positions)
    score = torch.bmm(own[1], references.features.transpose(1, 2)) - distance * 0.25 / step
    filled = torch.zeros_like(score[:, 0]).scatter_(1, references.ids, 1)[:, None] > 0
    score = score.masked_fill((distance > radius + 2 * step) | ~filled, -torch.inf)
    best = score.topk(min(matches, score.shape[-1]), -1)
    allowed = torch.zeros_like(score).scatter_(-1, best.indices, best.values.isfinite().float())
    rows = allowed.gather(1, own[0][..., None].expand(-1, -1, allowed.shape[-1]))
    pairs = rows.gather(2, references.ids[:, None].expand(-1, cells, -1))
    bias = (1 - pairs) * -1e4
    return bias.reshape(count, each, cells, cells).transpose(1, 2).reshape(count, cells, -1)


def _estimate(
    cells: Tensor, place: Tensor, ids: Tensor, count: int, former: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor]:
    member = nn.functional.one_hot(ids, count).to(cells.dtype).transpose(1, 2)
    size = member.sum(-1, keepdim=True)
    features = nn.functional.normalize(torch.bmm(member, cells), dim=-1)
    positions = torch.matmul(member, place) / size.clamp(min=1)
    if former is not None:
        features = torch.where(size > 0, features, former[0])
        positions = torch.where(size > 0, positions, former[1])
    return features, positions
