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


@dataclass(frozen=True)
class ValueSettings:
    """The free choices of the network.

    Attributes:
        omega: weight of a window's likeness to its own frame (MER, eq. 7).
        literal: eq. 7 as printed, in which omega is inert; otherwise the likeness to all windows of
            the own frame is subtracted (our reading).
        dropkey: share of key positions that a training step hides from the attention (our choice).
    """

    omega: float = 0.6
    literal: bool = False
    dropkey: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.dropkey < 1:
            raise TrainingError(f"dropkey must be in [0, 1), received {self.dropkey}")


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
        """Refine the keys of a batch of frames.

        Args:
            x: (B, C, h, w) keys of the frames.
            refs: (B, R, C, h, w) keys of their references.
            valid: (B, R) float32, 1 for a reference, 0 for an empty place.
            grid: the tables of this key grid.
        """
        value_map = self.value_map(grid.pool(x), grid.pool(refs.flatten(0, 1)), valid)
        spread = grid.spread(value_map[:, None])
        place = grid.spread(self.position)
        keys = grid.pool(self.encode_map(torch.cat([x, spread.to(x.dtype)], 1)) + place)
        tokens = self.to_key(keys).flatten(2)
        values = self.to_value(grid.pool(x + place)).flatten(2)
        query = self.to_query(x + place).flatten(2).transpose(1, 2)
        logits = torch.matmul(query, tokens).float() / math.sqrt(self.key_dim)
        attention = torch.softmax(self._drop(logits), -1).to(values.dtype)
        read = torch.matmul(attention, values.transpose(1, 2)).transpose(1, 2)
        return Extracted(x + self.gate * self.to_out(read.reshape(x.shape)), value_map)

    def value_map(self, tokens: Tensor, reference_tokens: Tensor, valid: Tensor) -> Tensor:
        """Window cosines (MER, eq. 7 and 8), stretched to [0, 1] over the frame (our choice).

        Args:
            tokens: (B, C, ty, tx) of the frames.
            reference_tokens: (B * R, C, ty, tx) of their references.
            valid: (B, R) float32.

        Returns:
            (B, N, N) float32 in [0, 1].
        """
        own = _window_vectors(tokens)
        others = _window_vectors(reference_tokens).mean(1).unflatten(0, valid.shape)
        seen = (others * valid[..., None]).sum(1) / valid.sum(1, keepdim=True).clamp(min=1)
        likeness = torch.matmul(own, seen[..., None])[..., 0]
        itself = torch.ones_like(likeness)
        if not self.settings.literal:
            itself = torch.matmul(own, own.mean(1, keepdim=True).transpose(1, 2))[..., 0]
        likeness = likeness - self.settings.omega * itself
        low, high = likeness.amin(1, keepdim=True), likeness.amax(1, keepdim=True)
        stretched = (likeness - low) / (high - low).clamp(min=1e-6)
        return stretched.reshape(-1, WINDOWS, WINDOWS)

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
    """The network as it is exported: one frame, references picked from memory."""

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
        keys: Tensor,
        slot_index: Tensor,
        slot_valid: Tensor,
        pool_y: Tensor,
        pool_x: Tensor,
        up_y: Tensor,
        up_x: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Refine the key of the current frame.

        Args:
            x: (h, w, C) float32 key as the encoder gave it.
            keys: (S, h, w, C) float32 keys in memory, likewise.
            slot_index: (R,) int64 slots of the references.
            slot_valid: (R,) float32, 1 for a reference, 0 for an empty place.
            pool_y: (32, h) float32, see ``TokenGrid``.
            pool_x: (w, 32) float32.
            up_y: (h, 8) float32.
            up_x: (8, w) float32.

        Returns:
            (h, w, C) float32 refined key, (8, 8) float32 value map in [0, 1].
        """
        refs = keys.index_select(0, slot_index).permute(0, 3, 1, 2)[None]
        found = self._values(
            x.permute(2, 0, 1)[None], refs, slot_valid[None], Grid(pool_y, pool_x, up_y, up_x)
        )
        return found.key[0].permute(1, 2, 0).contiguous(), found.value_map[0]
