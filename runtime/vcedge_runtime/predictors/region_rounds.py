"""Matching regions, read exactly: each tile once for every region that its cells are of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.buffers import Buffer
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.sampling.sampling import RegionMatch
from vcedge_runtime.sampling.windows import MASKED_LOGIT


def by_regions(
    matches: Sequence[RegionMatch],
    queries: NDArray[np.int64],
    cells: NDArray[np.int64],
    bias: NDArray[np.float32],
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_] | None]]:
    """Yield what a patch adds to the logits of each region of a tile, one region at a time.

    Args:
        matches: of the regions, by reference; none where all cells may be read.
        queries: (T, A) int64, cells of the tiles.
        cells: (T, R, P) int64, what they look at.
        bias: (T, R, P) float32 for all regions.

    Yields:
        (T, R, P) float32, and (T, R, A) bool which cells it is for; None for all.
    """
    if not matches:
        yield bias, None
        return
    owners = np.stack([own.reshape(-1)[queries] for _, own, _ in matches], axis=1)
    ranks = _rank(owners)
    for rank in range(int(ranks.max(initial=-1)) + 1):
        mine, limited = ranks == rank, bias.copy()
        for reference, (allowed, _, patch_ids) in enumerate(matches):
            ids = np.where(mine[:, reference], owners[:, reference], 0).max(axis=1)
            patch = patch_ids.reshape(-1)[cells[:, reference]]
            limited[:, reference][~allowed[ids[:, None], patch]] = MASKED_LOGIT
        yield limited, mine


def run_for(
    engine: Engine,
    inputs: Mapping[str, Buffer],
    out: Mapping[str, NDArray[np.float32]],
    mine: NDArray[np.bool_] | None,
) -> None:
    """Run a graph, and take what it gives for some cells.

    Args:
        engine: of the graph.
        inputs: by name.
        out: (T, R, A, ...) float32 each, by name.
        mine: (T, R, A) bool, the cells; None for all.
    """
    if mine is None:
        engine.run(inputs, out)
        return
    found = {name: np.empty_like(array) for name, array in out.items()}
    engine.run(inputs, found)
    for name, array in out.items():
        array[mine] = found[name][mine]


def _rank(ids: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """The place of each of (..., A) ids among those that are in its row."""
    order = np.argsort(ids, axis=-1)
    risen = np.take_along_axis(ids, order, axis=-1)
    places = np.cumsum(np.diff(risen, axis=-1, prepend=risen[..., :1]) != 0, axis=-1)
    ranks = np.empty_like(places)
    np.put_along_axis(ranks, order, places, axis=-1)
    return ranks
