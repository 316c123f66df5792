"""What graphs take: lengths, multiply-accumulates and values, counted by hand and on a tracker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vcedge.bench import work
from vcedge.bench.work import Busy, MeteredEngine, bind_run, count_macs, count_values
from vcedge_runtime.model.bundle import GraphFile
from vcedge_runtime.model.composition import Composition
from vcedge_runtime.model.object_composition import ObjectComposition
from vcedge_runtime.model.spec import GraphSpec, TensorSpec

ENCODER = GraphSpec(
    "encoder",
    (TensorSpec("image", "float32", (1, 3, "H", "W")),),
    (TensorSpec("key", "float32", ("h", "w", 2)),),
)
READOUT = GraphSpec(
    "label_readout",
    (
        TensorSpec("query", "float32", ("h", "w", 64)),
        TensorSpec("keys", "float32", ("slots", "h", "w", 64)),
        TensorSpec("labels", "float32", ("slots", "h", "w", "channels")),
        TensorSpec("slot_offset", "int64", ("references",)),
        TensorSpec("query_index", "int64", ("tiles", "queries")),
        TensorSpec("key_index", "int64", ("tiles", "references", "patch")),
    ),
    (TensorSpec("values", "float32", ("tiles", "references", "queries", "channels")),),
)
LENGTHS = {"slots": 9, "h": 4, "w": 5, "channels": 3}
LENGTHS |= {"references": 2, "tiles": 6, "queries": 7, "patch": 8}


class CountedEngine:
    """Runs nothing."""

    def __init__(self, spec: GraphSpec) -> None:
        self.spec = spec
        self.runs = 0

    def run(self, inputs: Mapping[str, Any], out: Mapping[str, Any]) -> None:
        self.runs += 1

    def close(self) -> None:
        self.runs = -1


LABELS = Composition(stride=8, key_dim=64, size=64, radius=4)
OBJECTS = ObjectComposition(stride=16, key_dim=64, value_dim=128, size=64)


def arrays_of(spec: GraphSpec, lengths: Mapping[str, int]) -> dict[str, Any]:
    return {
        tensor.name: np.zeros([lengths[d] if isinstance(d, str) else d for d in tensor.shape])
        for tensor in spec.tensors
    }


def test_time_in_which_two_run_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([10.0, 17.0, 20.0, 21.5])
    monkeypatch.setattr(work.time, "perf_counter", lambda: next(now))
    busy = Busy()
    with busy.counting(), busy.counting():
        pass
    assert busy.seconds == 7.0
    with busy.counting():
        pass
    assert busy.seconds == 8.5


def test_lengths_are_those_of_the_arrays_and_the_slots_that_are_read() -> None:
    assert bind_run(READOUT, arrays_of(READOUT, LENGTHS)) == {**LENGTHS, "read": 2}


def test_an_image_costs_by_its_pixels() -> None:
    graph = GraphFile(ENCODER, "encoder.onnx", "", "fp32", macs_per_pixel=10.0)
    assert count_macs(graph, {"H": 16, "W": 24, "h": 2, "w": 3}, LABELS) == 16 * 24 * 10


def test_a_graph_of_objects_costs_by_its_pixels_and_them() -> None:
    spec = GraphSpec(
        "mask_decoder", (TensorSpec("features", "float32", ("objects", "h", "w")),), ()
    )
    graph = GraphFile(spec, "mask_decoder.onnx", "", "fp32", 5.0, 2.0)
    assert count_macs(graph, {"h": 2, "w": 3, "objects": 4}, OBJECTS) == 6 * 16**2 * (5 + 4 * 2)


def test_a_graph_whose_bundle_does_not_say_is_not_counted() -> None:
    graph = GraphFile(ENCODER, "encoder.onnx", "", "fp32")
    assert count_macs(graph, {"H": 16, "W": 24, "h": 2, "w": 3}, LABELS) is None


def test_a_readout_in_tiles_costs_by_its_lengths() -> None:
    graph = GraphFile(READOUT, "label_readout.onnx", "", "fp32")
    assert count_macs(graph, {**LENGTHS, "read": 2}, LABELS) == 6 * 2 * 7 * 8 * (64 + 3)


@pytest.mark.parametrize(("top_k", "summed"), [(20, 28), (64, 72), (65, 150), (None, 150)])
def test_a_readout_of_all_memory_sums_up_the_values_of_the_nearest(
    top_k: int | None, summed: int
) -> None:
    spec = GraphSpec("memory_read", (TensorSpec("query", "float32", ("h", "w", 64)),), ())
    graph = GraphFile(spec, "memory_read.onnx", "", "fp32")
    lengths = {"h": 2, "w": 3, "references": 25, "objects": 4, "channels": 128}
    found = count_macs(graph, lengths, replace(OBJECTS, top_k=top_k))
    assert found == 6 * (150 * 64 + summed * 4 * 128)


def test_of_memory_only_what_a_readout_gathers_is_moved() -> None:
    found = count_values(READOUT, {**LENGTHS, "read": 2})
    small = 4 * 5 * 64 + 2 + 6 * 7 + 6 * 2 * 8 + 6 * 2 * 7 * 3
    assert found == small + 6 * 8 * 2 * (64 + 3)


def test_a_meter_averages_over_frames_and_forgets_on_demand() -> None:
    engine = CountedEngine(ENCODER)
    graph = GraphFile(ENCODER, "encoder.onnx", "", "fp32", macs_per_pixel=10.0)
    meter = MeteredEngine(engine, graph, LABELS, weights=100, busy=Busy())
    arrays = arrays_of(ENCODER, {"H": 16, "W": 24, "h": 2, "w": 3})
    inputs, out = {"image": arrays["image"]}, {"key": arrays["key"]}
    meter.run(inputs, out)
    meter.reset()
    for _ in range(4):
        meter.run(inputs, out)
    found = meter.read(frames=2)
    assert engine.runs == 5
    assert (found.name, found.runs, found.macs) == ("encoder", 2.0, 2 * 16 * 24 * 10)
    assert found.values == 2 * (100 + 3 * 16 * 24 + 2 * 3 * 2)
    assert found.milliseconds >= 0
    meter.close()
    assert engine.runs == -1
