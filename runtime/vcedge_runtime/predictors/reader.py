"""Reads labels from memory through the readout graphs, tile by tile, where there is an object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.buffers import Buffer, Device, share_array
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.errors import TrackerError
from vcedge_runtime.predictors.finite import require_finite
from vcedge_runtime.predictors.padding import PaddedEngine
from vcedge_runtime.predictors.region_rounds import by_regions, run_for
from vcedge_runtime.predictors.second_window import second_window, take_groups, take_outer
from vcedge_runtime.propagation.readout import Readout
from vcedge_runtime.sampling.sampling import Sampling
from vcedge_runtime.sampling.windows import MASKED_LOGIT, tile_windows

JOINT_READOUT = "joint_readout"
"""The graph that reads all references by one softmax."""
TILE = 8
"""Side of a tile in key cells (our choice): ``benchmarks/readout.py`` compares others."""
LOGIT_BYTES = 4 * 2**20
"""Bytes of logits of one call (our choice): what stays in a last-level cache."""
DEVICE_LOGIT_BYTES = 64 * 2**20
"""The same on a GPU (our choice, not measured): a call costs more there, its memory less."""


@dataclass(frozen=True)
class Source:
    """What is read: the query of one frame, and the memory.

    Attributes:
        query: (h, w, C) float32, the current frame's key.
        keys: (S, h, w, C) float32.
        values: (S, h, w, V) float32.
        slots: of the references, in their order.
    """

    query: Buffer
    keys: Buffer
    values: Buffer
    slots: Sequence[int]


class TileReader:
    """Reads the readout graphs in pieces of a few tiles, so that their working set stays small.

    On a device every piece is padded to one number of tiles, and to one reference or to the most,
    so that engines are fastest there and their recordings hold.

    Args:
        engines: by graph: ``label_readout``; ``cluster_readout`` where cells have second windows;
            ``column_total`` for ``read_columns``; ``joint_readout`` for ``read_jointly``, which
            bundles that were exported before lack.
        grid_hw: height and width of the key grid.
        radius: largest window radius in key cells.
        references: most references of one call.
        tile: wanted side of a tile in key cells.
        logit_bytes: bytes of logits of one call, which says how many tiles it reads; by default
            what suits the engines.
        device: of the engines; None where they run on the host.

    Attributes:
        windows: the tiles.
        macs: multiply-accumulates of all reads so far.
    """

    def __init__(
        self,
        engines: Mapping[str, Engine],
        grid_hw: tuple[int, int],
        radius: int,
        references: int,
        *,
        tile: int = TILE,
        logit_bytes: int | None = None,
        device: Device | None = None,
    ) -> None:
        self._engines = engines
        self._grid_hw = grid_hw
        usual = LOGIT_BYTES if device is None else DEVICE_LOGIT_BYTES
        self._logit_bytes = usual if logit_bytes is None else logit_bytes
        self.windows = tile_windows(grid_hw, radius, tile)
        self._lengths: dict[str, tuple[int, ...]] = {}
        if device is not None:
            self._lengths["tiles"] = (self._count_together(references),)
            self._lengths["references"] = (1, references)
        self._distance = share_array(self.windows.distance, device)
        self.macs = 0
        queries = self.windows.query_index.size
        self._sums = np.zeros((2, queries * references), np.float32)
        self._values = np.zeros(0, np.float32)

    @property
    def nbytes(self) -> int:
        """Bytes of the tables and of the buffers that the graph writes."""
        shared = 0 if self._distance is self.windows.distance else self._distance.nbytes
        return self.windows.nbytes + shared + self._sums.nbytes + self._values.nbytes

    @property
    def all_tiles(self) -> NDArray[np.int64]:
        """Every tile."""
        return np.arange(len(self.windows.query_index))

    def resize(self, channels: int) -> None:
        """Allocate for this many value channels."""
        self._values = np.zeros(self._sums.shape[1] * channels, np.float32)

    def find_active(
        self, values: NDArray[np.float32], slots: Sequence[int], sampling: Sampling
    ) -> NDArray[np.int64]:
        """Tiles that look at an object in any reference; all others can read background alone.

        Args:
            values: (S, h, w, L) float32 soft labels, channel 0 the background.
            slots: of the references.
            sampling: where the current frame's cells may look.
        """
        shifts = self._shifts_back(self.all_tiles, len(slots), sampling)
        active = np.zeros(len(self.windows.query_index), np.bool_)
        for reference, slot in enumerate(slots):
            seen = np.asarray(values[slot, ..., 1:].any(axis=-1))
            active |= self.windows.see_any(seen, shifts[:, reference])
        return np.flatnonzero(active)

    def read(
        self,
        source: Source,
        sampling: Sampling,
        tiles: NDArray[np.int64],
        *,
        column_bias: NDArray[np.float32] | None = None,
    ) -> Readout:
        """Read tiles of the current frame.

        Args:
            source: what is read.
            sampling: where its cells may look.
            tiles: (T,) int64, which tiles.
            column_bias: (R, h * w) float32, added to the logits of each cell of a reference.

        Raises:
            NotFiniteError: what was read is not finite.
            TrackerError: the reader lacks the graph.
        """
        tables, references = self.windows, len(source.slots)
        shape = (len(tiles), references, tables.query_index.shape[1])
        size = len(tiles) * references * shape[2]
        channels = source.values.shape[-1]
        peak, total = (rows[:size].reshape(shape) for rows in self._sums)
        values = self._values[: size * channels].reshape(*shape, channels)
        engine = self._engine("label_readout" if sampling.outer is None else "cluster_readout")
        fixed = {**self._fixed(source, sampling), "labels": source.values}
        matches = sampling.matches.of_queries() if sampling.matches else []
        shifts = self._shifts_back(tiles, references, sampling)
        for piece, chosen in self._pieces(tiles, references):
            cells, beyond = tables.patches(chosen, shifts[piece])
            inputs: dict[str, Buffer] = {
                **fixed,
                "query_index": tables.query_index[chosen],
                "key_index": cells,
            }
            if sampling.outer is not None:
                inputs["outer"] = take_outer(sampling, tables.query_index[chosen])
                own, others = take_groups(sampling, tables.query_index[chosen], cells)
                inputs |= second_window(engine, sampling, query_group=own, key_group=others)
            out = {"peak": peak[piece], "total": total[piece], "values": values[piece]}
            bias = _mask_beyond(beyond, cells, column_bias)
            for limited, mine in by_regions(matches, tables.query_index[chosen], cells, bias):
                run_for(engine, {**inputs, "key_bias": limited}, out, mine)
                reads = out["peak"].size * tables.distance.shape[1]
                self.macs += reads * (source.query.shape[-1] + channels)
        for array in (peak, total, values):
            require_finite(array, "readouts")
        return Readout(tiles, peak, total, values)

    def can_read_jointly(self, sampling: Sampling) -> bool:
        """Whether ``read_jointly`` gives what ``read`` and a merge of it give."""
        plain = sampling.outer is None and sampling.matches is None
        return plain and JOINT_READOUT in self._engines

    def read_jointly(
        self, source: Source, sampling: Sampling, tiles: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Read tiles of the current frame by one softmax over all references.

        Args:
            source: what is read; its values are soft labels alone, whose rows sum to 1.
            sampling: where its cells may look, in one window.
            tiles: (T,) int64, which tiles.

        Returns:
            (T, A, L) float32; 0 where no reference has a key; a view, valid until the next read.

        Raises:
            NotFiniteError: what was read is not finite.
        """
        tables, references = self.windows, len(source.slots)
        channels = source.values.shape[-1]
        shape = (len(tiles), tables.query_index.shape[1], channels)
        values = self._values[: shape[0] * shape[1] * channels].reshape(shape)
        fixed = {**self._fixed(source, sampling), "labels": source.values}
        shifts = self._shifts_back(tiles, references, sampling)
        for piece, chosen in self._pieces(tiles, references):
            cells, beyond = tables.patches(chosen, shifts[piece])
            inputs: dict[str, Buffer] = {
                **fixed,
                "query_index": tables.query_index[chosen],
                "key_index": cells,
                "key_bias": _mask_beyond(beyond, cells),
            }
            self._engine(JOINT_READOUT).run(inputs, {"values": values[piece]})
        queries = shape[0] * shape[1] * references
        self.macs += queries * tables.distance.shape[1] * (source.query.shape[-1] + channels)
        require_finite(values, "readouts")
        return values

    def read_columns(
        self, source: Source, sampling: Sampling, tiles: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Sum up how much the current frame looks at the cells that some tiles look at.

        Args:
            source: what is read; its values do not matter.
            sampling: where the current frame's cells may look.
            tiles: (T,) int64, tiles whose patches matter.

        Returns:
            (R, h * w) float32 log of the column sums; 0 beyond the patches.

        Raises:
            NotFiniteError: they are not finite.
            TrackerError: the reader lacks the graph.
        """
        tables, references = self.windows, len(source.slots)
        engine = self._engine("column_total")
        wanted = np.zeros(self._grid_hw[0] * self._grid_hw[1], np.bool_)
        seen, _ = tables.patches(tiles, self._shifts_back(tiles, references, sampling))
        wanted[seen] = True
        owners = tables.find_owners(wanted)
        found = np.zeros((references, wanted.size), np.float32)
        matches = sampling.matches.of_references() if sampling.matches else []
        shifts = self._shifts_ahead(owners, references, sampling)
        for piece, chosen in self._pieces(owners, references):
            cells = tables.query_index[chosen]
            around, beyond = tables.patches(chosen, shifts[piece])
            out = np.empty((len(chosen), references, cells.shape[1]), np.float32)
            own, others = take_groups(sampling, around, cells)
            inputs = {
                **self._fixed(source, sampling),
                "column_index": cells,
                "query_index": around,
                "outer": take_outer(sampling, around),
                **second_window(engine, sampling, query_group=own, column_group=others),
            }
            bias = _mask_beyond(beyond, around)
            for limited, mine in by_regions(matches, cells, around, bias):
                run_for(engine, {**inputs, "query_bias": limited}, {"log_total": out}, mine)
                self.macs += out.size * around.shape[2] * source.query.shape[-1]
            owned = tables.own[chosen]
            found[:, cells[owned]] = out.transpose(1, 0, 2)[:, owned]
        require_finite(found, "column sums")
        return found

    def lay_out(
        self, tiles: NDArray[np.int64], rows: NDArray[np.float32], out: NDArray[np.float32]
    ) -> None:
        """Write (T, A, V) rows of tiles to their cells in (h, w, V); other cells stay."""
        own = self.windows.own[tiles]
        flat = out.reshape(-1, out.shape[-1])
        flat[self.windows.query_index[tiles][own]] = rows[own]

    def cells_of(self, tiles: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(h, w) bool: the cells that these tiles stand for."""
        found = np.zeros(self._grid_hw, np.bool_)
        found.reshape(-1)[self.windows.query_index[tiles][self.windows.own[tiles]]] = True
        return found

    def _fixed(self, source: Source, sampling: Sampling) -> dict[str, Buffer]:
        cells = self._grid_hw[0] * self._grid_hw[1]
        return {
            "query": source.query,
            "keys": source.keys,
            "slot_offset": np.array(source.slots, np.int64) * cells,
            "distance": self._distance,
            "inner": np.array([sampling.inner], np.float32),
        }

    def _engine(self, graph: str) -> Engine:
        if graph not in self._engines:
            raise TrackerError(
                f"this way of reading needs the graph {graph}, which the bundle lacks; "
                "export it again"
            )
        engine = self._engines[graph]
        return PaddedEngine(engine, self._lengths) if self._lengths else engine

    def _pieces(
        self, tiles: NDArray[np.int64], references: int
    ) -> Iterator[tuple[slice, NDArray[np.int64]]]:
        count = self._count_together(references)
        if self._lengths:
            count = self._lengths["tiles"][0]
        for first in range(0, len(tiles), count):
            piece = slice(first, first + count)
            yield piece, tiles[piece]

    def _count_together(self, references: int) -> int:
        queries, patch = self.windows.distance.shape
        tiles = len(self.windows.query_index)
        return count_together(tiles, queries, patch, references, self._logit_bytes)

    def _shifts_back(
        self, tiles: NDArray[np.int64], references: int, sampling: Sampling
    ) -> NDArray[np.int64]:
        """(T, R, 2) int64: how far the patches of tiles lie from their own place."""
        if sampling.shifts is None:
            return np.zeros((len(tiles), references, 2), np.int64)
        return -sampling.shifts.of_queries(self.windows.centres[tiles])

    def _shifts_ahead(
        self, tiles: NDArray[np.int64], references: int, sampling: Sampling
    ) -> NDArray[np.int64]:
        """The same of tiles of the references, whose patches lie in the current frame."""
        if sampling.shifts is None:
            return np.zeros((len(tiles), references, 2), np.int64)
        return sampling.shifts.of_references(self.windows.centres[tiles])


def _mask_beyond(
    beyond: NDArray[np.bool_],
    cells: NDArray[np.int64],
    column_bias: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """(T, R, P) float32 that is added to logits: the grid's bounds, and the sums of columns."""
    bias: NDArray[np.float32] = beyond * MASKED_LOGIT
    if column_bias is not None:
        bias += column_bias[np.arange(cells.shape[1])[None, :, None], cells]
    return bias


def count_together(tiles: int, queries: int, patch: int, references: int, limit: int) -> int:
    """How many tiles one call reads.

    Args:
        tiles: how many there are.
        queries: A, cells of a tile.
        patch: P, cells that it looks at in a reference.
        references: R.
        limit: bytes of the logits of a call, unless those of a single tile are more.
    """
    return min(tiles, max(1, limit // (4 * queries * patch * references)))
