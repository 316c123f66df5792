"""Soft labels: from masks, through the reader, and back to masks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from vcedge_runtime.engines.base import Buffer
from vcedge_runtime.memory.bank import MemoryBank
from vcedge_runtime.propagation.labels import LabelReader, labels_from_mask, mask_from_labels
from vcedge_runtime.propagation.upsample import CubicUpsampler
from vcedge_runtime.sampling.windows import MASKED_LOGIT
from vcedge_runtime.spec import GraphSpec

CHANNEL_OF = {7: 1, 200: 2, 9: 4}
SIDES = st.integers(1, 60)
MASKS = hnp.arrays(np.uint8, st.tuples(SIDES, SIDES), elements=st.sampled_from([0, 7, 9, 200, 33]))
GRIDS = st.tuples(st.integers(2, 12), st.integers(2, 12))


@given(MASKS, GRIDS)
def test_every_cell_shares_itself_among_the_channels(
    mask: NDArray[np.uint8], grid_hw: tuple[int, int]
) -> None:
    labels = labels_from_mask(mask, CHANNEL_OF, grid_hw, 8)
    assert labels.shape == (*grid_hw, 8)
    assert labels.dtype == np.float32
    # Shares are sums of float32 weights, so rows may miss 1 in the last bits.
    np.testing.assert_allclose(labels.sum(axis=-1), 1, atol=1e-5)
    assert labels.min() > -1e-5
    assert not labels[..., [3, 5, 6, 7]].any()


def test_a_label_is_the_share_of_the_cell_that_the_object_covers() -> None:
    mask = np.zeros((8, 12), np.uint8)
    mask[:4, :4] = 7
    mask[0, 4:6] = 9
    labels = labels_from_mask(mask, CHANNEL_OF, (2, 3), 8)
    expected = np.zeros((2, 3, 8), np.float32)
    expected[..., 0] = [[0, 14 / 16, 1], [1, 1, 1]]
    expected[0, 0, 1] = 1
    expected[0, 1, 4] = 2 / 16
    np.testing.assert_allclose(labels, expected, atol=1e-6)


def test_ids_without_a_channel_are_background() -> None:
    mask = np.full((8, 8), 33, np.uint8)
    labels = labels_from_mask(mask, CHANNEL_OF, (2, 2), 8)
    np.testing.assert_array_equal(labels[..., 0], 1)


@given(MASKS, GRIDS)
def test_the_mask_holds_known_ids_alone_and_scores_are_shares(
    mask: NDArray[np.uint8], grid_hw: tuple[int, int]
) -> None:
    labels = labels_from_mask(mask, CHANNEL_OF, grid_hw, 8)
    decision = mask_from_labels(labels, CHANNEL_OF, CubicUpsampler(mask.shape))
    assert decision.mask.shape == mask.shape
    assert decision.mask.dtype == np.uint8
    assert set(np.unique(decision.mask)) <= {0, *CHANNEL_OF}
    assert set(decision.scores) == set(CHANNEL_OF)
    for object_id, score in decision.scores.items():
        assert 0 <= score <= 1
        assert (score > 0) == bool((decision.mask == object_id).any())


@pytest.mark.parametrize("stride", [1, 4, 8])
def test_a_mask_of_whole_cells_comes_back_but_for_its_border(stride: int) -> None:
    cells = np.zeros((9, 12), np.uint8)
    cells[2:7, 1:5] = 7
    cells[3:9, 7:11] = 200
    mask = np.kron(cells, np.ones((stride, stride), np.uint8))
    labels = labels_from_mask(mask, CHANNEL_OF, (9, 12), 8)
    found = mask_from_labels(labels, CHANNEL_OF, CubicUpsampler(mask.shape)).mask
    # Cubic interpolation rounds a corner by less than a tenth of a cell's area.
    assert (found != mask).mean() < 0.01


def test_on_equal_labels_the_background_wins() -> None:
    labels = np.zeros((3, 3, 4), np.float32)
    labels[..., :2] = 0.5
    decision = mask_from_labels(labels, {5: 1}, CubicUpsampler((24, 24)))
    assert not decision.mask.any()
    assert decision.scores == {5: 0.0}


class RecordingEngine:
    """Answers each query with the mean label of the valid references at the query's own cell."""

    spec = GraphSpec("label_readout", (), ())

    def __init__(self) -> None:
        self.calls: list[dict[str, Buffer]] = []

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        self.calls.append({name: np.array(array) for name, array in inputs.items()})
        labels = inputs["labels"].reshape(-1, inputs["labels"].shape[-1])
        valid = inputs["slot_offset"][inputs["slot_bias"] == 0]
        found = [labels[offset + inputs["query_index"]] for offset in valid]
        out["readout"][...] = np.mean(found, axis=0)

    def close(self) -> None:
        """Hold nothing."""


@pytest.fixture
def bank() -> MemoryBank:
    """Memory of five frames of 17x26 cells with random labels."""
    bank = MemoryBank(5, (17, 26), 6, 4)
    bank.labels[:] = np.random.default_rng(0).random(bank.labels.shape, np.float32)
    return bank


@pytest.mark.parametrize(
    ("tile", "logit_bytes", "calls"),
    # Tiles of 6x7 cells look at patches of 12x13 in 4 references, so one has 105 kB of logits.
    [(7, 1, 12), (7, 530_000, 3), (7, 2**30, 1), (50, 1, 1)],
    ids=["tile by tile", "five at once", "all at once", "one tile"],
)
def test_the_reader_writes_every_cell_however_many_tiles_a_call_takes(
    bank: MemoryBank, tile: int, logit_bytes: int, calls: int
) -> None:
    engine = RecordingEngine()
    reader = LabelReader(engine, bank.grid_hw, 3, 4, tile=tile, logit_bytes=logit_bytes)
    reader.resize(bank.channels)
    before = bank.labels.copy()
    reader.read(bank, 2, [4, 0])
    np.testing.assert_allclose(bank.labels[2], before[[0, 4]].mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(bank.labels[[0, 1, 3, 4]], before[[0, 1, 3, 4]])
    assert len(engine.calls) == calls


def test_missing_references_are_masked(bank: MemoryBank) -> None:
    engine = RecordingEngine()
    reader = LabelReader(engine, bank.grid_hw, radius=3, references=4)
    reader.resize(bank.channels)
    reader.read(bank, 2, [4, 1])
    call = engine.calls[0]
    np.testing.assert_array_equal(call["slot_bias"], [0, 0, MASKED_LOGIT, MASKED_LOGIT])
    np.testing.assert_array_equal(call["slot_offset"], np.array([4, 1, 0, 0]) * 17 * 26)
    assert call["slot_offset"].dtype == np.int64


def test_the_readers_bytes_are_its_tables_and_its_output(bank: MemoryBank) -> None:
    reader = LabelReader(RecordingEngine(), bank.grid_hw, radius=3, references=4)
    tables = reader.nbytes
    reader.resize(4)
    narrow = reader.nbytes - tables
    reader.resize(12)
    assert reader.nbytes - tables == 3 * narrow
    # Tiles are whole, so the output covers the grid or a little more.
    assert narrow >= 4 * 4 * 17 * 26
