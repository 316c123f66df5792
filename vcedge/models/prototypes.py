"""SRNet's prototype transformer (PTM): each pixel asks the object's and the background's."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vcedge_runtime.errors import TrainingError
from vcedge_runtime.memory.objects import SIDES

STRIDE = 16
"""Pixels per cell."""
EMPTY = 1e-6
"""Added to the mask's sum, so that an empty one gives zeros."""


def cover_cells(masks: Tensor) -> Tensor:
    """(N, 1, 16 h, 16 w) float32 masks to (N, 1, h, w), how much of each cell they cover."""
    # In two steps, which is the same: a CPU pools small squares ten times as fast.
    side = math.isqrt(STRIDE)
    return nn.functional.avg_pool2d(nn.functional.avg_pool2d(masks, side), side)


def sum_features(values: Tensor, coverage: Tensor) -> tuple[Tensor, Tensor]:
    """Add up an object's features within its mask and outside (SRNet; the formula is our choice).

    Sums of several frames may be added; ``prototypes_from_sums`` makes prototypes of them.

    Args:
        values: (N, C, h, w), of N objects.
        coverage: (N, 1, h, w) float32, 0 to 1, of their masks.

    Returns:
        (N, 2, C) sums and (N, 2) sums of the weights, in cells; first within the mask.
    """
    both = torch.cat([coverage, 1 - coverage], 1).flatten(2)
    with torch.autocast(values.device.type, enabled=False):
        return both @ values.flatten(2).transpose(1, 2), both.sum(2)


def prototypes_from_sums(sums: Tensor, weights: Tensor) -> Tensor:
    """(..., 2, C) sums and their (..., 2) weights to (..., 2, C) mean features."""
    return sums / (weights[..., None] + EMPTY)


class Attention(nn.Module):
    """Multi-head attention between pixels and a few prototypes (Vaswani et al. 2017).

    Linear maps of the pixels before and after it are applied to the prototypes instead, which gives
    the same for a tenth of the work: a pixel takes a product with each head of each prototype.

    Args:
        channels: C, of both sets.
        heads: that share them.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(channels, channels)
        # A bias would move all logits of a query alike, which the softmax does not see.
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)

    def ask_pixels(self, prototypes: Tensor, places: Tensor, pixels: Tensor) -> Tensor:
        """(N, P, C) that ask, (N, K, C) keys and values of pixels, to (N, P, C)."""
        asked = self._split(self.query(prototypes)) @ self._rows(self.key.weight)
        logits = asked.flatten(1, 2) @ places.transpose(1, 2) * self._scale
        weights = torch.softmax(logits.float(), -1).to(pixels.dtype)
        seen = (weights @ pixels).unflatten(1, (self.heads, -1))
        # Weights add up to 1, so that the bias is what it was.
        values = seen @ self._rows(self.value.weight).transpose(1, 2)
        joined = values.transpose(1, 2).flatten(2) + self.value.bias
        found: Tensor = self.out(joined)
        return found

    def ask_prototypes(self, pixels: Tensor, keys: Tensor, prototypes: Tensor) -> Tensor:
        """(N, Q, C) pixels that ask, (N, P, C) keys and values of prototypes, to (N, Q, C)."""
        known = self._split(self.key(keys))
        asked = known @ self._rows(self.query.weight)
        own = known @ self.query.bias.unflatten(0, (self.heads, -1))[..., None]
        logits = pixels @ asked.flatten(1, 2).transpose(1, 2) + own.flatten(1)[:, None]
        logits = logits.unflatten(2, (self.heads, -1)) * self._scale
        weights = torch.softmax(logits.float(), -1).to(pixels.dtype).flatten(2)
        told = self._split(self.value(prototypes)) @ self._rows(self.out.weight.t())
        return weights @ told.flatten(1, 2) + self.out.bias

    @property
    def _scale(self) -> float:
        return 1 / math.sqrt(self.query.out_features // self.heads)

    def _split(self, x: Tensor) -> Tensor:
        """(N, P, C) to (N, heads, P, C / heads)."""
        split: Tensor = x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return split

    def _rows(self, weight: Tensor) -> Tensor:
        """(C, C) to (heads, C / heads, C), the rows of each head."""
        rows: Tensor = weight.unflatten(0, (self.heads, -1))
        return rows


class _FeedForward(nn.Sequential):
    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__(
            nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels)
        )


class _Round(nn.Module):
    """Prototypes look at the pixels, then pixels at the prototypes."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.prototype_attention = Attention(channels, heads)
        self.prototype_attention_norm = nn.LayerNorm(channels)
        self.prototype_ffn = _FeedForward(channels, 4 * channels)
        self.prototype_ffn_norm = nn.LayerNorm(channels)
        self.pixel_attention = Attention(channels, heads)
        self.pixel_attention_norm = nn.LayerNorm(channels)
        self.pixel_ffn = _FeedForward(channels, 2 * channels)
        self.pixel_ffn_norm = nn.LayerNorm(channels)

    def forward(
        self, pixels: Tensor, prototypes: Tensor, positions: Tensor, sides: Tensor
    ) -> tuple[Tensor, Tensor]:
        seen = self.prototype_attention.ask_pixels(prototypes + sides, pixels + positions, pixels)
        prototypes = self.prototype_attention_norm(prototypes + seen)
        prototypes = self.prototype_ffn_norm(prototypes + self.prototype_ffn(prototypes))
        heard = self.pixel_attention.ask_prototypes(
            pixels + positions, prototypes + sides, prototypes
        )
        pixels = self.pixel_attention_norm(pixels + heard)
        return self.pixel_ffn_norm(pixels + self.pixel_ffn(pixels)), prototypes


class PrototypeTransformer(nn.Module):
    """Iterative cross-attention between an object's pixels and its prototypes (SRNet, PTM).

    The paper gives the idea; that a prototype of the background stands beside the object's, without
    which every pixel would hear the same, and all widths are our choice.

    Args:
        channels: Cv, of a value.
        rounds: iterations.
        heads: of each attention.
        gated: whether what it changes of a channel is weighed by a gate, which begins at 0 (our
            choice): so it can be put into a trained network, whose masks stay as they are at first.

    Raises:
        TrainingError: the heads do not divide the channels.
    """

    def __init__(
        self, channels: int = 256, rounds: int = 3, heads: int = 8, *, gated: bool = False
    ) -> None:
        super().__init__()
        if heads < 1 or channels % heads or channels % 4 or rounds < 1:
            raise TrainingError(
                f"received {heads} heads and {rounds} rounds for {channels} channels; expected at "
                "least one round, and channels that 4 and the heads divide"
            )
        self.sides = nn.Parameter(torch.zeros(SIDES, channels))
        nn.init.normal_(self.sides, std=0.02)
        self.rounds = nn.ModuleList([_Round(channels, heads) for _ in range(rounds)])
        self.gate = nn.Parameter(torch.zeros(channels)) if gated else None

    def forward(self, x: Tensor, prototypes: Tensor, positions: Tensor) -> Tensor:
        """Let an object's features follow its prototypes.

        Args:
            x: (N, Cv, h, w) what was read for each of N objects.
            prototypes: (N, P, Cv), P = 2: of the object, of the background.
            positions: (h, w, Cv), see ``vcedge_runtime.propagation.prototypes.sine_positions``.

        Returns:
            (N, Cv, h, w).
        """
        height, width = x.shape[-2:]
        pixels, places = x.flatten(2).transpose(1, 2), positions.flatten(0, 1)
        sides = self.sides[: prototypes.shape[1]]
        for each in self.rounds:
            pixels, prototypes = each(pixels, prototypes, places, sides)
        if self.gate is not None:
            before = x.flatten(2).transpose(1, 2)
            pixels = before + self.gate * (pixels - before)
        found: Tensor = pixels.transpose(1, 2).unflatten(2, (height, width))
        return found
