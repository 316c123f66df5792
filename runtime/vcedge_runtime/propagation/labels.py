"""Soft labels from masks, from memory to the current frame, and back to masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.engines.base import Engine
from vcedge_runtime.memory.bank import MemoryBank
from vcedge_runtime.sampling.windows import MASKED_LOGIT, tile_windows

TILE = 12
"""Side of a tile in key cells (our choice): ``benchmarks/readout.py`` compares others."""
LOGIT_BYTES = 8 * 2**20
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
    labels: NDArray[np.float32], channel_of: Mapping[int, int], frame_hw: tuple[int, int]
) -> MaskDecision:
    """Upsample soft labels to the frame and take the largest.

    Args:
        labels: (h, w, L) float32 soft labels.
        channel_of: label channel of each object id.
        frame_hw: height and width of the frame.
    """
    size = frame_hw[::-1]
    mask = np.zeros(frame_hw, np.uint8)
    best = cv2.resize(labels[..., 0], size, interpolation=cv2.INTER_CUBIC)
    for object_id, channel in channel_of.items():
        plane = cv2.resize(labels[..., channel], size, interpolation=cv2.INTER_CUBIC)
        wins = plane > best
        mask[wins] = object_id
        np.maximum(best, plane, out=best)
    scores = {}
    for object_id in channel_of:
        own = mask == object_id
        # Cubic interpolation overshoots a little where labels end.
        scores[object_id] = min(1.0, float(best[own].mean())) if own.any() else 0.0
    return MaskDecision(mask, scores)
