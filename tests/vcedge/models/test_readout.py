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

from vcedge.models.affinity import reconstruct, window_bias
from vcedge.models.readout import LabelReadout
from vcedge_export.onnx import export_onnx
from vcedge_export.torch_engine import TorchEngine
from vcedge_runtime.bundle import Bundle
from vcedge_runtime.engines.base import Buffer, Engine
from vcedge_runtime.engines.numpy import NumpyLabelReadout
from vcedge_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vcedge_runtime.sampling.windows import MASKED_LOGIT, tile_windows

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
    references: int

    @classmethod
    def draw(
        cls,
        grid_hw: tuple[int, int],
        radius: int,
        tile: int,
        read: int,
        references: int,
        *,
        key_dim: int = KEY_DIM,
        seed: int = 0,
    ) -> Memory:
        rng = np.random.default_rng(seed)
        slots = references + 2
        keys = rng.normal(0, 2, (slots, *grid_hw, key_dim)).astype(np.float32)
        labels = rng.random((slots, *grid_hw, 3), np.float32)
        labels /= labels.sum(axis=-1, keepdims=True)
        chosen = tuple(rng.permutation(np.arange(1, slots))[:read].tolist())
        return cls(grid_hw, radius, tile, keys, labels, chosen, references)

    def inputs(self) -> tuple[dict[str, Buffer], NDArray[np.int64]]:
        """Return the graph's inputs, and where each cell stands in its output."""
        windows = tile_windows(self.grid_hw, self.radius, self.tile)
        missing = self.references - len(self.read)
        cells = self.grid_hw[0] * self.grid_hw[1]
        bias = [0] * len(self.read) + [MASKED_LOGIT] * missing
        inputs: dict[str, Buffer] = {
            "query": self.keys[0],
            "keys": self.keys,
            "labels": self.labels,
            "slot_offset": np.array([*self.read, *[0] * missing], np.int64) * cells,
            "slot_bias": np.array(bias, np.float32),
        }
        for name in ("query_index", "key_index", "key_bias", "window_bias"):
            inputs[name] = getattr(windows, name)
        return inputs, windows.position

    def readout(self, engine: Engine) -> Array:
        """Read with an engine: (h, w, L)."""
        inputs, position = self.inputs()
        channels = self.labels.shape[-1]
        out = np.full((*inputs["query_index"].shape, channels), np.nan, np.float32)
        engine.run(inputs, {"readout": out})
        return out.reshape(-1, channels)[position].reshape(*self.grid_hw, channels)

    def dense(self) -> Array:
        """Read with the dense affinity of training, from the valid references alone."""
        channels_first = [
            torch.from_numpy(np.moveaxis(values, -1, -3).copy())
            for values in (self.keys[0], self.keys[list(self.read)], self.labels[list(self.read)])
        ]
        query, keys, values = (tensor[None] for tensor in channels_first)
        found = reconstruct(query, keys, values, window_bias(*self.grid_hw, self.radius))
        return np.asarray(found[0].permute(1, 2, 0).numpy(), np.float32)

    def dense_top_k(self, top_k: int) -> Array:
        """State plainly what top-k means: only the k largest logits of a cell have a weight."""
        cells, channels = self.grid_hw[0] * self.grid_hw[1], self.keys.shape[-1]
        keys = self.keys[list(self.read)].reshape(-1, channels)
        logits = self.keys[0].reshape(-1, channels) @ keys.T / np.sqrt(np.float32(channels))
        logits += np.tile(window_bias(*self.grid_hw, self.radius).numpy(), len(self.read))
        order = np.argsort(-logits, axis=1)[:, :top_k]
        largest = np.take_along_axis(logits, order, axis=1)
        weights = np.exp(largest - largest.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        values = self.labels[list(self.read)].reshape(len(self.read) * cells, -1)[order]
        return np.asarray((weights[..., None] * values).sum(1).reshape(*self.grid_hw, -1), "f4")


def engine_in_torch(references: int, key_dim: int = KEY_DIM, **options: Any) -> Engine:
    module = LabelReadout(key_dim, references, **options)
    return TorchEngine(module, module.spec)


def engine_in_numpy(references: int, key_dim: int = KEY_DIM, **options: Any) -> Engine:
    return NumpyLabelReadout(LabelReadout(key_dim, references).spec, **options)


BOTH = pytest.mark.parametrize("make_engine", [engine_in_torch, engine_in_numpy])
MEMORIES = st.integers(1, 5).flatmap(
    lambda references: st.builds(
        Memory.draw,
        st.tuples(st.integers(1, 14), st.integers(1, 14)),
        st.integers(1, 12),
        st.integers(1, 16),
        st.integers(1, references),
        st.just(references),
        seed=st.integers(0, 99),
    )
)


@BOTH
@settings(max_examples=40, deadline=None)
@given(memory=MEMORIES)
def test_tiles_read_what_the_dense_window_reads(
    make_engine: Callable[..., Engine], memory: Memory
) -> None:
    found = memory.readout(make_engine(memory.references))
    np.testing.assert_allclose(found, memory.dense(), atol=TOLERANCE)
    # Each row is a mean of label rows that sum to 1; tighter, for it is one sum only.
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)


@BOTH
@pytest.mark.parametrize("grid_hw", [(40, 23), (1, 40), (33, 1), (25, 25)])
@pytest.mark.parametrize("radius", [1, 7, 12])
def test_large_and_odd_grids_too(
    make_engine: Callable[..., Engine], grid_hw: tuple[int, int], radius: int
) -> None:
    memory = Memory.draw(grid_hw, radius, 12, 2, 3)
    np.testing.assert_allclose(memory.readout(make_engine(3)), memory.dense(), atol=TOLERANCE)


@pytest.mark.parametrize("grid_hw", [(1, 1), (7, 9), (19, 26), (31, 17)])
@pytest.mark.parametrize("radius", [1, 5, 12])
@pytest.mark.parametrize("read", [1, 3, 5])
def test_the_exported_graph_reads_what_the_dense_window_reads(
    tiny_bundle: Bundle, grid_hw: tuple[int, int], radius: int, read: int
) -> None:
    graph = tiny_bundle.graphs["label_readout"]
    engine = OnnxRuntimeEngine(tiny_bundle.path_of("label_readout"), graph.spec, threads=1)
    memory = Memory.draw(grid_hw, radius, 12, read, 5, key_dim=64)
    memory.keys[:] /= 2
    found = memory.readout(engine)
    memory.keys[0] /= tiny_bundle.composition.temperature
    np.testing.assert_allclose(found, memory.dense(), atol=TOLERANCE)


@BOTH
@settings(max_examples=30, deadline=None)
@given(memory=MEMORIES, top_k=st.integers(1, 30))
def test_top_k_weighs_the_k_largest_alone(
    make_engine: Callable[..., Engine], memory: Memory, top_k: int
) -> None:
    engine = make_engine(memory.references, top_k=min(top_k, 9 * memory.references))
    # A cell with fewer keys in sight than k reads them all; the mask gives the rest no weight.
    expected = memory.dense_top_k(min(top_k, 9 * memory.references))
    np.testing.assert_allclose(memory.readout(engine), expected, atol=TOLERANCE)


@BOTH
def test_top_k_of_all_is_the_full_softmax(make_engine: Callable[..., Engine]) -> None:
    memory = Memory.draw((9, 11), 3, 5, 2, 3)
    patch = memory.inputs()[0]["key_index"].shape[1]
    found = memory.readout(make_engine(3, top_k=3 * patch))
    np.testing.assert_allclose(found, memory.readout(make_engine(3)), atol=1e-6)


@BOTH
@pytest.mark.parametrize("temperature", [0.25, 2.0])
def test_a_temperature_divides_the_logits(
    make_engine: Callable[..., Engine], temperature: float
) -> None:
    memory = Memory.draw((9, 11), 3, 5, 2, 3)
    found = memory.readout(make_engine(3, temperature=temperature))
    memory.keys[0] /= temperature
    np.testing.assert_allclose(found, memory.dense(), atol=TOLERANCE)


@BOTH
def test_ties_with_the_kth_value_stay_in(make_engine: Callable[..., Engine]) -> None:
    memory = Memory.draw((5, 5), 2, 12, 1, 1)
    memory.keys[:] = 1
    np.testing.assert_allclose(
        memory.readout(make_engine(1, top_k=1)), memory.readout(make_engine(1)), atol=1e-6
    )


@BOTH
@pytest.mark.parametrize("top_k", [None, 5])
def test_identical_frames_with_distinct_cells_hand_labels_on_unchanged(
    make_engine: Callable[..., Engine], top_k: int | None
) -> None:
    memory = Memory.draw((9, 7), 12, 4, 3, 3, key_dim=64)
    memory.keys[:] = 20 * np.eye(64, dtype=np.float32)[:63].reshape(9, 7, 64)
    memory.labels[:] = memory.labels[0]
    found = memory.readout(make_engine(3, key_dim=64, top_k=top_k))
    # The own cell's logit is 50, the others' 0: what they take away is 63 e^-50.
    np.testing.assert_allclose(found, memory.labels[0], atol=1e-6)


@BOTH
@pytest.mark.parametrize("scale", [0, 1e3])
@pytest.mark.parametrize("top_k", [None, 4])
def test_nothing_becomes_nan_even_when_every_reference_is_masked(
    make_engine: Callable[..., Engine], scale: float, top_k: int | None
) -> None:
    memory = Memory.draw((5, 6), 2, 4, 0, 2)
    memory.keys[:] *= scale
    found = memory.readout(make_engine(2, top_k=top_k))
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)


def test_a_masked_reference_has_no_weight_at_all() -> None:
    memory = Memory.draw((6, 6), 3, 4, 2, 4)
    expected = memory.readout(engine_in_torch(4))
    unread = [slot for slot in range(1, 6) if slot not in memory.read]
    memory.labels[[0, *unread]] = np.float32(1e3)
    np.testing.assert_array_equal(memory.readout(engine_in_torch(4)), expected)


def test_the_exported_graph_weighs_the_k_largest_alone(tmp_path: Path) -> None:
    module = LabelReadout(KEY_DIM, 2, top_k=6)
    examples = Memory.draw((7, 9), 2, 5, 2, 2).inputs()[0]
    tensors = {name: torch.from_numpy(array) for name, array in examples.items()}
    export_onnx(module, module.spec, tensors, tmp_path / "readout.onnx")
    engine = OnnxRuntimeEngine(tmp_path / "readout.onnx", module.spec, threads=1)
    memory = Memory.draw((13, 10), 3, 6, 1, 2)
    np.testing.assert_allclose(memory.readout(engine), memory.dense_top_k(6), atol=TOLERANCE)
