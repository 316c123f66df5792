"""MER's positive-negative reconstruction loss, with a bank of keys from other videos."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vcedge.training.processes import gather_rows

BANK_SIDE = 16
"""Cells a side of a stored map (our choice): keys are averaged to it."""


class NegativeBank(nn.Module):
    """Keys of former clips, first in first out; part of the checkpoint.

    Args:
        key_dim: channels of a key.
        capacity: maps that are kept (MER: 32 x 50).
    """

    maps: Tensor
    videos: Tensor
    written: Tensor

    def __init__(self, key_dim: int, capacity: int = 1600) -> None:
        super().__init__()
        empty = torch.zeros(capacity, key_dim, BANK_SIDE, BANK_SIDE, dtype=torch.float16)
        self.register_buffer("maps", empty)
        self.register_buffer("videos", torch.full((capacity,), -1))
        self.register_buffer("written", torch.tensor(0))

    def push(self, keys: Tensor, videos: Tensor) -> None:
        """Store a batch, of all processes that train together.

        Args:
            keys: (B, C, h, w), of the momentum encoder.
            videos: (B,) int64, numbers of their videos.
        """
        capacity = len(self.videos)
        small = nn.functional.adaptive_avg_pool2d(keys.detach().float(), BANK_SIDE)
        small, videos = gather_rows(small)[-capacity:], gather_rows(videos)[-capacity:]
        places = (torch.arange(len(videos), device=videos.device) + self.written) % capacity
        self.maps[places] = small.to(self.maps.dtype)
        self.videos[places] = videos
        self.written += len(videos)

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Draw maps at random.

        Returns:
            (N, C, side, side) float32 maps and (N,) their videos; N is 0 while the bank is empty.
        """
        stored = min(int(self.written), len(self.videos))
        places = torch.randperm(stored)[:count].to(self.videos.device)
        return self.maps[places].float(), self.videos[places]


def contrast_loss(
    query: Tensor,
    positive: Tensor,
    negatives: Tensor,
    foreign: Tensor,
    temperature: float,
) -> Tensor:
    """Tell a reconstructed feature's true counterpart from what other videos rebuild of it.

    MER, eq. 16 and 17; positives stand in the denominator of the latter, as printed.

    Args:
        query: (B, P, C) features of P cells, reconstructed from the references.
        positive: (B, P, C) the cells' own features, of the momentum encoder.
        negatives: (N, C, side, side) maps of other videos.
        foreign: (B, N) bool, whether a map is of another video than a clip.
        temperature: of the cosines.

    Returns:
        () float32, the mean over all cells; 0 without negatives.
    """
    if len(negatives) == 0:
        return query.sum() * 0
    best = _reconstruct_from(query.detach(), negatives.flatten(2), foreign)
    unit = nn.functional.normalize(query.float(), dim=-1)
    own = (unit * nn.functional.normalize(positive.float(), dim=-1)).sum(-1, keepdim=True)
    other = (unit[:, :, None] * best).sum(-1).masked_fill(~foreign[:, None], -1e4)
    logits = torch.cat([own, other], -1) / temperature
    return -torch.log_softmax(logits, -1)[..., 0].mean()


def _reconstruct_from(query: Tensor, flat: Tensor, foreign: Tensor) -> Tensor:
    """(B, P, N, C): what each of N maps adds to each query's feature, rebuilt from all of them.

    One softmax goes over the cells of all maps (MER, eq. 16), so that a map that holds nothing
    alike adds next to nothing: cells are brought to length 1, and no part of the sum is (our
    choice). Maps of the query's own video take no part.
    """
    channels, cells = query.shape[-1], flat.shape[-1]
    flat = flat.to(query.dtype)
    logits = torch.einsum("bpc,nck->bpnk", query, flat).float() / math.sqrt(channels)
    logits = logits.masked_fill(~foreign[:, None, :, None], -1e4)
    affinity = torch.softmax(logits.flatten(2), -1).unflatten(2, (-1, cells)).to(query.dtype)
    unit = nn.functional.normalize(flat, dim=1)
    return torch.einsum("bpnk,nck->bpnc", affinity, unit).float()
