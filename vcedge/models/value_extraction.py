"""MER's Value Extraction Network: a key is refined by where its frame resembles the references."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vcedge.models.graph import GraphModule
from vcedge_runtime.errors import TrainingError
from vcedge_runtime.model.spec import GraphSpec, TensorSpec
from vcedge_runtime.sampling.tokens import TOKENS, WINDOWS, TokenGrid, token_grid

READINGS = ("static", "own", "literal")
"""How eq. 7 may be read; see ``ValueSettings``."""


@dataclass(frozen=True)
class ValueSettings:
    """The free choices of the network; part of its weights.

    Attributes:
        reading: what Omega takes off a window's likeness to all windows of the references (MER, eq.
            7): ``static``, its likeness to the same place in them, so that what moves stands out
            (our reading); ``own``, its likeness to all windows of its own frame; ``literal``, 1, as
            printed, in which Omega is inert.
        omega: the weight of that.
        dropkey: share of key positions that a training step hides from the attention (our choice).
    """

    reading: str = "static"
    omega: float = 0.6
    dropkey: float = 0.1

    def __post_init__(self) -> None:
        if self.reading not in READINGS or not self.omega >= 0:
            raise TrainingError(
                f"received reading {self.reading!r} and omega {self.omega}; expected one of "
                f"{READINGS} and an Omega that is not negative"
            )
        if not 0 <= self.dropkey < 1:
            raise TrainingError(f"dropkey must be in [0, 1), received {self.dropkey}")


FORMER = ValueSettings("own")
"""What weights from before, which do not say it, were trained with."""


class Extracted(NamedTuple):
    """What the network gives.

    Attributes:
        key: (B, C, h, w) the refined keys.
        value_map: (B, N, N) in [0, 1], how much each window is seen in the references.
    """

    key: Tensor
    value_map: Tensor


class ValueExtraction(nn.Module):
    """Eqs. 6 to 12 of MER on keys, with keys and values of the attention pooled to tokens.

    The residual starts at 0, so that an encoder that was trained alone is not disturbed: its gate
    at 1 and the last projection at 0, which learns faster than a gate at 0 (our choice).
    """

    def __init__(self, key_dim: int = 64, settings: ValueSettings | None = None) -> None:
        super().__init__()
        self.key_dim = key_dim
        self.settings = settings or ValueSettings()
        self.encode_map = nn.Conv2d(key_dim + 1, key_dim, 3, 1, 1)
        self.position = nn.Parameter(torch.zeros(1, 1, WINDOWS, WINDOWS))
        self.to_key = nn.Conv2d(key_dim, key_dim, 1)
        self.to_query = nn.Conv2d(key_dim, key_dim, 1)
        self.to_value = nn.Conv2d(key_dim, key_dim, 1)
        self.to_out = nn.Conv2d(key_dim, key_dim, 1)
        for parameter in self.to_out.parameters():
            nn.init.zeros_(parameter)
        self.gate = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, refs: Tensor, valid: Tensor, grid: Grid) -> Extracted:
        """Refine the keys of a batch of whole frames, each by its own value map.

        Args:
            x: (B, C, h, w) keys of the frames.
            refs: (B, R, C, h, w) keys of their references.
            valid: (B, R) float32, 1 for a reference, 0 for an empty place.
            grid: the tables of this key grid.
        """
        value_map = self.value_map(grid.pool(x), grid.pool(refs.flatten(0, 1)), valid)
        place = grid.spread(self.position)
        tokens = self.map_tokens(x, value_map, place, grid)
        return Extracted(self.refine(x, tokens, place, grid), value_map)

    def map_tokens(self, target: Tensor, value_map: Tensor, place: Tensor, grid: Grid) -> Tensor:
        """Keys of the attention, of a target with its value map (MER, eq. 10).

        Args:
            target: (B, C, h, w) keys of the target.
            value_map: (B, N, N).
            place: (B or 1, 1, h, w) what ``position`` is at each cell.
            grid: the tables of this key grid.

        Returns:
            (B, C, tokens).
        """
        spread = grid.spread(value_map[:, None]).to(target.dtype)
        encoded = self.encode_map(torch.cat([target, spread], 1)) + place
        tokens: Tensor = self.to_key(grid.pool(encoded)).flatten(2)
        return tokens

    def refine(self, x: Tensor, tokens: Tensor, place: Tensor, grid: Grid) -> Tensor:
        """Refine keys of frames by a target's tokens (MER, eqs. 10 to 12).

        Args:
            x: (B, C, h, w) keys of the frames, of the target itself or of a reference.
            tokens: (B, C, tokens) of ``map_tokens``.
            place: (B or 1, 1, h, w) of the frames.
            grid: the tables of this key grid.
        """
        values = self.to_value(grid.pool(x + place)).flatten(2)
        query = self.to_query(x + place).flatten(2).transpose(1, 2)
        logits = torch.matmul(query, tokens).float() / math.sqrt(self.key_dim)
        attention = torch.softmax(self._drop(logits), -1).to(values.dtype)
        read = torch.matmul(attention, values.transpose(1, 2)).transpose(1, 2)
        refined: Tensor = x + self.gate * self.to_out(read.reshape(x.shape))
        return refined

    def value_map(self, tokens: Tensor, reference_tokens: Tensor, valid: Tensor) -> Tensor:
        """Window cosines (MER, eq. 7 and 8), stretched to [0, 1] over the frame (our choice).

        Args:
            tokens: (B, C, ty, tx) of the frames.
            reference_tokens: (B * R, C, ty, tx) of their references, at the same places.
            valid: (B, R) float32.

        Returns:
            (B, N, N) float32 in [0, 1].
        """
        own = _window_vectors(tokens)
        others = _window_vectors(reference_tokens).unflatten(0, valid.shape)
        seen = _mean_reference(others.mean(2), valid)
        likeness = torch.matmul(own, seen[..., None])[..., 0]
        likeness = likeness - self.settings.omega * self._expected(own, others, valid)
        low, high = likeness.amin(1, keepdim=True), likeness.amax(1, keepdim=True)
        stretched = (likeness - low) / (high - low).clamp(min=1e-6)
        return stretched.reshape(-1, WINDOWS, WINDOWS)

    def _expected(self, own: Tensor, others: Tensor, valid: Tensor) -> Tensor:
        """(B, N * N): what Omega takes off; see ``ValueSettings``."""
        if self.settings.reading == "static":
            return (own * _mean_reference(others, valid)).sum(-1)
        if self.settings.reading == "own":
            return torch.matmul(own, own.mean(1, keepdim=True).transpose(1, 2))[..., 0]
        return torch.ones_like(own[..., 0])

    def _drop(self, logits: Tensor) -> Tensor:
        if not self.training or self.settings.dropkey == 0:
            return logits
        dropped = torch.rand(logits.shape[0], 1, logits.shape[2], device=logits.device)
        return logits.masked_fill(dropped < self.settings.dropkey, -1e4)


class Grid(NamedTuple):
    """The tables of one key grid as tensors; see ``TokenGrid``."""

    pool_y: Tensor
    pool_x: Tensor
    up_y: Tensor
    up_x: Tensor

    @classmethod
    def of(cls, tables: TokenGrid, device: torch.device | None = None) -> Grid:
        """Bring the tables to a device."""
        names = ("pool_y", "pool_x", "up_y", "up_x")
        return cls(*(torch.from_numpy(getattr(tables, name)).to(device) for name in names))

    def pool(self, planes: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C, ty, tx), by averages."""
        return torch.matmul(
            torch.matmul(self.pool_y.to(planes.dtype), planes), self.pool_x.to(planes.dtype)
        )

    def spread(self, windows: Tensor) -> Tensor:
        """(B, C, N, N) to (B, C, h, w), bilinear."""
        return torch.matmul(torch.matmul(self.up_y, windows.float()), self.up_x)


def training_grid(grid_hw: tuple[int, int], device: torch.device | None = None) -> Grid:
    """Tables of a small grid, whose tokens are as many as its cells allow, at most ``TOKENS``."""
    side = max(WINDOWS, min(TOKENS, min(grid_hw) // WINDOWS * WINDOWS))
    return Grid.of(token_grid(grid_hw, tokens=side), device)


def _mean_reference(references: Tensor, valid: Tensor) -> Tensor:
    """(B, R, ...) to (B, ...), the mean over those that are valid, (B, R)."""
    weight = valid / valid.sum(1, keepdim=True).clamp(min=1)
    weighted = references * weight.reshape(*valid.shape, *[1] * (references.dim() - 2))
    return weighted.sum(1)


def _window_vectors(tokens: Tensor) -> Tensor:
    """(B, C, ty, tx) to (B, N * N, D), each window's tokens as one vector of length 1."""
    batch, channels, height, width = tokens.shape
    cut = tokens.float().reshape(
        batch, channels, WINDOWS, height // WINDOWS, WINDOWS, width // WINDOWS
    )
    vectors = cut.permute(0, 2, 4, 1, 3, 5).reshape(batch, WINDOWS * WINDOWS, -1)
    unit: Tensor = vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    return unit


class FrameValues(GraphModule):
    """The network as it is exported: one frame by the value map of another, or by its own."""

    def __init__(self, values: ValueExtraction, references: int) -> None:
        super().__init__()
        self.references = references
        self._values = copy.deepcopy(values).float().eval()

    @property
    def spec(self) -> GraphSpec:
        """The graph's tensors."""
        key_dim = self._values.key_dim
        inputs = (
            TensorSpec("x", "float32", ("h", "w", key_dim)),
            TensorSpec("target", "float32", ("h", "w", key_dim)),
            TensorSpec("keys", "float32", ("slots", "h", "w", key_dim)),
            TensorSpec("slot_index", "int64", (self.references,)),
            TensorSpec("slot_valid", "float32", (self.references,)),
            TensorSpec("pool_y", "float32", (TOKENS, "h")),
            TensorSpec("pool_x", "float32", ("w", TOKENS)),
            TensorSpec("up_y", "float32", ("h", WINDOWS)),
            TensorSpec("up_x", "float32", (WINDOWS, "w")),
        )
        outputs = (
            TensorSpec("key", "float32", ("h", "w", key_dim)),
            TensorSpec("value_map", "float32", (WINDOWS, WINDOWS)),
        )
        return GraphSpec("value_extraction", inputs, outputs)

    def forward(
        self,
        x: Tensor,
        target: Tensor,
        keys: Tensor,
        slot_index: Tensor,
        slot_valid: Tensor,
        pool_y: Tensor,
        pool_x: Tensor,
        up_y: Tensor,
        up_x: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Refine the key of a frame.

        Args:
            x: (h, w, C) float32 key of the frame as the encoder gave it.
            target: (h, w, C) float32 key, likewise, of the frame whose value map refines it.
            keys: (S, h, w, C) float32 keys in memory, likewise.
            slot_index: (R,) int64 slots of the target's references.
            slot_valid: (R,) float32, 1 for a reference, 0 for an empty place.
            pool_y: (32, h) float32, see ``TokenGrid``.
            pool_x: (w, 32) float32.
            up_y: (h, 8) float32.
            up_x: (8, w) float32.

        Returns:
            (h, w, C) float32 refined key, (8, 8) float32 value map of the target in [0, 1].
        """
        values, grid = self._values, Grid(pool_y, pool_x, up_y, up_x)
        frame, seen = x.permute(2, 0, 1)[None], target.permute(2, 0, 1)[None]
        refs = keys.index_select(0, slot_index).permute(0, 3, 1, 2)
        value_map = values.value_map(grid.pool(seen), grid.pool(refs), slot_valid[None])
        place = grid.spread(values.position)
        tokens = values.map_tokens(seen, value_map, place, grid)
        key = values.refine(frame, tokens, place, grid)
        return key[0].permute(1, 2, 0).contiguous(), value_map[0]
