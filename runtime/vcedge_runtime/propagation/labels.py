"""Soft labels from masks, from memory to the current frame, and back to masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.engines.base import Engine
from vcedge_runtime.memory.bank import MemoryBank
from vcedge_runtime.propagation.upsample import Upsampler, find_region
from vcedge_runtime.sampling.windows import MASKED_LOGIT, tile_windows

TILE = 12
"""Side of a tile in key cells (our choice): ``benchmarks/readout.py`` compares others."""
LOGIT_BYTES = 4 * 2**20
"""Bytes of logits of one call (our choice): what stays in a last-level cache."""


class LabelReader:
    """Reads the label readout graph in pieces of a few tiles, so that its working set stays small.

    Args:
        engine: the ``label_readout`` graph.
        grid_hw: height and width of the key grid.
        radius: window radius in key cells.
        references: R, references of one call; missing ones are masked.
        tile: wanted side of a tile in key cells.
        logit_bytes: bytes of logits of one call, which says how many tiles it reads.
    """

    def __init__(
        self,
        engine: Engine,
        grid_hw: tuple[int, int],
        radius: int,
        references: int,
        *,
        tile: int = TILE,
        logit_bytes: int = LOGIT_BYTES,
    ) -> None:
        self._engine = engine
        self._grid_hw = grid_hw
        self._windows = tile_windows(grid_hw, radius, tile)
        self._references = references
        tiles, queries = self._windows.query_index.shape
        call_bytes = 4 * queries * references * self._windows.key_index.shape[1]
        self._tiles_per_call = min(tiles, max(1, logit_bytes // call_bytes))
        self._tile_labels = np.zeros((tiles, queries, 0), np.float32)

    @property
    def nbytes(self) -> int:
        """Bytes of the tables and of the buffer that the graph writes."""
        return self._windows.nbytes + self._tile_labels.nbytes

    def count_macs(self, key_dim: int) -> int:
        """Multiply-accumulates of one read: each query of a tile with each cell of its patches."""
        tiles, queries, channels = self._tile_labels.shape
        cells = self._references * int(self._windows.key_index.shape[1])
        return tiles * queries * cells * (key_dim + channels)

    def resize(self, channels: int) -> None:
        """Allocate for this many label channels."""
        tiles, queries = self._windows.query_index.shape
        self._tile_labels = np.zeros((tiles, queries, channels), np.float32)

    def read(self, bank: MemoryBank, slot: int, references: Sequence[int]) -> None:
        """Read the labels of a slot's frame from other slots, and write them into its place.

        Args:
            bank: the memory; the key of ``slot`` is there already.
            slot: the current frame's.
            references: slots to read, at most R.
        """
        cells = self._grid_hw[0] * self._grid_hw[1]
        missing = self._references - len(references)
        fixed = {
            "query": bank.keys[slot],
            "keys": bank.keys,
            "labels": bank.labels,
            "slot_offset": np.array([*references, *[0] * missing], np.int64) * cells,
            "slot_bias": np.array([0] * len(references) + [MASKED_LOGIT] * missing, np.float32),
            "window_bias": self._windows.window_bias,
        }
        for first in range(0, len(self._tile_labels), self._tiles_per_call):
            piece = slice(first, first + self._tiles_per_call)
            tables = {
                name: getattr(self._windows, name)[piece]
                for name in ("query_index", "key_index", "key_bias")
            }
            self._engine.run({**fixed, **tables}, {"readout": self._tile_labels[piece]})
        channels = bank.labels.shape[-1]
        rows = self._tile_labels.reshape(-1, channels)
        np.take(rows, self._windows.position, axis=0, out=bank.labels[slot].reshape(-1, channels))


def labels_from_mask(
    mask: NDArray[np.uint8], channel_of: Mapping[int, int], grid_hw: tuple[int, int], channels: int
) -> NDArray[np.float32]:
    """Share of each key cell that each object covers.

    Args:
        mask: (H, W) uint8 object ids; ids that ``channel_of`` lacks count as background.
        channel_of: label channel of each object id, from 1 up.
        grid_hw: height and width of the key grid.
        channels: L.

    Returns:
        (h, w, L) float32, rows sum to 1, channel 0 the background.
    """
    labels = np.zeros((*grid_hw, channels), np.float32)
    for object_id, channel in channel_of.items():
        covered = (mask == object_id).astype(np.float32)
        labels[..., channel] = cv2.resize(covered, grid_hw[::-1], interpolation=cv2.INTER_AREA)
    labels[..., 0] = 1 - labels[..., 1:].sum(axis=-1)
    return labels


def assign_share(labels: NDArray[np.float32], channel: int, share: NDArray[np.float32]) -> None:
    """Give a channel its share of every cell, in place; the others keep the rest in proportion.

    Args:
        labels: (h, w, L) float32 soft labels, rows sum to 1.
        channel: from 1 up; what it had before falls to the background.
        share: (h, w) float32, 0 to 1.
    """
    labels[..., 0] += labels[..., channel]
    labels[..., channel] = 0
    labels *= 1 - share[..., None]
    labels[..., channel] = share


@dataclass(frozen=True)
class MaskDecision:
    """The winning object of every pixel.

    Attributes:
        mask: (H, W) uint8 object ids.
        scores: mean soft label of each object over its own pixels; 0 for an object without any.
    """

    mask: NDArray[np.uint8]
    scores: dict[int, float]


def mask_from_labels(
    labels: NDArray[np.float32], channel_of: Mapping[int, int], upsampler: Upsampler
) -> MaskDecision:
    """Upsample soft labels and take the largest; the background has what objects leave.

    Args:
        labels: (h, w, L) float32 soft labels.
        channel_of: label channel of each object id.
        upsampler: of this frame.
    """
    mask = np.zeros(upsampler.frame_hw, np.uint8)
    best, total = np.zeros((2, *upsampler.frame_hw), np.float32)
    for object_id, channel in channel_of.items():
        plane = np.ascontiguousarray(labels[..., channel])
        region = find_region(plane, upsampler.frame_hw)
        if region is not None:
            share = upsampler.upsample(plane, region)
            wins = share > best[region.slices]
            mask[region.slices][wins] = object_id
            np.maximum(best[region.slices], share, out=best[region.slices])
            total[region.slices] += share
    mask[best <= 1 - total] = 0
    scores = {object_id: _mean_share(best, mask == object_id) for object_id in channel_of}
    return MaskDecision(mask, scores)


def _mean_share(best: NDArray[np.float32], own: NDArray[np.bool_]) -> float:
    shares = best[own]
    return min(1.0, float(shares.mean())) if shares.size else 0.0
