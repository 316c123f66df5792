"""Reading tile by tile: every cell once, in small calls, and only where there is an object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.oracle import NumpyColumnTotal, NumpyJointReadout, NumpyLabelReadout
from vcedge_runtime.buffers import Buffer
from vcedge_runtime.errors import TrackerError
from vcedge_runtime.memory.bank import MemoryBank
from vcedge_runtime.model.spec import GraphSpec, TensorSpec
from vcedge_runtime.predictors.branches import LabelPropagation
from vcedge_runtime.predictors.reader import Source, TileReader
from vcedge_runtime.propagation.fusion import (
    Fusion,
    JointFusion,
    MeanFusion,
    VoteFusion,
    fuse_joint,
)
from vcedge_runtime.sampling.alignment import ObjectShifts
from vcedge_runtime.sampling.sampling import RegionMatches, Sampling

RADIUS = 3
KEY_DIM = 6


def make_spec(name: str, inputs: str, outputs: str) -> GraphSpec:
    """Read "name:dim,dim ..." of float32 tensors; int64 those whose names end in index, offset."""

    def tensors(text: str) -> tuple[TensorSpec, ...]:
        made = []
        for part in text.split():
            name, dims = part.split(":")
            whole = name.endswith(("index", "offset"))
            shape = tuple(int(d) if d.isdigit() else d for d in dims.split(","))
            made.append(TensorSpec(name, "int64" if whole else "float32", shape))
        return tuple(made)

    return GraphSpec(name, tensors(inputs), tensors(outputs))


READOUT = make_spec(
    "label_readout",
    "query:h,w,C keys:S,h,w,C labels:S,h,w,L slot_offset:R query_index:N,A key_index:N,R,P "
    "key_bias:N,R,P distance:A,P inner:1",
    "peak:N,R,A total:N,R,A values:N,R,A,L",
)
JOINT = GraphSpec(
    "joint_readout", READOUT.inputs, (TensorSpec("values", "float32", ("N", "A", "L")),)
)
COLUMNS = make_spec(
    "column_total",
    "query:h,w,C keys:S,h,w,C slot_offset:R column_index:N,A query_index:N,R,P query_bias:N,R,P "
    "distance:A,P inner:1 outer:N,R,P delta:1 column_group:N,R,A query_group:N,R,P reach:1",
    "log_total:N,R,A",
)


class CountingEngine(NumpyLabelReadout):
    """Counts its calls, their tiles, and the multiply-accumulates of their tensors."""

    def __init__(self) -> None:
        super().__init__(READOUT)
        self.calls: list[int] = []
        self.logit_bytes = 0
        self.macs = 0

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        self.calls.append(len(inputs["query_index"]))
        logits = inputs["query_index"].size * inputs["key_bias"][0].size
        self.logit_bytes = max(self.logit_bytes, 4 * logits)
        self.macs += logits * (inputs["keys"].shape[-1] + inputs["labels"].shape[-1])
        super().run(inputs, out)


def make_bank(
    grid_hw: tuple[int, int] = (17, 26), objects: float = 1.0, channels: int = 4, seed: int = 0
) -> MemoryBank:
    """Memory of five frames with random keys, and random labels in some cells alone."""
    rng, bank = np.random.default_rng(seed), MemoryBank(5, grid_hw, KEY_DIM, channels)
    bank.keys[:] = 2 * rng.standard_normal(bank.keys.shape, np.float32)
    bank.labels[..., 0] = 1
    some = rng.random(bank.labels.shape[:3]) < objects
    bank.labels[some] = rng.dirichlet(np.ones(channels), int(some.sum()))
    return bank


def make_reader(
    bank: MemoryBank,
    engine: NumpyLabelReadout | None = None,
    *,
    tile: int = 5,
    logit_bytes: int = 100_000,
) -> TileReader:
    engine = engine or NumpyLabelReadout(READOUT)
    engines = {"label_readout": engine, "column_total": NumpyColumnTotal(COLUMNS)}
    reader = TileReader(engines, bank.grid_hw, RADIUS, 4, tile=tile, logit_bytes=logit_bytes)
    reader.resize(bank.channels)
    return reader


def cells_of_patches(reader: TileReader) -> NDArray[np.int64]:
    """(N, P) int64: the cells that every tile looks at where nothing moved."""
    shifts = np.zeros((len(reader.all_tiles), 1, 2), np.int64)
    return reader.windows.patches(reader.all_tiles, shifts)[0][:, 0]


def read_everywhere(bank: MemoryBank, reader: TileReader, references: list[int]) -> NDArray:
    """Read every tile by one joint softmax."""
    source = Source(bank.keys[2], bank.keys, bank.values, references)
    found = reader.read(source, Sampling(RADIUS), reader.all_tiles)
    labels = np.full(bank.labels.shape[1:], np.nan, np.float32)
    reader.lay_out(reader.all_tiles, fuse_joint(found), labels)
    return labels


@pytest.mark.parametrize(
    ("tile", "logit_bytes", "calls"),
    # Tiles of 6x7 cells look at patches of 12x13 in 2 references: one has 52 kB of logits.
    [(7, 1, 12), (7, 270_000, 3), (7, 2**30, 1), (50, 1, 1)],
    ids=["tile by tile", "five at once", "all at once", "one tile"],
)
def test_every_cell_is_read_the_same_however_many_tiles_a_call_takes(
    tile: int, logit_bytes: int, calls: int
) -> None:
    bank, engine = make_bank(), CountingEngine()
    reader = make_reader(bank, engine, tile=tile, logit_bytes=logit_bytes)
    found = read_everywhere(bank, reader, [4, 0])
    # The same sums: only their grouping into calls differs.
    np.testing.assert_allclose(found, read_everywhere(bank, make_reader(bank), [4, 0]), atol=1e-5)
    assert len(engine.calls) == calls


@settings(max_examples=40)
@given(
    st.tuples(st.integers(1, 24), st.integers(1, 24)),
    st.floats(0, 0.05),
    st.integers(1, 8),
    st.sampled_from([JointFusion(), JointFusion(0.5), MeanFusion(), VoteFusion()]),
    st.integers(0, 999),
)
def test_tiles_without_an_object_in_sight_are_left_out_without_a_trace(
    grid_hw: tuple[int, int], objects: float, tile: int, fusion: Fusion, seed: int
) -> None:
    bank = make_bank(grid_hw, objects, seed=seed)
    engine, everywhere = CountingEngine(), make_reader(bank, tile=tile)
    reader = make_reader(bank, engine, tile=tile)
    everywhere.find_active = lambda *_: everywhere.all_tiles  # type: ignore[method-assign]
    references = [4, 0, 1]
    found, expected = (
        LabelPropagation(each, bank, fusion).read(2, references, Sampling(RADIUS))
        for each in (reader, everywhere)
    )
    # A tile is read by the same call or not at all; votes and means of nothing are background.
    np.testing.assert_allclose(found, expected, atol=1e-6)
    active = set(reader.find_active(bank.labels, references, Sampling(RADIUS)).tolist())
    assert sum(engine.calls) == len(active)
    seen = bank.labels[references][..., 1:].any(axis=(0, -1)).reshape(-1)
    looks = [bool(seen[cells].any()) for cells in cells_of_patches(reader)]
    assert active == {index for index, sees in enumerate(looks) if sees}


def test_without_any_object_nothing_is_read_and_all_is_background() -> None:
    bank, engine = make_bank(objects=0), CountingEngine()
    propagation = LabelPropagation(make_reader(bank, engine), bank, JointFusion())
    found = propagation.read(2, [0, 1], Sampling(RADIUS))
    assert engine.calls == []
    np.testing.assert_array_equal(found[..., 0], 1)
    assert not found[..., 1:].any()


def test_its_bytes_do_not_hang_on_what_is_read() -> None:
    bank = make_bank(objects=0.01)
    reader = make_reader(bank)
    before = reader.nbytes
    LabelPropagation(reader, bank, JointFusion()).read(2, [0], Sampling(RADIUS))
    read_everywhere(bank, reader, [0, 1, 3, 4])
    assert reader.nbytes == before
    held = [reader._sums, reader._values]
    assert before == reader.windows.nbytes + sum(array.nbytes for array in held)
    reader.resize(8)
    assert reader.nbytes - before == 4 * 4 * 4 * reader.windows.query_index.size


@settings(max_examples=30)
@given(
    st.tuples(st.integers(1, 24), st.integers(1, 24)),
    st.integers(1, 14),
    st.lists(st.integers(0, 4), min_size=1, max_size=4, unique=True),
)
def test_calls_are_small_and_their_work_is_counted(
    grid_hw: tuple[int, int], tile: int, references: list[int]
) -> None:
    bank, engine = make_bank(grid_hw), CountingEngine()
    reader = make_reader(bank, engine, tile=tile, logit_bytes=30_000)
    read_everywhere(bank, reader, references)
    assert engine.macs == reader.macs
    one_tile = 4 * reader.windows.distance.size * len(references)
    assert engine.logit_bytes <= max(30_000, one_tile)


def test_regions_that_do_not_match_are_not_read() -> None:
    bank = make_bank((6, 6))
    ids = np.zeros((6, 6), np.int32)
    ids[:, 3:] = 1
    # Tiles of three columns: those on the left are of region 0, those on the right of region 1.
    reader = make_reader(bank, tile=3)
    allowed = [np.array([[True, False], [False, False]]), np.array([[False, True], [False, False]])]
    matches = RegionMatches(allowed, ids, [ids, ids])
    source = Source(bank.keys[2], bank.keys, bank.values, [0, 4])
    found = reader.read(source, Sampling(RADIUS, matches=matches), reader.all_tiles)
    left = reader.windows.query_index[:, 0] % 6 < 3
    assert found.lonely[~left].all()
    assert not found.lonely[left].any()
    for reference, region in ((0, ids == 0), (1, ids == 1)):
        bank.labels[[0, 4][reference]][~region] = np.float32(1e3)
        again = reader.read(source, Sampling(RADIUS, matches=matches), reader.all_tiles)
        assert again.values[left, reference].max() <= 1


def test_one_softmax_in_plain_windows_is_read_by_the_graph_that_does_so() -> None:
    bank = make_bank(objects=0.1)
    calls: list[str] = []

    class Counted(NumpyJointReadout):
        def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
            calls.append(self.spec.name)
            super().run(inputs, out)

    plain = make_reader(bank)
    joint = TileReader({"joint_readout": Counted(JOINT)}, bank.grid_hw, RADIUS, 4, tile=5)
    joint.resize(bank.channels)
    sampling = Sampling(RADIUS)
    for references in ([0], [4, 0, 1]):
        found, expected = (
            LabelPropagation(reader, bank, JointFusion()).read(2, references, sampling)
            for reader in (joint, plain)
        )
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert calls
    assert joint.macs == plain.macs
    # Another fusion, a second window or regions need what each reference says.
    ids = np.zeros(bank.grid_hw, np.int32)
    second = replace(sampling, outer=np.zeros(bank.grid_hw, np.float32))
    matched = replace(sampling, matches=RegionMatches([np.ones((1, 1), bool)], ids, [ids]))
    assert [joint.can_read_jointly(s) for s in (sampling, second, matched)] == [True, False, False]
    assert not plain.can_read_jointly(sampling)
    with pytest.raises(TrackerError, match="needs the graph label_readout"):
        LabelPropagation(joint, bank, VoteFusion()).read(2, [0], sampling)


@pytest.mark.parametrize("fusion", [JointFusion(), JointFusion(0.5), VoteFusion()])
def test_cells_whose_regions_match_nothing_look_into_their_whole_window(fusion: Fusion) -> None:
    bank = make_bank((6, 6))
    ids = np.zeros((6, 6), np.int32)
    matches = RegionMatches([np.zeros((1, 1), bool)] * 2, ids, [ids, ids])
    propagation = LabelPropagation(make_reader(bank), bank, fusion)
    found = propagation.read(2, [0, 4], Sampling(RADIUS, matches=matches))
    plain = JointFusion() if isinstance(fusion, JointFusion) else fusion
    expected = LabelPropagation(make_reader(bank), bank, plain).read(2, [0, 4], Sampling(RADIUS))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_way_of_reading_needs_its_graph() -> None:
    bank = make_bank()
    reader = TileReader({"label_readout": NumpyLabelReadout(READOUT)}, bank.grid_hw, RADIUS, 4)
    reader.resize(bank.channels)
    source = Source(bank.keys[2], bank.keys, bank.values, [0])
    with pytest.raises(TrackerError, match="needs the graph column_total, which the bundle lacks"):
        reader.read_columns(source, Sampling(RADIUS), reader.all_tiles)
    second = Sampling(2, np.full(bank.grid_hw, 3, np.float32), 0.5)
    with pytest.raises(TrackerError, match="needs the graph cluster_readout"):
        reader.read(source, second, reader.all_tiles)


def test_column_sums_are_made_where_the_tiles_look() -> None:
    bank = make_bank()
    reader = make_reader(bank, tile=4)
    source = Source(bank.keys[2], bank.keys, bank.values, [0, 1])
    whole = reader.read_columns(source, Sampling(RADIUS), reader.all_tiles)
    some = np.array([0, 7])
    found = reader.read_columns(source, Sampling(RADIUS), some)
    looked_at = np.unique(cells_of_patches(reader)[some])
    np.testing.assert_array_equal(found[:, looked_at], whole[:, looked_at])


def test_each_tile_follows_its_own_object_however_many_a_call_takes() -> None:
    bank = make_bank()
    # One object is at the left and moved down, the other at the right and moved up and left.
    left, right = np.array([[8, 4]]), np.array([[8, 21]])
    found = ((left, (3, 0)), (right, (-2, -4)))
    sampling = Sampling(RADIUS, shifts=ObjectShifts((found, found)))
    source = Source(bank.keys[2], bank.keys, bank.values, [0, 4])
    engines = {
        "label_readout": NumpyLabelReadout(READOUT),
        "joint_readout": NumpyJointReadout(JOINT),
        "column_total": NumpyColumnTotal(COLUMNS),
    }

    def read(logit_bytes: int) -> tuple[NDArray[np.float32], ...]:
        reader = TileReader(engines, bank.grid_hw, RADIUS, 4, tile=5, logit_bytes=logit_bytes)
        reader.resize(bank.channels)
        tiles = reader.all_tiles
        values = reader.read(source, sampling, tiles).values.copy()
        together = reader.read_jointly(source, sampling, tiles).copy()
        return values, together, reader.read_columns(source, sampling, tiles)

    for tile_by_tile, at_once in zip(read(1), read(2**30), strict=True):
        np.testing.assert_allclose(tile_by_tile, at_once, atol=1e-5)
