"""The readout of memory through its engine, whatever the model weighs likeness by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.buffers import Buffer
from vcedge_runtime.engines.base import Engine


def run_memory_read(
    engine: Engine,
    query: Buffer,
    keys: Buffer,
    values: Buffer,
    slots: Sequence[int],
    out: Buffer,
    valid: NDArray[np.float32] | None = None,
) -> NDArray[np.float32] | None:
    """Read (S, h, w, K, C) values of some slots into ``out``, (K, C, h, w).

    Args:
        engine: of the graph ``memory_read``.
        query: (h, w, Ck).
        keys: (S, h, w, Ck).
        values: as said.
        slots: that are read, R of them.
        out: as said.
        valid: (R, h, w) float32, 1 for each cell that is there; None where all are.

    Returns:
        (R, h, w) float32, how much was read of each cell; None where the model does not tell.
    """
    height, width = query.shape[:2]
    inputs: dict[str, Buffer] = {"query": query, "keys": keys, "values": values}
    inputs["slot_index"] = np.array(slots, np.int64)
    if any(tensor.name == "cell_valid" for tensor in engine.spec.inputs):
        cells = np.ones((len(slots), height, width), np.float32)
        inputs["cell_valid"] = cells if valid is None else valid
    else:
        inputs["slot_valid"] = np.ones(len(slots), np.float32)
    nearest = {
        tensor.name: np.empty((height, width, int(tensor.shape[2])), tensor.dtype)
        for tensor in engine.spec.outputs
        if tensor.name != "readout"
    }
    engine.run(inputs, {"readout": out, **nearest})
    if not nearest:
        return None
    count = len(slots) * height * width
    usage = np.bincount(nearest["cells"].ravel(), nearest["weights"].ravel(), count)
    return usage.reshape(-1, height, width).astype(np.float32)
