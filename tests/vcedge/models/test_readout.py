"""The tiled readout, in torch, numpy and ONNX Runtime, is the dense masked one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.oracle import NumpyColumnTotal, NumpyJointReadout, NumpyLabelReadout
from vcedge.models.affinity import reconstruct, window_bias
from vcedge.models.readout import ColumnTotal, JointReadout, LabelReadout
from vcedge_export.onnx import export_onnx
from vcedge_export.torch_engine import TorchEngine
from vcedge_runtime.buffers import Buffer
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.predictors.reader import Source, TileReader
from vcedge_runtime.propagation.fusion import fuse_joint
from vcedge_runtime.propagation.readout import Readout
from vcedge_runtime.sampling.sampling import Groups, Sampling

Array = NDArray[np.float32]
TOLERANCE = 1e-4
"""Of soft labels in FP32: sums of up to 15,000 terms in another order, and logits of about 10 whose
last bit is 1e-6, which the exponential turns into a relative error of the same size."""
KEY_DIM = 8


@dataclass(frozen=True)
class Memory:
    """A small memory, of which slot 0 is the current frame's, and how it is to be read."""

    grid_hw: tuple[int, int]
    radius: int
    tile: int
    keys: Array
    labels: Array
    read: tuple[int, ...]

    @classmethod
    def draw(
        cls,
        grid_hw: tuple[int, int],
        radius: int,
        tile: int,
        read: int,
        *,
        key_dim: int = KEY_DIM,
        seed: int = 0,
    ) -> Memory:
        rng = np.random.default_rng(seed)
        keys = rng.normal(0, 2, (read + 2, *grid_hw, key_dim)).astype(np.float32)
        labels = rng.random((read + 2, *grid_hw, 3), np.float32)
        labels /= labels.sum(axis=-1, keepdims=True)
        chosen = tuple(rng.permutation(np.arange(1, read + 2))[:read].tolist())
        return cls(grid_hw, radius, tile, keys, labels, chosen)

    @property
    def source(self) -> Source:
        return Source(self.keys[0], self.keys, self.labels, self.read)

    def reader(self, *engines: Engine) -> TileReader:
        reader = TileReader(
            {e.spec.name: e for e in engines},
            self.grid_hw,
            self.radius,
            len(self.read),
            tile=self.tile,
        )
        reader.resize(self.labels.shape[-1])
        return reader

    def lay_out(self, reader: TileReader, rows: Array) -> Array:
        """Bring rows of all tiles, (N, A, V), to the grid."""
        grid = np.full((*self.grid_hw, rows.shape[-1]), np.nan, np.float32)
        reader.lay_out(reader.all_tiles, rows, grid)
        return grid

    def readout(self, engine: Engine) -> Array:
        """Read with an engine, and merge to one softmax: (h, w, L)."""
        reader = self.reader(engine)
        found = reader.read(self.source, Sampling(self.radius), reader.all_tiles)
        return self.lay_out(reader, fuse_joint(found))

    def dense(self) -> Array:
        """Read with the dense affinity of training."""
        channels_first = [
            torch.from_numpy(np.moveaxis(values, -1, -3).copy())
            for values in (self.keys[0], self.keys[list(self.read)], self.labels[list(self.read)])
        ]
        query, keys, values = (tensor[None] for tensor in channels_first)
        found = reconstruct(query, keys, values, window_bias(*self.grid_hw, self.radius))
        return np.asarray(found[0].permute(1, 2, 0).numpy(), np.float32)

    def logits(self) -> Array:
        """Every logit without a window, (R, h * w, h * w): query cells, then key cells."""
        rows = self.keys.reshape(len(self.keys), -1, self.keys.shape[-1])
        scale = np.sqrt(np.float32(self.keys.shape[-1]))
        return np.stack([rows[0] @ rows[slot].T / scale for slot in self.read])

    def distances(self) -> Array:
        """(h * w, h * w) float32 Chebyshev cells."""
        ys, xs = (axis.reshape(-1) for axis in np.indices(self.grid_hw))
        steps = [np.abs(axis[:, None] - axis[None]) for axis in (ys, xs)]
        return np.maximum(*steps).astype(np.float32)

    def dense_top_k(self, top_k: int) -> Array:
        """State plainly what top-k means: only the k largest logits of a cell have a weight."""
        cells = self.grid_hw[0] * self.grid_hw[1]
        logits = np.where(self.distances() <= self.radius, self.logits(), -1e4)
        logits = logits.transpose(1, 0, 2).reshape(cells, -1)
        order = np.argsort(-logits, axis=1)[:, :top_k]
        largest = np.take_along_axis(logits, order, axis=1)
        weights = np.exp(largest - largest.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        values = self.labels[list(self.read)].reshape(len(self.read) * cells, -1)[order]
        return np.asarray((weights[..., None] * values).sum(1).reshape(*self.grid_hw, -1), "f4")


def read_jointly(memory: Memory, engine: Engine, sampling: Sampling | None = None) -> Array:
    """Read all tiles with ``joint_readout``: (h, w, L)."""
    reader = memory.reader(engine)
    sampling = Sampling(memory.radius) if sampling is None else sampling
    return memory.lay_out(reader, reader.read_jointly(memory.source, sampling, reader.all_tiles))


def joint_in_torch(key_dim: int = KEY_DIM, **options: Any) -> Engine:
    module = JointReadout(key_dim, **options).eval()
    return TorchEngine(module, module.spec)


def joint_in_numpy(key_dim: int = KEY_DIM, **options: Any) -> Engine:
    return NumpyJointReadout(JointReadout(key_dim).spec, **options)


JOINT = pytest.mark.parametrize("make_engine", [joint_in_torch, joint_in_numpy])


def engine_in_torch(key_dim: int = KEY_DIM, **options: Any) -> Engine:
    module = LabelReadout(key_dim, **options)
    return TorchEngine(module, module.spec)


def engine_in_numpy(
    key_dim: int = KEY_DIM, *, second_window: bool = False, **options: Any
) -> Engine:
    spec = LabelReadout(key_dim, second_window=second_window).spec
    return NumpyLabelReadout(spec, **options)


def columns_in_torch(**options: Any) -> Engine:
    module = ColumnTotal(KEY_DIM, **options)
    return TorchEngine(module, module.spec)


def columns_in_numpy(**options: Any) -> Engine:
    return NumpyColumnTotal(ColumnTotal(KEY_DIM).spec, **options)


BOTH = pytest.mark.parametrize("make_engine", [engine_in_torch, engine_in_numpy])
MEMORIES = st.builds(
    Memory.draw,
    st.tuples(st.integers(1, 14), st.integers(1, 14)),
    st.integers(1, 12),
    st.integers(1, 16),
    st.integers(1, 5),
    seed=st.integers(0, 99),
)


@BOTH
@settings(max_examples=40)
@given(memory=MEMORIES)
def test_tiles_read_what_the_dense_window_reads(
    make_engine: Callable[..., Engine], memory: Memory
) -> None:
    found = memory.readout(make_engine())
    np.testing.assert_allclose(found, memory.dense(), atol=TOLERANCE)
    # Each row is a mean of label rows that sum to 1; tighter, for it is one sum only.
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)


@BOTH
@settings(max_examples=20)
@given(memory=MEMORIES)
def test_each_reference_has_a_softmax_of_its_own(
    make_engine: Callable[..., Engine], memory: Memory
) -> None:
    reader = memory.reader(make_engine())
    found = reader.read(memory.source, Sampling(memory.radius), reader.all_tiles)
    logits = np.where(memory.distances() <= memory.radius, memory.logits(), -np.inf)
    peak = memory.lay_out(reader, found.peak.transpose(0, 2, 1)).reshape(-1, len(memory.read))
    total = memory.lay_out(reader, found.total.transpose(0, 2, 1)).reshape(-1, len(memory.read))
    np.testing.assert_allclose(peak.T, logits.max(axis=-1), atol=1e-5)
    expected = np.exp(logits - logits.max(axis=-1, keepdims=True)).sum(axis=-1)
    np.testing.assert_allclose(total.T, expected, rtol=TOLERANCE)
    # Queries beyond the grid, which stand for no cell, may see nothing.
    assert peak.min() > -5e3


@BOTH
@pytest.mark.parametrize("grid_hw", [(40, 23), (1, 40), (33, 1), (25, 25)])
@pytest.mark.parametrize("radius", [1, 7, 12])
def test_large_and_odd_grids_too(
    make_engine: Callable[..., Engine], grid_hw: tuple[int, int], radius: int
) -> None:
    memory = Memory.draw(grid_hw, radius, 12, 2)
    np.testing.assert_allclose(memory.readout(make_engine()), memory.dense(), atol=TOLERANCE)


@pytest.mark.parametrize("grid_hw", [(1, 1), (7, 9), (19, 26), (31, 17)])
@pytest.mark.parametrize("radius", [1, 5, 12])
@pytest.mark.parametrize("read", [1, 3, 9])
def test_the_exported_graph_reads_what_the_dense_window_reads(
    tiny_bundle: Bundle, grid_hw: tuple[int, int], radius: int, read: int
) -> None:
    graph = tiny_bundle.graphs["label_readout"]
    engine = OnnxRuntimeEngine(tiny_bundle.read_graph("label_readout"), graph.spec, threads=1)
    memory = Memory.draw(grid_hw, radius, 12, read, key_dim=64)
    memory.keys[:] /= 2
    found = memory.readout(engine)
    memory.keys[0] /= tiny_bundle.composition.temperature
    np.testing.assert_allclose(found, memory.dense(), atol=TOLERANCE)


@JOINT
@settings(max_examples=40)
@given(memory=MEMORIES)
def test_the_joint_readout_is_the_dense_softmax_over_all_references(
    make_engine: Callable[..., Engine], memory: Memory
) -> None:
    found = read_jointly(memory, make_engine())
    np.testing.assert_allclose(found, memory.dense(), atol=TOLERANCE)
    np.testing.assert_allclose(found, memory.readout(engine_in_numpy()), atol=TOLERANCE)
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)


@JOINT
@settings(max_examples=20)
@given(memory=MEMORIES, top_k=st.integers(1, 9))
def test_the_joint_readout_weighs_the_k_largest_alone(
    make_engine: Callable[..., Engine], memory: Memory, top_k: int
) -> None:
    found = read_jointly(memory, make_engine(top_k=top_k))
    np.testing.assert_allclose(found, memory.dense_top_k(top_k), atol=TOLERANCE)


@JOINT
@pytest.mark.parametrize("scale", [1, 100])
def test_windows_that_left_the_grid_read_nothing_and_others_as_they_are_merged(
    make_engine: Callable[..., Engine], scale: float
) -> None:
    memory = Memory.draw((9, 11), 2, 4, 3)
    memory.keys[:] *= np.float32(scale / 20)
    # In each reference the windows of the tiles lie elsewhere, of some beyond the grid.
    moved = [[[-20.0, 0.0]] * 3, [[3.0, -2.0]] * 3, [[0.0, 9.0]] * 3]

    class Moved:
        def of_queries(self, centres: NDArray[np.float64]) -> NDArray[np.int64]:
            shifts = np.zeros((len(centres), 3, 2), np.int64)
            for at, centre in enumerate(centres):
                shifts[at] = moved[int(centre.sum()) % 3]
            return shifts

    sampling = Sampling(2, shifts=Moved())  # type: ignore[arg-type]
    reader = memory.reader(engine_in_numpy())
    merged = fuse_joint(reader.read(memory.source, sampling, reader.all_tiles))
    found = read_jointly(memory, make_engine(), sampling)
    np.testing.assert_allclose(found, memory.lay_out(reader, merged), atol=TOLERANCE)
    assert not found[~memory.lay_out(reader, merged).any(axis=-1)].any()
    assert not found.all(axis=-1).all()


@pytest.mark.parametrize("grid_hw", [(1, 1), (19, 26), (31, 17)])
@pytest.mark.parametrize("read", [1, 3, 9])
def test_the_exported_joint_readout_is_that_of_the_oracle(
    tiny_bundle: Bundle, grid_hw: tuple[int, int], read: int
) -> None:
    graph, temperature = tiny_bundle.graphs["joint_readout"], tiny_bundle.composition.temperature
    exported = OnnxRuntimeEngine(tiny_bundle.read_graph("joint_readout"), graph.spec, threads=1)
    oracle = NumpyJointReadout(graph.spec, temperature=temperature)
    memory = Memory.draw(grid_hw, 5, 7, read, key_dim=64)
    found, expected = (read_jointly(memory, engine) for engine in (exported, oracle))
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def two_windows(memory: Memory, seed: int) -> Sampling:
    """Draw a first radius, each cell's second, up to the reader's own, and groups of cells."""
    rng = np.random.default_rng(seed)
    outer = rng.integers(-1, memory.radius + 1, memory.grid_hw).astype(np.float32)
    inner = float(rng.integers(0, memory.radius + 1))
    ids = rng.integers(0, 3, (1 + len(memory.read), *memory.grid_hw)).astype(np.int32)
    groups = Groups(ids[0], list(ids[1:]), float(rng.integers(0, memory.radius + 1)))
    return Sampling(inner, outer, float(rng.uniform(0.1, 1)), groups)


def weigh(memory: Memory, sampling: Sampling) -> Array:
    """State MER's eq. 15 plainly: the factor of each exponential, (R, h * w, h * w)."""
    outer, groups = sampling.outer, sampling.groups
    assert outer is not None
    assert groups is not None
    distance = memory.distances()
    own = groups.query_ids.reshape(-1, 1)
    same = np.stack([own == ids.reshape(1, -1) for ids in groups.key_ids])
    second = (distance <= outer.reshape(-1, 1)) | (same & (distance <= groups.reach))
    return np.asarray((distance <= sampling.inner) + sampling.delta * second, np.float32)


@BOTH
@settings(max_examples=30)
@given(memory=MEMORIES, seed=st.integers(0, 99))
def test_a_second_window_weighs_exponentials_and_holds_cells_of_the_same_group(
    make_engine: Callable[..., Engine], memory: Memory, seed: int
) -> None:
    sampling = two_windows(memory, seed)
    weight, reader = weigh(memory, sampling), memory.reader(make_engine(second_window=True))
    found = fuse_joint(reader.read(memory.source, sampling, reader.all_tiles))
    logits = memory.logits()
    affinity = weight * np.exp(logits - logits.max(axis=(0, 2), keepdims=True))
    seen = affinity.sum(axis=(0, 2)) > 0
    affinity[:, seen] /= affinity[:, seen].sum(axis=(0, 2), keepdims=True)
    labels = memory.labels[list(memory.read)].reshape(len(memory.read), -1, 3)
    expected = np.einsum("rqk,rkl->ql", affinity, labels).reshape(*memory.grid_hw, 3)
    np.testing.assert_allclose(memory.lay_out(reader, found), expected, atol=TOLERANCE)


@pytest.mark.parametrize("make_columns", [columns_in_torch, columns_in_numpy])
@settings(max_examples=30)
@given(memory=MEMORIES, seed=st.integers(0, 99))
def test_column_totals_are_the_sums_over_the_cells_that_look(
    make_columns: Callable[..., Engine], memory: Memory, seed: int
) -> None:
    sampling = two_windows(memory, seed)
    reader = memory.reader(engine_in_numpy(), make_columns())
    found = reader.read_columns(memory.source, sampling, reader.all_tiles)
    totals = (weigh(memory, sampling) * np.exp(memory.logits().astype(np.float64))).sum(axis=1)
    seen = totals > 0
    np.testing.assert_allclose(found[seen], np.log(totals[seen]), atol=TOLERANCE)
    # A cell at which no cell of the frame looks.
    assert (found[~seen] < -5e3).all()


@pytest.mark.parametrize("grid_hw", [(1, 1), (19, 26)])
def test_the_exported_second_window_is_that_of_the_oracle(
    tiny_bundle: Bundle, grid_hw: tuple[int, int]
) -> None:
    graph, temperature = tiny_bundle.graphs["cluster_readout"], tiny_bundle.composition.temperature
    exported = OnnxRuntimeEngine(tiny_bundle.read_graph("cluster_readout"), graph.spec, threads=1)
    oracle = NumpyLabelReadout(graph.spec, temperature=temperature)
    memory = Memory.draw(grid_hw, 5, 7, 4, key_dim=64)
    found = []
    for engine in (exported, oracle):
        reader = memory.reader(engine)
        readout = reader.read(memory.source, two_windows(memory, 3), reader.all_tiles)
        found.append(fuse_joint(readout))
    np.testing.assert_allclose(*found, atol=TOLERANCE)


@pytest.mark.parametrize("grid_hw", [(1, 1), (19, 26)])
def test_the_exported_columns_are_those_of_the_oracle(
    tiny_bundle: Bundle, grid_hw: tuple[int, int]
) -> None:
    graph, temperature = tiny_bundle.graphs["column_total"], tiny_bundle.composition.temperature
    exported = OnnxRuntimeEngine(tiny_bundle.read_graph("column_total"), graph.spec, threads=1)
    oracle = NumpyColumnTotal(graph.spec, temperature=temperature)
    memory = Memory.draw(grid_hw, 5, 7, 4, key_dim=64)
    found = []
    for engine in (exported, oracle):
        reader = memory.reader(engine_in_numpy(64), engine)
        found.append(reader.read_columns(memory.source, two_windows(memory, 3), reader.all_tiles))
    # Totals are about 30; FP32 products of 64 terms in another order.
    np.testing.assert_allclose(*found, atol=TOLERANCE)


@BOTH
@settings(max_examples=30)
@given(memory=MEMORIES, top_k=st.integers(1, 9))
def test_top_k_weighs_the_k_largest_alone(
    make_engine: Callable[..., Engine], memory: Memory, top_k: int
) -> None:
    # A cell with fewer keys in sight than k reads them all; the mask gives the rest no weight.
    expected = memory.dense_top_k(top_k)
    np.testing.assert_allclose(memory.readout(make_engine(top_k=top_k)), expected, atol=TOLERANCE)


@BOTH
def test_top_k_of_all_is_the_full_softmax(make_engine: Callable[..., Engine]) -> None:
    memory = Memory.draw((9, 11), 3, 5, 2)
    patch = memory.reader(make_engine()).windows.distance.shape[1]
    found = memory.readout(make_engine(top_k=2 * patch))
    np.testing.assert_allclose(found, memory.readout(make_engine()), atol=1e-6)


@BOTH
@pytest.mark.parametrize("temperature", [0.25, 2.0])
def test_a_temperature_divides_the_logits(
    make_engine: Callable[..., Engine], temperature: float
) -> None:
    memory = Memory.draw((9, 11), 3, 5, 2)
    found = memory.readout(make_engine(temperature=temperature))
    memory.keys[0] /= temperature
    np.testing.assert_allclose(found, memory.dense(), atol=TOLERANCE)


@BOTH
def test_ties_with_the_kth_value_stay_in(make_engine: Callable[..., Engine]) -> None:
    memory = Memory.draw((5, 5), 2, 12, 1)
    memory.keys[:] = 1
    found = memory.readout(make_engine(top_k=1))
    np.testing.assert_allclose(found, memory.readout(make_engine()), atol=1e-6)


@BOTH
@pytest.mark.parametrize("top_k", [None, 5])
def test_identical_frames_with_distinct_cells_hand_labels_on_unchanged(
    make_engine: Callable[..., Engine], top_k: int | None
) -> None:
    memory = Memory.draw((9, 7), 12, 4, 3, key_dim=64)
    memory.keys[:] = 20 * np.eye(64, dtype=np.float32)[:63].reshape(9, 7, 64)
    memory.labels[:] = memory.labels[0]
    found = memory.readout(make_engine(key_dim=64, top_k=top_k))
    # The own cell's logit is 50, the others' 0: what they take away is 63 e^-50.
    np.testing.assert_allclose(found, memory.labels[0], atol=1e-6)


@BOTH
@pytest.mark.parametrize("scale", [0, 1e3])
@pytest.mark.parametrize("top_k", [None, 4])
def test_rows_without_a_key_are_told_and_nothing_becomes_nan(
    make_engine: Callable[..., Engine], scale: float, top_k: int | None
) -> None:
    memory = Memory.draw((5, 6), 2, 4, 2)
    # Logits of up to some hundred; a mask must still be told from them.
    memory.keys[:] *= np.float32(scale / 300)
    reader = memory.reader(make_engine(top_k=top_k))
    shut = np.full((2, 30), -1e4, np.float32)
    shut[1, 0] = 0
    found = reader.read(memory.source, Sampling(2), reader.all_tiles, column_bias=shut)
    assert np.isfinite(found.values).all()
    assert np.isfinite(found.total).all()
    assert found.empty[:, 0].all()
    fused = memory.lay_out(reader, fuse_joint(found))
    assert np.isfinite(fused).all()
    seen = np.zeros((5, 6), bool)
    seen[:3, :3] = True  # The cells whose window of radius 2 holds the first cell.
    np.testing.assert_allclose(fused.sum(axis=-1), seen, atol=1e-5)
    only = np.broadcast_to(memory.labels[memory.read[1], 0, 0], (9, 3))
    np.testing.assert_allclose(fused[seen], only, atol=1e-5)


def test_what_is_not_read_has_no_weight_at_all() -> None:
    memory = Memory.draw((6, 6), 3, 4, 2)
    expected = memory.readout(engine_in_torch())
    unread = [slot for slot in range(1, 4) if slot not in memory.read]
    memory.labels[[0, *unread]] = np.float32(1e3)
    np.testing.assert_array_equal(memory.readout(engine_in_torch()), expected)


@pytest.mark.slow
def test_the_exported_graph_weighs_the_k_largest_alone(tmp_path: Path) -> None:
    module = LabelReadout(KEY_DIM, top_k=6)
    seen: list[dict[str, Buffer]] = []

    class Recorder(NumpyLabelReadout):
        def run(self, inputs: Any, out: Any) -> None:
            seen.append(dict(inputs))
            super().run(inputs, out)

    Memory.draw((7, 9), 2, 5, 2).readout(Recorder(module.spec))
    lengths: dict[str, int] = {}
    for tensor in module.spec.inputs:
        named = zip(tensor.shape, seen[0][tensor.name].shape, strict=True)
        lengths |= {dim: length for dim, length in named if isinstance(dim, str)}
    export_onnx(module, lengths, tmp_path / "readout.onnx")
    model = (tmp_path / "readout.onnx").read_bytes()
    engine = OnnxRuntimeEngine(model, module.spec, threads=1)
    memory = Memory.draw((13, 10), 3, 6, 1)
    np.testing.assert_allclose(memory.readout(engine), memory.dense_top_k(6), atol=TOLERANCE)


def test_a_readout_merged_in_two_halves_is_the_whole() -> None:
    memory = Memory.draw((8, 9), 3, 4, 4)
    reader = memory.reader(engine_in_numpy())
    whole = reader.read(memory.source, Sampling(3), reader.all_tiles)
    halves = [whole.tiles, whole.peak, whole.total, whole.values]
    for part in (slice(0, 2), slice(2, 4)):
        half = Readout(halves[0], *(table[:, part] for table in halves[1:]))
        assert half.log_total.shape == (len(whole.tiles), 2, whole.peak.shape[2])
    log_total = [whole.log_total[:, :2], whole.log_total[:, 2:]]
    merged = np.logaddexp(*(np.logaddexp.reduce(half, axis=1) for half in log_total))
    np.testing.assert_allclose(merged, np.logaddexp.reduce(whole.log_total, axis=1), rtol=1e-6)
