"""The graphs of XMem as they are exported: a frame, K objects with states, packed keys."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vcedge.models.encoder import fold_batch_norm
from vcedge.models.graph import GraphModule
from vcedge.models.memory_readout import read_logits
from vcedge.models.prototypes import cover_cells, sum_features
from vcedge.models.pyramid import Pyramid
from vcedge.models.srnet_graphs import AggregationGraph
from vcedge.models.xmem import XMem, compare_weighted
from vcedge_runtime.errors import ExportError
from vcedge_runtime.memory.objects import SIDES
from vcedge_runtime.model.object_composition import MOST_GATHERED
from vcedge_runtime.model.spec import GraphSpec, TensorSpec
from vcedge_runtime.sampling.windows import MASKED_LOGIT


class XMemQueryGraph(GraphModule):
    """``query_encoder``: what a frame gives before any object is known; its key is packed."""

    def __init__(self, network: XMem) -> None:
        super().__init__()
        self._encoder = fold_batch_norm(network.query)
        self._key_dim = network.profile.key_dim

    @property
    def spec(self) -> GraphSpec:
        """The graph's tensors."""
        c4, c8, c16 = self._encoder.trunk.widths
        return GraphSpec(
            "query_encoder",
            (TensorSpec("image", "float32", (1, 3, "H", "W")),),
            (
                TensorSpec("key", "float32", ("h", "w", self._key_dim)),
                TensorSpec("f16", "float32", (1, c16, "h", "w")),
                TensorSpec("f8", "float32", (1, c8, "h8", "w8")),
                TensorSpec("f4", "float32", (1, c4, "h4", "w4")),
            ),
        )

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(1, 3, H, W) float32 in the profile's input colour to the outputs of ``spec``."""
        key, shrinkage, selection, frame = self._encoder(image)
        packed = torch.cat([key, shrinkage, selection], 1)
        return packed[0].permute(1, 2, 0).contiguous(), frame.f16, frame.f8, frame.f4


class XMemValueGraph(GraphModule):
    """``value_encoder``: what memory keeps of a frame's objects, and what their states learn."""

    def __init__(self, network: XMem) -> None:
        super().__init__()
        self._encoder = fold_batch_norm(network.value)
        self._reinforce = network.reinforce
        self._deep = network.query.trunk.widths[2]
        self._dims = network.profile.value_dim, network.hidden_dim

    @property
    def spec(self) -> GraphSpec:
        """The graph's tensors."""
        dim, hidden = self._dims
        states = ("objects", hidden, "h", "w")
        return GraphSpec(
            "value_encoder",
            (
                TensorSpec("image", "float32", (1, 3, "H", "W")),
                TensorSpec("f16", "float32", (1, self._deep, "h", "w")),
                TensorSpec("hidden", "float32", states),
                TensorSpec("masks", "float32", ("objects", "H", "W")),
                TensorSpec("background", "float32", (1, "H", "W")),
            ),
            (
                TensorSpec("value", "float32", ("h", "w", "objects", dim)),
                TensorSpec("sums", "float32", ("objects", SIDES, dim)),
                TensorSpec("weights", "float32", ("objects", SIDES)),
                TensorSpec("coverage", "float32", ("objects", "h", "w")),
                TensorSpec("next_hidden", "float32", states),
            ),
        )

    def forward(
        self, image: Tensor, f16: Tensor, hidden: Tensor, masks: Tensor, background: Tensor
    ) -> tuple[Tensor, ...]:
        """See ``spec`` and ``ValueGraph``."""
        others = 1 - background - masks
        values = self._encoder({"image": image, "f16": f16}, masks[None], others[None])[0]
        coverage = cover_cells(masks[:, None])
        sums, weights = sum_features(values, coverage)
        after = self._reinforce(values, hidden)
        return values.permute(2, 3, 0, 1).contiguous(), sums, weights, coverage[:, 0], after


class XMemReadGraph(GraphModule):
    """``memory_read``: as SRNet's, by packed keys; it also tells which cells were read.

    Of cells that are as near as the last of the ``top_k``, any may be taken, as in XMem.

    Args:
        key_dim: of packed keys.
        top_k: cells that take part.

    Raises:
        ExportError: there are more of them than are gathered, or all.
    """

    def __init__(self, key_dim: int, top_k: int | None) -> None:
        super().__init__()
        if top_k is None or top_k > MOST_GATHERED:
            raise ExportError(f"received top_k={top_k} for XMem; expected 1 to {MOST_GATHERED}")
        self._key_dim = key_dim
        self._top_k = top_k

    @property
    def spec(self) -> GraphSpec:
        """The graph's tensors."""
        nearest = ("h", "w", self._top_k)
        return GraphSpec(
            "memory_read",
            (
                TensorSpec("query", "float32", ("h", "w", self._key_dim)),
                TensorSpec("keys", "float32", ("slots", "h", "w", self._key_dim)),
                TensorSpec("values", "float32", ("slots", "h", "w", "objects", "channels")),
                TensorSpec("slot_index", "int64", ("references",)),
                TensorSpec("cell_valid", "float32", ("references", "h", "w")),
            ),
            (
                TensorSpec("readout", "float32", ("objects", "channels", "h", "w")),
                TensorSpec("weights", "float32", nearest),
                TensorSpec("cells", "int64", nearest),
            ),
        )

    def forward(
        self, query: Tensor, keys: Tensor, values: Tensor, slot_index: Tensor, cell_valid: Tensor
    ) -> tuple[Tensor, ...]:
        """See ``spec``; of the nearest, weights sum to 1, and cells count on through the slots."""
        height, width = query.shape[:2]
        chosen = torch.index_select(keys, 0, slot_index).reshape(-1, self._key_dim)
        content = torch.index_select(values, 0, slot_index).flatten(3).flatten(0, 2)
        bias = (1 - cell_valid).reshape(-1) * float(MASKED_LOGIT)
        logits = compare_weighted(query.flatten(0, 1), chosen, bias)
        found, weights, cells = read_logits(logits, content, self._top_k)
        planes = found.reshape(height, width, values.shape[3], values.shape[4])
        nearest = (each.reshape(height, width, -1) for each in (weights, cells))
        return planes.permute(2, 3, 0, 1).contiguous(), *nearest


class XMemDecoderGraph(GraphModule):
    """``mask_decoder``: each object's own mask, and what its state learns."""

    def __init__(self, network: XMem) -> None:
        super().__init__()
        self._decoder = network.decoder
        self._widths = network.query.trunk.widths
        self._dims = network.profile.value_dim, network.hidden_dim

    @property
    def spec(self) -> GraphSpec:
        """The graph's tensors."""
        c4, c8, c16 = self._widths
        dim, hidden = self._dims
        states = ("objects", hidden, "h", "w")
        return GraphSpec(
            "mask_decoder",
            (
                TensorSpec("features", "float32", ("objects", dim, "h", "w")),
                TensorSpec("hidden", "float32", states),
                TensorSpec("f16", "float32", (1, c16, "h", "w")),
                TensorSpec("f8", "float32", (1, c8, "h8", "w8")),
                TensorSpec("f4", "float32", (1, c4, "h4", "w4")),
            ),
            (
                TensorSpec("logits", "float32", ("objects", "H", "W")),
                TensorSpec("next_hidden", "float32", states),
            ),
        )

    def forward(
        self, features: Tensor, hidden: Tensor, f16: Tensor, f8: Tensor, f4: Tensor
    ) -> tuple[Tensor, ...]:
        """See ``spec``."""
        logits, after = self._decoder(features, hidden, Pyramid(f4, f8, f16))
        return logits, after


def xmem_graphs(network: XMem, top_k: int | None) -> Mapping[str, GraphModule]:
    """Every graph of XMem, by name, in evaluation mode; see ``srnet_graphs``."""
    graphs: tuple[GraphModule, ...] = (
        XMemQueryGraph(network),
        XMemValueGraph(network),
        XMemReadGraph(network.profile.key_dim, top_k),
        XMemDecoderGraph(network),
        AggregationGraph(),
    )
    return {graph.spec.name: graph.eval() for graph in graphs}
