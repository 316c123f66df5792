"""The label readout as a torch module: what the exported graph computes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vcedge_runtime.spec import GraphSpec, TensorSpec


class LabelReadout(nn.Module):
    """Windowed affinity over several references with one joint softmax, by tiles (MER, eq. 1, 2).

    Logits are scaled by 1 / (sqrt(C) * temperature): a temperature below 1 (our choice, measured)
    sharpens what training left soft. With ``top_k`` only the k largest of a query take part, chosen
    by threshold: ties with the k-th value stay in.
    """

    def __init__(
        self, key_dim: int, references: int, top_k: int | None = None, temperature: float = 1.0
    ) -> None:
        super().__init__()
        self.key_dim = key_dim
        self.references = references
        self.top_k = top_k
        self.scale = 1 / (math.sqrt(key_dim) * temperature)

    @property
    def spec(self) -> GraphSpec:
        """The graph's tensors; ``forward`` says what each holds."""
        inputs = (
            TensorSpec("query", "float32", ("h", "w", self.key_dim)),
            TensorSpec("keys", "float32", ("slots", "h", "w", self.key_dim)),
            TensorSpec("labels", "float32", ("slots", "h", "w", "channels")),
            TensorSpec("slot_offset", "int64", (self.references,)),
            TensorSpec("slot_bias", "float32", (self.references,)),
            TensorSpec("query_index", "int64", ("tiles", "queries")),
            TensorSpec("key_index", "int64", ("tiles", "patch")),
            TensorSpec("key_bias", "float32", ("tiles", "patch")),
            TensorSpec("window_bias", "float32", ("queries", "patch")),
        )
        outputs = (TensorSpec("readout", "float32", ("tiles", "queries", "channels")),)
        return GraphSpec("label_readout", inputs, outputs)

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        labels: Tensor,
        slot_offset: Tensor,
        slot_bias: Tensor,
        query_index: Tensor,
        key_index: Tensor,
        key_bias: Tensor,
        window_bias: Tensor,
    ) -> Tensor:
        """Read the labels of N tiles of A queries from R references of a memory of S slots.

        Args:
            query: (h, w, C) float32, key of the current frame.
            keys: (S, h, w, C) float32, keys of the memory.
            labels: (S, h, w, L) float32, soft labels of the memory.
            slot_offset: (R,) int64, first cell of each reference's slot, slot * h * w.
            slot_bias: (R,) float32, 0 for a valid reference, -1e4 otherwise.
            query_index: (N, A) int64, cells of the queries.
            key_index: (N, P) int64, cells of the patch that a tile looks at.
            key_bias: (N, P) float32, 0 for a cell of the grid, -1e4 beyond it.
            window_bias: (A, P) float32, 0 inside a query's window, -1e4 outside.

        Returns:
            (N, A, L) float32 soft labels.
        """
        tiles, queries = query_index.shape
        cells = (slot_offset[None, :, None] + key_index[:, None, :]).reshape(tiles, -1)
        tile_query = _take_rows(query, query_index) * self.scale
        tile_keys = _take_rows(keys, cells)
        logits = torch.matmul(tile_query, tile_keys.transpose(1, 2))
        references, patch = self.references, key_index.shape[1]
        bias = slot_bias[None, None, :, None] + key_bias[:, None, None, :]
        logits = logits.reshape(tiles, queries, references, patch) + bias
        logits = (logits + window_bias[None, :, None, :]).reshape(tiles, queries, -1)
        if self.top_k is not None:
            threshold = torch.topk(logits, self.top_k, dim=-1).values[..., -1:]
            logits = torch.where(logits >= threshold, logits, torch.full_like(logits, -1e4))
        affinity = torch.softmax(logits, dim=-1)
        readout: Tensor = torch.matmul(affinity, _take_rows(labels, cells))
        return readout


def _take_rows(cells: Tensor, index: Tensor) -> Tensor:
    rows = cells.reshape(-1, cells.shape[-1])
    # index_select exports as Gather; indexing by a matrix would become GatherND.
    return rows.index_select(0, index.reshape(-1)).reshape(*index.shape, -1)
