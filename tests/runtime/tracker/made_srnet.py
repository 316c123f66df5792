"""SRNet by hand: every graph written plainly, so that its run time is tested without weights.

A cell's key is its mean colour, its value the mask at stride 4; decoding takes the mask back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.oracle import NumpyMemoryRead, NumpySoftAggregation
from vcedge_runtime.buffers import Buffer, HostArray, host_arrays
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.frames.colour import LAB, InputColour
from vcedge_runtime.model.bundle import Bundle, GraphFile
from vcedge_runtime.model.object_composition import ObjectComposition
from vcedge_runtime.model.spec import GraphSpec, TensorSpec
from vcedge_runtime.tracker import Tracker

KEY_DIM, VALUE_DIM, STRIDE, FINE = 3, 16, 16, 4
SHARPNESS = 30.0
"""How far apart the keys of two colours lie."""
Run = Callable[[Mapping[str, HostArray], Mapping[str, HostArray]], None]


def _f32(name: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name, "float32", shape)


_PLANES = ("objects", VALUE_DIM, "h", "w")
_CELLS = ("h", "w", "objects", VALUE_DIM)
_SUMS = (_f32("sums", "objects", 2, VALUE_DIM), _f32("weights", "objects", 2))
SPECS = {
    spec.name: spec
    for spec in (
        GraphSpec(
            "query_encoder",
            (_f32("image", 1, 3, "H", "W"),),
            (
                _f32("key", "h", "w", KEY_DIM),
                _f32("content", 1, 1, "h", "w"),
                _f32("f16", 1, 1, "h", "w"),
                _f32("f8", 1, 1, "h8", "w8"),
                _f32("f4", 1, 1, "h4", "w4"),
            ),
        ),
        GraphSpec(
            "value_encoder",
            (
                _f32("image", 1, 3, "H", "W"),
                _f32("f16", 1, 1, "h", "w"),
                _f32("masks", "objects", "H", "W"),
                _f32("background", 1, "H", "W"),
            ),
            (_f32("value", *_CELLS), *_SUMS, _f32("coverage", "objects", "h", "w")),
        ),
        GraphSpec(
            "feature_alignment",
            (
                _f32("query", "h", "w", KEY_DIM),
                _f32("key", "h", "w", KEY_DIM),
                _f32("value", *_CELLS),
            ),
            (_f32("aligned_key", "h", "w", KEY_DIM), _f32("aligned_value", *_CELLS)),
        ),
        GraphSpec(
            "memory_read",
            (
                _f32("query", "h", "w", KEY_DIM),
                _f32("keys", "slots", "h", "w", KEY_DIM),
                _f32("values", "slots", "h", "w", "objects", "channels"),
                TensorSpec("slot_index", "int64", ("references",)),
                _f32("slot_valid", "references"),
            ),
            (_f32("readout", "objects", "channels", "h", "w"),),
        ),
        GraphSpec(
            "readout_mix",
            (
                _f32("readout", *_PLANES),
                _f32("local_readout", *_PLANES),
                _f32("local_value", *_CELLS),
            ),
            (_f32("mixed", *_PLANES),),
        ),
        GraphSpec(
            "prototype_transformer",
            (_f32("mixed", *_PLANES), *_SUMS, _f32("positions", "h", "w", VALUE_DIM)),
            (_f32("features", *_PLANES),),
        ),
        GraphSpec(
            "mask_decoder",
            (
                _f32("features", *_PLANES),
                _f32("content", 1, 1, "h", "w"),
                _f32("f8", 1, 1, "h8", "w8"),
                _f32("f4", 1, 1, "h4", "w4"),
            ),
            (_f32("logits", "objects", "H", "W"),),
        ),
        GraphSpec(
            "soft_aggregation",
            (_f32("logits", "objects", "H", "W"),),
            (_f32("shares", "labels", "H", "W"),),
        ),
    )
}


class HandMadeGraph:
    """A graph that a function computes; it counts its runs and can be told to fail.

    Attributes:
        runs: inputs of every run, the arrays as they were.
        broken: whether the next runs fail.
    """

    def __init__(self, spec: GraphSpec, run: Run) -> None:
        self.spec = spec
        self.runs: list[dict[str, NDArray[Any]]] = []
        self.broken = False
        self._run = run

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        self.spec.check_arrays({**inputs, **out})
        if self.broken:
            raise RuntimeError("broken on purpose")
        given = host_arrays(self.spec.name, inputs)
        self.runs.append({name: array.copy() for name, array in given.items()})
        self._run(given, host_arrays(self.spec.name, out))

    def close(self) -> None:
        """Hold nothing."""


def _pool(plane: NDArray[Any], cell: int) -> NDArray[Any]:
    height, width = plane.shape[-2] // cell, plane.shape[-1] // cell
    return plane.reshape(*plane.shape[:-2], height, cell, width, cell).mean(axis=(-3, -1))


def _encode_query(inputs: Mapping[str, HostArray], out: Mapping[str, HostArray]) -> None:
    out["key"][...] = SHARPNESS * _pool(inputs["image"][0], STRIDE).transpose(1, 2, 0)


def _encode_values(inputs: Mapping[str, HostArray], out: Mapping[str, HostArray]) -> None:
    fine = _pool(inputs["masks"], FINE)
    objects, cells = len(fine), STRIDE // FINE
    grid = fine.reshape(objects, fine.shape[1] // cells, cells, fine.shape[2] // cells, cells)
    value = grid.transpose(1, 3, 0, 2, 4).reshape(*out["value"].shape)
    inside = _pool(inputs["masks"], STRIDE)
    both = np.stack([inside, 1 - inside], axis=1)
    out["value"][...] = value
    out["coverage"][...] = inside
    out["weights"][...] = both.sum(axis=(2, 3))
    out["sums"][...] = np.einsum("kshw,hwkc->ksc", both, value)


def _stay(inputs: Mapping[str, HostArray], out: Mapping[str, HostArray]) -> None:
    out["aligned_key"][...], out["aligned_value"][...] = inputs["key"], inputs["value"]


def _mix(inputs: Mapping[str, HostArray], out: Mapping[str, HostArray]) -> None:
    out["mixed"][...] = (inputs["readout"] + inputs["local_readout"]) / 2


def _pass_on(inputs: Mapping[str, HostArray], out: Mapping[str, HostArray]) -> None:
    out["features"][...] = inputs["mixed"]


def _decode(inputs: Mapping[str, HostArray], out: Mapping[str, HostArray]) -> None:
    features, cells = inputs["features"], STRIDE // FINE
    height, width = features.shape[2:]
    fine = features.reshape(-1, cells, cells, height, width).transpose(0, 3, 1, 4, 2)
    fine = fine.reshape(len(features), height * cells, width * cells)
    for plane, logits in zip(fine, out["logits"], strict=True):
        size = logits.shape[::-1]
        logits[...] = 20 * (cv2.resize(np.ascontiguousarray(plane), size) - np.float32(0.5))


_RUNS: dict[str, Run] = {
    "query_encoder": _encode_query,
    "value_encoder": _encode_values,
    "feature_alignment": _stay,
    "readout_mix": _mix,
    "prototype_transformer": _pass_on,
    "mask_decoder": _decode,
}


def make_engines(top_k: int = 4) -> dict[str, Engine]:
    """An engine for each graph."""
    engines: dict[str, Engine] = {
        name: HandMadeGraph(SPECS[name], run) for name, run in _RUNS.items()
    }
    engines["memory_read"] = NumpyMemoryRead(SPECS["memory_read"], top_k=top_k)
    engines["soft_aggregation"] = NumpySoftAggregation(SPECS["soft_aggregation"])
    return engines


def open_hand_made(
    engines: dict[str, Engine] | None = None,
    size: int = 64,
    top_k: int = 4,
    colour: InputColour = LAB,
    **parts: Any,
) -> Tracker:
    """A tracker of the hand-made SRNet; ``parts`` as for ``ObjectComposition.exchange``."""
    plain = ObjectComposition(STRIDE, KEY_DIM, VALUE_DIM, size, top_k=top_k, colour=colour)
    composition = plain.exchange(**parts)
    graphs = {name: GraphFile(spec, f"{name}.onnx", "", "fp32") for name, spec in SPECS.items()}
    bundle = Bundle(Path("hand-made"), "hand-made", "srnet-edge", composition, graphs)
    return Tracker(bundle, engines or make_engines(top_k))
