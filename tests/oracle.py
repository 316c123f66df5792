"""Reader graphs written plainly in numpy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vcedge_runtime.buffers import HostArray
from vcedge_runtime.engines.base import HostEngine
from vcedge_runtime.model.spec import GraphSpec
from vcedge_runtime.propagation.prototypes import SURE
from vcedge_runtime.sampling.windows import MASKED_LOGIT


class _ScaledEngine(HostEngine):
    def __init__(self, spec: GraphSpec, *, temperature: float = 1.0) -> None:
        super().__init__(spec)
        self._temperature = np.float32(temperature)


class NumpyLabelReadout(_ScaledEngine):
    """``label_readout`` and, by its spec, ``cluster_readout``; the k largest by sorting."""

    def __init__(
        self, spec: GraphSpec, *, top_k: int | None = None, temperature: float = 1.0
    ) -> None:
        super().__init__(spec, temperature=temperature)
        self._top_k = top_k

    def _compute(self, inputs: Mapping[str, HostArray], out: Mapping[str, HostArray]) -> None:
        query, keys, labels = (_rows(inputs[name]) for name in ("query", "keys", "labels"))
        for tile, cells in enumerate(inputs["key_index"]):
            logits = np.stack(
                [
                    self._read_logits(inputs, query, keys, tile, reference)
                    for reference in range(len(cells))
                ]
            )
            logits = self._keep_largest(logits)
            peak = logits.max(axis=-1)
            weights = np.exp(logits - peak[..., None])
            out["peak"][tile], out["total"][tile] = peak, weights.sum(axis=-1)
            for reference, offset in enumerate(inputs["slot_offset"]):
                share = weights[reference] / weights[reference].sum(axis=-1, keepdims=True)
                out["values"][tile, reference] = share @ labels[offset + cells[reference]]

    def _read_logits(
        self,
        inputs: Mapping[str, HostArray],
        query: HostArray,
        keys: HostArray,
        tile: int,
        reference: int,
    ) -> HostArray:
        """(A, P) logits of a tile's queries and the patch of a reference."""
        rows = query[inputs["query_index"][tile]]
        cells = inputs["slot_offset"][reference] + inputs["key_index"][tile, reference]
        similarity = _similarity(rows, keys[cells], self._temperature)
        weight = (inputs["distance"] <= inputs["inner"]).astype(np.float32)
        if "outer" in inputs:
            outer = inputs["outer"][tile][:, None]
            own, other = inputs["query_group"][tile], inputs["key_group"][tile, reference]
            weight = _weigh(inputs, outer, own[:, None] == other[None])
        return _mask(similarity, weight) + inputs["key_bias"][tile, reference]

    def _keep_largest(self, logits: HostArray) -> HostArray:
        """Mask all but the k largest of each query in (R, A, P) float32 logits."""
        if self._top_k is None:
            return logits
        joined = np.sort(logits.transpose(1, 0, 2).reshape(logits.shape[1], -1), axis=1)
        threshold = joined[:, -self._top_k]
        return np.where(logits >= threshold[None, :, None], logits, MASKED_LOGIT)


class NumpyJointReadout(NumpyLabelReadout):
    """``joint_readout``: one softmax over all cells that may be read, written out."""

    def _compute(self, inputs: Mapping[str, HostArray], out: Mapping[str, HostArray]) -> None:
        query, keys, labels = (_rows(inputs[name]) for name in ("query", "keys", "labels"))
        out["values"][...] = 0
        for tile, cells in enumerate(inputs["key_index"]):
            logits = np.concatenate(
                [
                    self._read_logits(inputs, query, keys, tile, reference)
                    for reference in range(len(cells))
                ],
                axis=1,
            )
            logits = self._keep_largest(logits[None])[0]
            offsets = inputs["slot_offset"][:, None]
            rows = labels[(offsets + cells).reshape(-1)]
            for at, own in enumerate(logits):
                read = own > MASKED_LOGIT / 2
                if read.any():
                    weights = np.exp(own[read] - own[read].max())
                    out["values"][tile, at] = weights @ rows[read] / weights.sum()


class NumpyColumnTotal(_ScaledEngine):
    """``column_total``, tile by tile and reference by reference."""

    def _compute(self, inputs: Mapping[str, HostArray], out: Mapping[str, HostArray]) -> None:
        query, keys = _rows(inputs["query"]), _rows(inputs["keys"])
        for tile, cells in enumerate(inputs["column_index"]):
            for reference, offset in enumerate(inputs["slot_offset"]):
                patch = query[inputs["query_index"][tile, reference]]
                own, other = (
                    inputs[name][tile, reference] for name in ("column_group", "query_group")
                )
                outer = inputs["outer"][tile, reference][None]
                weight = _weigh(inputs, outer, own[:, None] == other[None])
                similarity = _similarity(keys[offset + cells], patch, self._temperature)
                logits = _mask(similarity, weight) + inputs["query_bias"][tile, reference]
                peak = logits.max(axis=-1, keepdims=True)
                total = np.exp(logits - peak).sum(axis=-1)
                out["log_total"][tile, reference] = peak[:, 0] + np.log(total)


class NumpyMemoryRead(HostEngine):
    """``memory_read``: all distances written out, the k nearest by sorting."""

    def __init__(self, spec: GraphSpec, *, top_k: int | None = None) -> None:
        super().__init__(spec)
        self._top_k = top_k

    def _compute(self, inputs: Mapping[str, HostArray], out: Mapping[str, HostArray]) -> None:
        slots = inputs["slot_index"][inputs["slot_valid"] > 0]
        query, keys = _rows(inputs["query"]), _rows(inputs["keys"][slots])
        values = inputs["values"][slots].reshape(len(keys), -1)
        distance = ((query[:, None] - keys[None]) ** 2).sum(axis=-1)
        logits = -distance / np.sqrt(np.float32(keys.shape[1]))
        if self._top_k is not None:
            threshold = np.sort(logits, axis=1)[:, -self._top_k, None]
            logits = np.where(logits >= threshold, logits, -np.inf)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        found = weights / weights.sum(axis=1, keepdims=True) @ values
        out["readout"][...] = found.T.reshape(out["readout"].shape)


class NumpySoftAggregation(HostEngine):
    """``soft_aggregation``, as ``aggregate_softly``."""

    def _compute(self, inputs: Mapping[str, HostArray], out: Mapping[str, HostArray]) -> None:
        out["shares"][...] = aggregate_softly(inputs["logits"])


def aggregate_softly(logits: HostArray) -> HostArray:
    """Let objects compete for each pixel; the background is where no object is.

    The background's probability is the product of one minus each object's; the odds of all of them
    are then brought to a sum of 1 (Oh et al. 2019, as STCN has it).

    Args:
        logits: (K, H, W) float32 of each object's own mask.

    Returns:
        (K + 1, H, W) float32 that sum to 1 over objects, the background first.
    """
    # The sigmoid of the magnitude, so that exp cannot overflow.
    falling = np.exp(-np.abs(logits))
    own = np.where(logits >= 0, 1, falling) / (1 + falling)
    shares = np.concatenate([(1 - own).prod(axis=0, keepdims=True), own])
    np.clip(shares, SURE, 1 - SURE, out=shares)
    shares /= 1 - shares
    shares /= shares.sum(axis=0, keepdims=True)
    return shares.astype(np.float32, copy=False)


def _rows(cells: HostArray) -> HostArray:
    return cells.reshape(-1, cells.shape[-1])


def _similarity(left: HostArray, right: HostArray, temperature: np.float32) -> HostArray:
    similar: HostArray = left @ right.T / (np.sqrt(np.float32(left.shape[1])) * temperature)
    return similar


def _weigh(inputs: Mapping[str, HostArray], outer: HostArray, same: HostArray) -> HostArray:
    """Weight of the exponential of each pair, (A, P); same says whether it is of one group."""
    distance = inputs["distance"]
    second = (distance <= outer) | (same & (distance <= inputs["reach"]))
    weight: HostArray = (distance <= inputs["inner"]) + inputs["delta"] * second
    return weight


def _mask(similarity: HostArray, weight: HostArray) -> HostArray:
    with np.errstate(divide="ignore"):
        return np.where(weight > 0, similarity + np.log(weight), MASKED_LOGIT + similarity)
