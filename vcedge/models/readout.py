"""The readout as torch modules: what the exported graphs compute."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vcedge.models.affinity import MASKED_LOGIT
from vcedge.models.graph import GraphModule
from vcedge_runtime.model.spec import GraphSpec, TensorSpec

LEAST_WEIGHT = 1e-6
"""Below a window's weight that is above 0: logarithms stay finite."""


class LabelReadout(GraphModule):
    """Windowed affinity to each of several references, with a softmax for each (MER, eq. 1, 2).

    What it returns can be merged exactly: to one softmax over all references, or to votes. Logits
    are scaled by 1 / (sqrt(C) * temperature): a temperature below 1 (our choice, measured) sharpens
    what training left soft. With ``top_k`` only the k largest logits of a query over all references
    take part, chosen by threshold: ties with the k-th value stay in. With ``second_window`` a pair
    within the first window has weight 1, within the second delta, within both their sum, and the
    weight multiplies the exponential of its logit, which is what eq. 15 of MER adds up; the second
    window also holds cells of the query's own group within ``reach``. That is a graph of its own.
    """

    def __init__(
        self,
        key_dim: int,
        top_k: int | None = None,
        temperature: float = 1.0,
        *,
        second_window: bool = False,
    ) -> None:
        super().__init__()
        self.key_dim = key_dim
        self.top_k = top_k
        self.scale = 1 / (math.sqrt(key_dim) * temperature)
        self.second_window = second_window

    @property
    def spec(self) -> GraphSpec:
        """The graph's tensors; ``forward`` says what each holds."""
        inputs: tuple[TensorSpec, ...] = (
            TensorSpec("query", "float32", ("h", "w", self.key_dim)),
            TensorSpec("keys", "float32", ("slots", "h", "w", self.key_dim)),
            TensorSpec("labels", "float32", ("slots", "h", "w", "channels")),
            TensorSpec("slot_offset", "int64", ("references",)),
            TensorSpec("query_index", "int64", ("tiles", "queries")),
            TensorSpec("key_index", "int64", ("tiles", "references", "patch")),
            TensorSpec("key_bias", "float32", ("tiles", "references", "patch")),
            TensorSpec("distance", "float32", ("queries", "patch")),
            TensorSpec("inner", "float32", (1,)),
        )
        if self.second_window:
            inputs = (
                *inputs,
                TensorSpec("outer", "float32", ("tiles", "queries")),
                TensorSpec("delta", "float32", (1,)),
                TensorSpec("query_group", "float32", ("tiles", "queries")),
                TensorSpec("key_group", "float32", ("tiles", "references", "patch")),
                TensorSpec("reach", "float32", (1,)),
            )
        outputs = (
            TensorSpec("peak", "float32", ("tiles", "references", "queries")),
            TensorSpec("total", "float32", ("tiles", "references", "queries")),
            TensorSpec("values", "float32", ("tiles", "references", "queries", "channels")),
        )
        name = "cluster_readout" if self.second_window else "label_readout"
        return GraphSpec(name, inputs, outputs)

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        labels: Tensor,
        slot_offset: Tensor,
        query_index: Tensor,
        key_index: Tensor,
        key_bias: Tensor,
        distance: Tensor,
        inner: Tensor,
        outer: Tensor | None = None,
        delta: Tensor | None = None,
        query_group: Tensor | None = None,
        key_group: Tensor | None = None,
        reach: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Read the labels of N tiles of A queries from R references of a memory of S slots.

        Args:
            query: (h, w, C) float32, key of the current frame.
            keys: (S, h, w, C) float32, keys of the memory.
            labels: (S, h, w, L) float32, soft labels of the memory.
            slot_offset: (R,) int64, first cell of each reference's slot, slot * h * w.
            query_index: (N, A) int64, cells of the queries.
            key_index: (N, R, P) int64, cells of the patch that a tile looks at in a reference.
            key_bias: (N, R, P) float32, added to a patch cell's logits; -1e4 for one not to read.
            distance: (A, P) float32, Chebyshev cells from a query to a patch cell.
            inner: (1,) float32, radius of the first window.
            outer: (N, A) float32, radius of each query's second window, if there is one.
            delta: (1,) float32, its weight.
            query_group: (N, A) float32, whole, group of each query.
            key_group: (N, R, P) float32, that of each patch cell.
            reach: (1,) float32, radius within which the second window holds cells of one group.

        Returns:
            peak: (N, R, A) float32, largest logit; below -5e3 where there is no key to read.
            total: (N, R, A) float32, sum of exp(logit - peak).
            values: (N, R, A, L) float32 soft labels, each reference's by its own softmax.
        """
        cells = slot_offset[None, :, None] + key_index
        tile_query = _take_rows(query, query_index) * self.scale
        logits = torch.matmul(tile_query[:, None], _take_rows(keys, cells).transpose(2, 3))
        if (
            outer is None
            or delta is None
            or query_group is None
            or key_group is None
            or reach is None
        ):
            window = torch.where(distance <= inner, 0.0, MASKED_LOGIT)
        else:
            same = query_group[:, None, :, None] == key_group[:, :, None]
            wide = _widen(distance, outer[:, None, :, None], same, reach)
            window = _weigh(_near(distance, inner) + delta * wide)
        logits = logits + window + key_bias[:, :, None]
        if self.top_k is not None:
            logits = _keep_largest(logits, self.top_k)
        peak = torch.amax(logits, -1, keepdim=True)
        weights = torch.exp(logits - peak)
        total = torch.sum(weights, -1, keepdim=True)
        values = torch.matmul(weights, _take_rows(labels, cells)) / total
        return peak[..., 0], total[..., 0], values


class JointReadout(GraphModule):
    """Windowed affinity with one softmax over all references (DMP, MER, eq. 1 and 2).

    It gives what ``LabelReadout`` and the merge of its softmaxes give, of labels whose rows sum to
    1, in two passes over the logits besides the products: a window is added, and the softmax is one
    operator. A cell that must not be read hands on a row of zeros, and the labels' sum is what is
    divided by; so a query that may read nothing gets zeros.
    """

    def __init__(self, key_dim: int, top_k: int | None = None, temperature: float = 1.0) -> None:
        super().__init__()
        self.key_dim = key_dim
        self.top_k = top_k
        self.scale = 1 / (math.sqrt(key_dim) * temperature)

    @property
    def spec(self) -> GraphSpec:
        """The graph's tensors: the inputs are those of ``LabelReadout``."""
        inputs = LabelReadout(self.key_dim).spec.inputs
        outputs = (TensorSpec("values", "float32", ("tiles", "queries", "channels")),)
        return GraphSpec("joint_readout", inputs, outputs)

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        labels: Tensor,
        slot_offset: Tensor,
        query_index: Tensor,
        key_index: Tensor,
        key_bias: Tensor,
        distance: Tensor,
        inner: Tensor,
    ) -> Tensor:
        """Read the labels of N tiles of A queries.

        Args:
            query: as for ``LabelReadout``, and so are the others but for ``key_bias``.
            keys: likewise.
            labels: likewise; each row sums to 1, or is of a frame that is not read.
            slot_offset: likewise.
            query_index: likewise.
            key_index: likewise.
            key_bias: (N, R, P) float32, 0, or -1e4 for a patch cell that is not to be read.
            distance: likewise.
            inner: likewise.

        Returns:
            (N, A, L) float32 soft labels by the joint softmax; 0 where there is no key to read.
        """
        cells = (slot_offset[None, :, None] + key_index).flatten(1)
        tile_query = _take_rows(query, query_index) * self.scale
        logits = torch.matmul(tile_query, _take_rows(keys, cells).transpose(1, 2))
        window = torch.where(distance <= inner, 0.0, MASKED_LOGIT)
        logits = (logits.unflatten(2, (-1, distance.shape[1])) + window[:, None]).flatten(2)
        if self.top_k is not None:
            # What must not be read takes no other's place among them.
            logits = logits + key_bias.flatten(1)[:, None]
            threshold = torch.topk(logits, self.top_k, dim=-1).values[..., -1:]
            logits = torch.where(logits >= threshold, logits, MASKED_LOGIT)
        rows = labels.flatten(0, 2)
        nothing = rows.shape[0]
        read = torch.where(key_bias.flatten(1) >= 0, cells, nothing)
        rows = torch.cat([rows, torch.zeros_like(rows[:1])])
        found = torch.matmul(torch.softmax(logits, -1), _take_rows(rows, read))
        return found / torch.sum(found, -1, keepdim=True).clamp(min=LEAST_WEIGHT)


class ColumnTotal(GraphModule):
    """How much the current frame's cells together look at each cell of a reference.

    It is the logarithm of the column sums of exp(logits), which a column softmax divides by (DMP,
    the backward branch). The logits are those of ``LabelReadout``, seen from the other side.
    """

    def __init__(self, key_dim: int, temperature: float = 1.0) -> None:
        super().__init__()
        self.key_dim = key_dim
        self.scale = 1 / (math.sqrt(key_dim) * temperature)

    @property
    def spec(self) -> GraphSpec:
        """The graph's tensors; ``forward`` says what each holds."""
        inputs = (
            TensorSpec("query", "float32", ("h", "w", self.key_dim)),
            TensorSpec("keys", "float32", ("slots", "h", "w", self.key_dim)),
            TensorSpec("slot_offset", "int64", ("references",)),
            TensorSpec("column_index", "int64", ("tiles", "columns")),
            TensorSpec("query_index", "int64", ("tiles", "references", "patch")),
            TensorSpec("query_bias", "float32", ("tiles", "references", "patch")),
            TensorSpec("distance", "float32", ("columns", "patch")),
            TensorSpec("inner", "float32", (1,)),
            TensorSpec("outer", "float32", ("tiles", "references", "patch")),
            TensorSpec("delta", "float32", (1,)),
            TensorSpec("column_group", "float32", ("tiles", "references", "columns")),
            TensorSpec("query_group", "float32", ("tiles", "references", "patch")),
            TensorSpec("reach", "float32", (1,)),
        )
        outputs = (TensorSpec("log_total", "float32", ("tiles", "references", "columns")),)
        return GraphSpec("column_total", inputs, outputs)

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        slot_offset: Tensor,
        column_index: Tensor,
        query_index: Tensor,
        query_bias: Tensor,
        distance: Tensor,
        inner: Tensor,
        outer: Tensor,
        delta: Tensor,
        column_group: Tensor,
        query_group: Tensor,
        reach: Tensor,
    ) -> Tensor:
        """Sum up N tiles of A cells of R references over the P cells of the frame around them.

        Args:
            query: (h, w, C) float32, key of the current frame.
            keys: (S, h, w, C) float32, keys of the memory.
            slot_offset: (R,) int64, first cell of each reference's slot, slot * h * w.
            column_index: (N, A) int64, cells of the references.
            query_index: (N, R, P) int64, cells of the current frame that look at them.
            query_bias: (N, R, P) float32, added to a patch cell's logits; -1e4 for one not to read.
            distance: (A, P) float32, Chebyshev cells from a cell to a patch cell.
            inner: (1,) float32, radius of the first window.
            outer: (N, R, P) float32, radius of each patch cell's second window; -1 for none.
            delta: (1,) float32, weight of the second window.
            column_group: (N, R, A) float32, whole, group of each cell.
            query_group: (N, R, P) float32, that of each patch cell.
            reach: (1,) float32, radius within which the second window holds cells of one group.

        Returns:
            (N, R, A) float32; below -5e3 where no cell looks.
        """
        cells = slot_offset[None, :, None] + column_index[:, None, :]
        patch = _take_rows(query, query_index) * self.scale
        logits = torch.matmul(_take_rows(keys, cells), patch.transpose(2, 3))
        same = column_group[..., None] == query_group[:, :, None]
        wide = _widen(distance, outer[:, :, None], same, reach)
        window = _weigh(_near(distance, inner) + delta * wide)
        logits = logits + window + query_bias[:, :, None]
        peak = torch.amax(logits, -1, keepdim=True)
        return (peak + torch.log(torch.sum(torch.exp(logits - peak), -1, keepdim=True)))[..., 0]


def _near(distance: Tensor, radius: Tensor) -> Tensor:
    return (distance <= radius).float()


def _widen(distance: Tensor, outer: Tensor, same: Tensor, reach: Tensor) -> Tensor:
    """What is in the second window: near enough, or of the same group and within reach."""
    return torch.maximum(_near(distance, outer), same.float() * _near(distance, reach))


def _weigh(weight: Tensor) -> Tensor:
    """What a logit gains by a weight of its exponential; a weight of 0 masks it."""
    return torch.where(weight > 0, torch.log(weight.clamp(min=LEAST_WEIGHT)), MASKED_LOGIT)


def _keep_largest(logits: Tensor, top_k: int) -> Tensor:
    """Mask all but the k largest of (N, R, A, P) logits over references and patch together."""
    joined = logits.transpose(1, 2).flatten(2)
    threshold = torch.topk(joined, top_k, dim=-1).values[:, :, -1]
    kept = logits >= threshold[:, None, :, None]
    return torch.where(kept, logits, torch.full_like(logits, MASKED_LOGIT))


def _take_rows(cells: Tensor, index: Tensor) -> Tensor:
    rows = cells.reshape(-1, cells.shape[-1])
    # index_select exports as Gather; indexing by a matrix would become GatherND.
    return rows.index_select(0, index.reshape(-1)).reshape(*index.shape, -1)
