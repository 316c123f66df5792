"""The graphs of SRNet and STCN as they are exported: a frame, K objects, cells as memory rows."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from vcedge.models.aggregation import aggregate_odds
from vcedge.models.encoder import fold_batch_norm
from vcedge.models.graph import GraphModule
from vcedge.models.memory_readout import read_memory, read_nearest
from vcedge.models.prototypes import cover_cells, prototypes_from_sums, sum_features
from vcedge.models.srnet import SRNet
from vcedge.models.stcn import STCN
from vcedge_runtime.memory.objects import SIDES
from vcedge_runtime.model.spec import GraphSpec, TensorSpec
from vcedge_runtime.sampling.windows import MASKED_LOGIT

Skeleton = SRNet | STCN
"""A network whose frames and objects are encoded and decoded as STCN's are."""


class QueryGraph(GraphModule):
    """``query_encoder``: what a frame gives before any object is known."""

    def __init__(self, network: Skeleton) -> None:
        super().__init__()
        self._encoder = fold_batch_norm(network.query)
        self._profile = network.profile

    @property
    def spec(self) -> GraphSpec:
        """The graph's tensors."""
        c4, c8, c16 = self._encoder.trunk.widths
        profile = self._profile
        return GraphSpec(
            "query_encoder",
            (TensorSpec("image", "float32", (1, 3, "H", "W")),),
            (
                TensorSpec("key", "float32", ("h", "w", profile.key_dim)),
                TensorSpec("content", "float32", (1, profile.value_dim, "h", "w")),
                TensorSpec("f16", "float32", (1, c16, "h", "w")),
                TensorSpec("f8", "float32", (1, c8, "h8", "w8")),
                TensorSpec("f4", "float32", (1, c4, "h4", "w4")),
            ),
        )

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(1, 3, H, W) float32 in the profile's input colour to the outputs of ``spec``."""
        key, content, frame = self._encoder(image)
        return _cells(key), content, frame.f16, frame.f8, frame.f4


class ValueGraph(GraphModule):
    """``value_encoder``: what memory keeps of a frame's objects, encoded with the picture."""

    def __init__(self, network: Skeleton) -> None:
        super().__init__()
        self._encoder = fold_batch_norm(network.value)
        self._widths = network.query.trunk.widths
        self._profile = network.profile

    @property
    def spec(self) -> GraphSpec:
        """The graph's tensors: what the encoder takes of the frame, and the objects' masks."""
        c4, c8, c16 = self._widths
        dim = self._profile.value_dim
        frame = {
            "image": (1, 3, "H", "W"),
            "f4": (1, c4, "h4", "w4"),
            "f8": (1, c8, "h8", "w8"),
            "f16": (1, c16, "h", "w"),
        }
        return GraphSpec(
            "value_encoder",
            (
                *(TensorSpec(name, "float32", frame[name]) for name in self._encoder.takes),
                TensorSpec("masks", "float32", ("objects", "H", "W")),
                TensorSpec("background", "float32", (1, "H", "W")),
            ),
            (
                TensorSpec("value", "float32", ("h", "w", "objects", dim)),
                TensorSpec("sums", "float32", ("objects", SIDES, dim)),
                TensorSpec("weights", "float32", ("objects", SIDES)),
                TensorSpec("coverage", "float32", ("objects", "h", "w")),
            ),
        )

    def forward(
        self, image: Tensor, f16: Tensor, masks: Tensor, background: Tensor
    ) -> tuple[Tensor, ...]:
        """See ``spec``; the sums make prototypes, see ``sum_features``.

        Masks and background sum to 1 over all of a frame's objects, of which these may be some.
        """
        return self._encode({"image": image, "f16": f16}, masks, background)

    def _encode(
        self, frame: Mapping[str, Tensor], masks: Tensor, background: Tensor
    ) -> tuple[Tensor, ...]:
        others = 1 - background - masks
        values = self._encoder(frame, masks[None], others[None])[0]
        coverage = cover_cells(masks[:, None])
        sums, weights = sum_features(values, coverage)
        return values.permute(2, 3, 0, 1).contiguous(), sums, weights, coverage[:, 0]


class FeatureValueGraph(ValueGraph):
    """``value_encoder``: the same, made of the query's features.

    A class of its own, since the exporter wants each input as an argument.
    """

    def forward(  # type: ignore[override]
        self, f4: Tensor, f8: Tensor, f16: Tensor, masks: Tensor, background: Tensor
    ) -> tuple[Tensor, ...]:
        """See ``ValueGraph.forward``."""
        return self._encode({"f4": f4, "f8": f8, "f16": f16}, masks, background)


class AlignmentGraph(GraphModule):
    """``feature_alignment``: the local memory, bent towards the query.

    Args:
        network: the whole.
        native: see ``DeformableConv``.
    """

    def __init__(self, network: SRNet, *, native: bool = False) -> None:
        super().__init__()
        self._alignment = copy.deepcopy(network.alignment)
        for convolution in (self._alignment.deform_key, self._alignment.deform_value):
            convolution.native = native
        self._profile = network.profile

    @property
    def spec(self) -> GraphSpec:
        """The graph's tensors."""
        key = ("h", "w", self._profile.key_dim)
        value = ("h", "w", "objects", self._profile.value_dim)
        return GraphSpec(
            "feature_alignment",
            (
                TensorSpec("query", "float32", key),
                TensorSpec("key", "float32", key),
                TensorSpec("value", "float32", value),
            ),
            (
                TensorSpec("aligned_key", "float32", key),
                TensorSpec("aligned_value", "float32", value),
            ),
        )

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """See ``spec``."""
        aligned = self._alignment(_planes(query), _planes(key), value.permute(2, 3, 0, 1)[None])
        return _cells(aligned.key), aligned.value[0].permute(2, 3, 0, 1).contiguous()


class MemoryReadGraph(GraphModule):
    """``memory_read``: what all objects have in memory where it looks like the query.

    The block of memory is taken whole, and R of its slots are read; one that is not valid has no
    weight at all.

    Args:
        key_dim: Ck.
        top_k: cells that take part; all where None.
    """

    def __init__(self, key_dim: int, top_k: int | None) -> None:
        super().__init__()
        self._key_dim = key_dim
        self._top_k = top_k

    @property
    def spec(self) -> GraphSpec:
        """The graph's tensors."""
        return GraphSpec(
            "memory_read",
            (
                TensorSpec("query", "float32", ("h", "w", self._key_dim)),
                TensorSpec("keys", "float32", ("slots", "h", "w", self._key_dim)),
                TensorSpec("values", "float32", ("slots", "h", "w", "objects", "channels")),
                TensorSpec("slot_index", "int64", ("references",)),
                TensorSpec("slot_valid", "float32", ("references",)),
            ),
            (TensorSpec("readout", "float32", ("objects", "channels", "h", "w")),),
        )

    def forward(
        self, query: Tensor, keys: Tensor, values: Tensor, slot_index: Tensor, slot_valid: Tensor
    ) -> Tensor:
        """See ``spec``."""
        height, width = query.shape[:2]
        cells = height * width
        chosen = torch.index_select(keys, 0, slot_index).reshape(-1, self._key_dim)
        content = torch.index_select(values, 0, slot_index).flatten(3).flatten(0, 2)
        bias = ((1 - slot_valid) * float(MASKED_LOGIT))[:, None].expand(-1, cells).reshape(-1)
        cells_of_query = query.flatten(0, 1)
        if self._top_k is None:
            found = read_memory(cells_of_query, chosen, content, bias)
        else:
            found = read_nearest(cells_of_query, chosen, content, bias, self._top_k)
        planes = found.reshape(height, width, values.shape[3], values.shape[4])
        return planes.permute(2, 3, 0, 1).contiguous()


class MixGraph(GraphModule):
    """``readout_mix``: what was read, and the local memory itself, become one."""

    def __init__(self, network: SRNet) -> None:
        super().__init__()
        self._mix = network.mix
        self._dim = network.profile.value_dim

    @property
    def spec(self) -> GraphSpec:
        """The graph's tensors."""
        planes = ("objects", self._dim, "h", "w")
        return GraphSpec(
            "readout_mix",
            (
                TensorSpec("readout", "float32", planes),
                TensorSpec("local_readout", "float32", planes),
                TensorSpec("local_value", "float32", ("h", "w", "objects", self._dim)),
            ),
            (TensorSpec("mixed", "float32", planes),),
        )

    def forward(self, readout: Tensor, local_readout: Tensor, local_value: Tensor) -> Tensor:
        """See ``spec``."""
        mixed: Tensor = self._mix.join(readout, local_readout, local_value.permute(2, 3, 0, 1))
        return mixed


class PrototypeGraph(GraphModule):
    """``prototype_transformer``: what was read follows the objects' prototypes."""

    def __init__(self, network: SRNet) -> None:
        super().__init__()
        self._transformer = network.prototypes
        self._dim = network.profile.value_dim

    @property
    def spec(self) -> GraphSpec:
        """The graph's tensors."""
        planes = ("objects", self._dim, "h", "w")
        return GraphSpec(
            "prototype_transformer",
            (
                TensorSpec("mixed", "float32", planes),
                TensorSpec("sums", "float32", ("objects", SIDES, self._dim)),
                TensorSpec("weights", "float32", ("objects", SIDES)),
                TensorSpec("positions", "float32", ("h", "w", self._dim)),
            ),
            (TensorSpec("features", "float32", planes),),
        )

    def forward(self, mixed: Tensor, sums: Tensor, weights: Tensor, positions: Tensor) -> Tensor:
        """See ``spec``."""
        features: Tensor = self._transformer(mixed, prototypes_from_sums(sums, weights), positions)
        return features


class DecoderGraph(GraphModule):
    """``mask_decoder``: each object's own mask."""

    def __init__(self, network: Skeleton) -> None:
        super().__init__()
        self._decoder = network.decoder
        self._widths = network.query.trunk.widths
        self._dim = network.profile.value_dim

    @property
    def spec(self) -> GraphSpec:
        """The graph's tensors."""
        return GraphSpec(
            "mask_decoder",
            (
                TensorSpec("features", "float32", ("objects", self._dim, "h", "w")),
                TensorSpec("content", "float32", (1, self._dim, "h", "w")),
                TensorSpec("f8", "float32", (1, self._widths[1], "h8", "w8")),
                TensorSpec("f4", "float32", (1, self._widths[0], "h4", "w4")),
            ),
            (TensorSpec("logits", "float32", ("objects", "H", "W")),),
        )

    def forward(self, features: Tensor, content: Tensor, f8: Tensor, f4: Tensor) -> Tensor:
        """See ``spec``."""
        logits: Tensor = self._decoder(features[None], content, f8, f4)
        return logits[0]


class AggregationGraph(GraphModule):
    """``soft_aggregation``: objects compete for pixels, and the background is what they leave."""

    @property
    def spec(self) -> GraphSpec:
        """The graph's tensors."""
        return GraphSpec(
            "soft_aggregation",
            (TensorSpec("logits", "float32", ("objects", "H", "W")),),
            (TensorSpec("shares", "float32", ("labels", "H", "W")),),
        )

    def forward(self, logits: Tensor) -> Tensor:
        """See ``spec``; one label more than objects, the background first."""
        return aggregate_odds(logits)


def srnet_graphs(network: SRNet, top_k: int | None) -> Mapping[str, GraphModule]:
    """Every graph of SRNet, by name, in evaluation mode.

    Args:
        network: the trained network.
        top_k: cells of memory that take part in a readout; all where None.
    """
    value = FeatureValueGraph if network.profile.joins else ValueGraph
    graphs: tuple[GraphModule, ...] = (
        QueryGraph(network),
        value(network),
        AlignmentGraph(network),
        MemoryReadGraph(network.profile.key_dim, top_k),
        MixGraph(network),
        PrototypeGraph(network),
        DecoderGraph(network),
        AggregationGraph(),
    )
    return {graph.spec.name: graph.eval() for graph in graphs}


def stcn_graphs(network: STCN, top_k: int | None) -> Mapping[str, GraphModule]:
    """Every graph of STCN; see ``srnet_graphs``."""
    graphs: tuple[GraphModule, ...] = (
        QueryGraph(network),
        ValueGraph(network),
        MemoryReadGraph(network.profile.key_dim, top_k),
        DecoderGraph(network),
        AggregationGraph(),
    )
    return {graph.spec.name: graph.eval() for graph in graphs}


def _cells(planes: Tensor) -> Tensor:
    """(1, C, h, w) to (h, w, C)."""
    return planes[0].permute(1, 2, 0).contiguous()


def _planes(cells: Tensor) -> Tensor:
    """(h, w, C) to (1, C, h, w)."""
    return cells.permute(2, 0, 1)[None]
