"""The labels of a frame, read from its references and fused: every fusion's way through memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.memory.bank import COLOURS, MemoryBank
from vcedge_runtime.predictors.reader import Source, TileReader
from vcedge_runtime.propagation.fusion import (
    LEAST_MASS,
    BidirectionalFusion,
    Fusion,
    JointFusion,
    MeanFusion,
    VoteFusion,
    fuse_joint,
    fuse_mean,
    fuse_votes,
    weigh_branches,
)
from vcedge_runtime.propagation.readout import EMPTY_LOGIT, Readout
from vcedge_runtime.sampling.regions import enhance_labels
from vcedge_runtime.sampling.sampling import Sampling

NEIGHBOURHOOD = 5
"""Side in cells over which a cell's loss is averaged (our choice)."""

_FUSE: Mapping[type, Callable[[Readout], NDArray[np.float32]]] = {
    JointFusion: fuse_joint,
    MeanFusion: fuse_mean,
    VoteFusion: fuse_votes,
}


@dataclass(frozen=True)
class LabelPropagation:
    """Brings labels from some frames in memory to another.

    Attributes:
        reader: of the memory's key grid.
        bank: the memory.
        fusion: how what is read becomes one label.
    """

    reader: TileReader
    bank: MemoryBank
    fusion: Fusion

    def read(self, slot: int, references: Sequence[int], sampling: Sampling) -> NDArray[np.float32]:
        """Read a frame's labels by the fusion.

        Args:
            slot: where its key stands, and with two-way prediction its colours.
            references: slots to read from.
            sampling: where its cells may look.

        Returns:
            (h, w, L) float32, rows sum to 1; owned by the caller.
        """
        if isinstance(self.fusion, BidirectionalFusion):
            return self._read_both_ways(slot, references, sampling, self.fusion)
        if self.fusion == JointFusion() and self.reader.can_read_jointly(sampling):
            return self.read_plainly(slot, references, sampling)
        source, tiles = self._source(slot, references), self._active(references, sampling)
        weight = self.fusion.column_weight if isinstance(self.fusion, JointFusion) else 0.0
        bias = self._column_bias(source, sampling, tiles, weight) if weight else None
        readout = self.reader.read(source, sampling, tiles, column_bias=bias)
        rows, lonely = _FUSE[type(self.fusion)](readout), readout.lonely
        if sampling.matches is not None and lonely.any():
            # A cell whose regions match nothing looks into its whole window.
            unmatched = self.reader.read(source, sampling.unmatched, tiles)
            rows[lonely] = _FUSE[type(self.fusion)](unmatched)[lonely]
        return self._labels(self._lay_out(tiles, rows))

    def read_plainly(
        self, slot: int, references: Sequence[int], sampling: Sampling
    ) -> NDArray[np.float32]:
        """Read a frame's labels by one joint softmax, whatever the fusion; see ``read``."""
        source, tiles = self._source(slot, references), self._active(references, sampling)
        # What is carried besides labels does not sum to 1.
        if self.bank.colours.shape[-1] == 0 and self.reader.can_read_jointly(sampling):
            rows = self.reader.read_jointly(source, sampling, tiles)
        else:
            rows = fuse_joint(self.reader.read(source, sampling, tiles))
        return self._labels(self._lay_out(tiles, rows))

    def _read_both_ways(
        self,
        slot: int,
        references: Sequence[int],
        sampling: Sampling,
        fusion: BidirectionalFusion,
    ) -> NDArray[np.float32]:
        """Fuse the branches by how well each shows the frame's own colours (DMP)."""
        tiles = self._active(references, sampling)
        source = self._source(slot, references)
        normal = fuse_joint(self.reader.read(source, sampling.unmatched, tiles))
        found = [self._lay_out(tiles, normal)]
        if "forward" in fusion.branches:
            forward = self._read_forward(slot, references, sampling, tiles, normal)
            if fusion.enhanced == "query" and sampling.regions is not None:
                forward = enhance_labels(forward, sampling.regions.query_ids, fusion.eta_labels)
            found.append(forward)
        if "backward" in fusion.branches:
            weight = fusion.column_weight if fusion.backward == "column" else 0.0
            if fusion.candidates == "regions":
                sampling = replace(sampling, matches=sampling.regions)
            found.append(self._read_backward(source, sampling, tiles, normal, weight))
        branches = np.stack(found)
        seen = self.reader.cells_of(tiles)
        weights = self._weigh(branches, self.bank.colours[slot], seen, fusion)
        fused = (weights[..., None] * branches).sum(axis=0, dtype=np.float32)
        return self._labels(fused)

    def _read_forward(
        self,
        slot: int,
        references: Sequence[int],
        sampling: Sampling,
        tiles: NDArray[np.int64],
        normal: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        bank = self.bank
        keys, values = bank.enhanced_key_block.shared, bank.enhanced_value_block.shared
        source = Source(keys[slot], keys, values, references)
        readout = self.reader.read(source, sampling, tiles)
        rows = np.where(readout.lonely[..., None], normal, fuse_joint(readout))
        return self._lay_out(tiles, rows)

    def _read_backward(
        self,
        source: Source,
        sampling: Sampling,
        tiles: NDArray[np.int64],
        normal: NDArray[np.float32],
        weight: float,
    ) -> NDArray[np.float32]:
        bias = self._column_bias(source, sampling, tiles, weight) if weight else None
        readout = self.reader.read(source, sampling, tiles, column_bias=bias)
        # The mass of a row of the column softmax says nothing where there was none to divide.
        least = LEAST_MASS if weight == 1 else EMPTY_LOGIT
        mass = np.logaddexp.reduce(readout.log_total, axis=1)
        rows = np.where((mass < least)[..., None], normal, fuse_joint(readout))
        return self._lay_out(tiles, rows)

    def _column_bias(
        self, source: Source, sampling: Sampling, tiles: NDArray[np.int64], weight: float
    ) -> NDArray[np.float32]:
        """(R, h * w) float32: what each cell's logits lose, so that columns are normalised."""
        totals = self.reader.read_columns(source, sampling, tiles)
        totals[totals < EMPTY_LOGIT] = 0
        totals *= np.float32(-weight)
        return totals

    def _weigh(
        self,
        branches: NDArray[np.float32],
        colours: NDArray[np.float32],
        seen: NDArray[np.bool_],
        fusion: BidirectionalFusion,
    ) -> NDArray[np.float32]:
        """(B, 1 or h, 1 or w) float32 weights from the photometric losses where something is."""
        losses = measure_losses(branches[..., :COLOURS], colours)
        if fusion.weights == "pixel":
            side = (NEIGHBOURHOOD, NEIGHBOURHOOD)
            share = np.maximum(cv2.blur(seen.astype(np.float32), side), 1e-6)
            around = np.stack([cv2.blur(loss * seen, side) / share for loss in losses])
        else:
            around = (losses * seen).sum(axis=(1, 2), keepdims=True) / max(1, seen.sum())
        return weigh_branches(around.astype(np.float64), fusion).astype(np.float32)

    def _source(self, slot: int, references: Sequence[int]) -> Source:
        keys, values = self.bank.key_block.shared, self.bank.value_block.shared
        return Source(keys[slot], keys, values, references)

    def _active(self, references: Sequence[int], sampling: Sampling) -> NDArray[np.int64]:
        """Tiles that look at an object, in the labels as they are or as regions enhance them."""
        tiles = self.reader.find_active(self.bank.labels, references, sampling)
        if len(self.bank.enhanced_values):
            labels = self._labels(self.bank.enhanced_values)
            tiles = np.union1d(tiles, self.reader.find_active(labels, references, sampling))
        return tiles

    def _lay_out(self, tiles: NDArray[np.int64], rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """(h, w, V) float32 of the rows of some tiles; background elsewhere, without colours."""
        bank = self.bank
        laid = np.zeros((*bank.grid_hw, bank.values.shape[-1]), np.float32)
        laid[..., -bank.channels] = 1
        self.reader.lay_out(tiles, rows, laid)
        return laid

    def _labels(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        return values[..., -self.bank.channels :]


def measure_losses(found: NDArray[np.float32], colours: NDArray[np.float32]) -> NDArray[np.float32]:
    """Smooth L1 distance between reconstructed colours and a frame's own.

    Args:
        found: (B, h, w, 3) float32 colours of each branch, as the encoder takes them: normalised
            Lab, or RGB of a pretrained one.
        colours: (h, w, 3) float32.

    Returns:
        (B, h, w) float32, the mean over the three channels.
    """
    distance = np.abs(found - colours)
    loss: NDArray[np.float32] = np.where(distance < 1, 0.5 * distance**2, distance - 0.5)
    return np.asarray(loss.mean(axis=-1), np.float32)
