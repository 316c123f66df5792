"""Reader graphs written plainly in numpy: the oracle of the tests, never the product."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vcedge_runtime.engines.base import Buffer
from vcedge_runtime.spec import GraphSpec


class NumpyLabelReadout:
    """``label_readout``, tile by tile, with the k largest logits found by sorting."""

    def __init__(
        self, spec: GraphSpec, *, top_k: int | None = None, temperature: float = 1.0
    ) -> None:
        self._spec = spec
        self._top_k = top_k
        self._temperature = np.float32(temperature)

    @property
    def spec(self) -> GraphSpec:
        """Names, dtypes and shapes of the graph."""
        return self._spec

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        """Run once; see ``Engine.run``."""
        self._spec.check_arrays({**inputs, **out})
        channels = inputs["keys"].shape[-1]
        keys = inputs["keys"].reshape(-1, channels)
        labels = inputs["labels"].reshape(-1, inputs["labels"].shape[-1])
        query = inputs["query"].reshape(-1, channels)
        for tile, cells in enumerate(inputs["key_index"]):
            logits, values = [], []
            for offset, bias in zip(inputs["slot_offset"], inputs["slot_bias"], strict=True):
                similarity = query[inputs["query_index"][tile]] @ keys[offset + cells].T
                penalty = bias + inputs["key_bias"][tile] + inputs["window_bias"]
                logits.append(
                    similarity / (np.sqrt(np.float32(channels)) * self._temperature) + penalty
                )
                values.append(labels[offset + cells])
            affinity = self._softmax(np.concatenate(logits, axis=1))
            out["readout"][tile] = affinity @ np.concatenate(values)

    def close(self) -> None:
        """Hold nothing."""

    def _softmax(self, logits: Buffer) -> Buffer:
        if self._top_k is not None:
            threshold = np.sort(logits, axis=1)[:, -self._top_k, None]
            logits = np.where(logits >= threshold, logits, np.float32(-1e4))
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        normalised: Buffer = weights / weights.sum(axis=1, keepdims=True)
        return normalised
