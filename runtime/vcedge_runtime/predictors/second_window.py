"""What the readout graphs take of a sampler's second window, and of its groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.buffers import Buffer
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.sampling.sampling import Sampling


def second_window(
    engine: Engine, sampling: Sampling, **groups: NDArray[np.float32]
) -> dict[str, Buffer]:
    """What a graph takes of the second window; one that was exported before takes no groups."""
    reach = -1.0 if sampling.groups is None else sampling.groups.reach
    given: dict[str, Buffer] = {
        "delta": np.array([sampling.delta], np.float32),
        "reach": np.array([reach], np.float32),
        **groups,
    }
    return {t.name: given[t.name] for t in engine.spec.inputs if t.name in given}


def take_groups(
    sampling: Sampling, queries: NDArray[np.int64], cells: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Groups of cells of the current frame, and of cells of its references.

    Args:
        sampling: has them, or none: then no two are alike.
        queries: (T, A) or (T, R, P) int64.
        cells: (T, R, P) or, of every reference alike, (T, A) int64.

    Returns:
        float32, as ``queries``; and (T, R, ...).
    """
    groups = sampling.groups
    references = (queries if queries.ndim == 3 else cells).shape[1]
    if cells.ndim == 2:
        cells = np.broadcast_to(cells[:, None], (len(cells), references, cells.shape[1]))
    if groups is None:
        return np.full(queries.shape, -1, np.float32), np.full(cells.shape, -2, np.float32)
    own = groups.query_ids.reshape(-1)[queries].astype(np.float32)
    others = np.empty(cells.shape, np.float32)
    for reference, ids in enumerate(groups.key_ids):
        others[:, reference] = ids.reshape(-1)[cells[:, reference]]
    return own, others


def take_outer(sampling: Sampling, cells: NDArray[np.int64]) -> NDArray[np.float32]:
    """Second radii of some cells; -1 where there is no second window."""
    if sampling.outer is None:
        return np.full(cells.shape, -1, np.float32)
    taken: NDArray[np.float32] = sampling.outer.reshape(-1)[cells]
    return taken
