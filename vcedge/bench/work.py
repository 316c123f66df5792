"""What the graphs of a frame take: runs, multiply-accumulates, values moved, milliseconds."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

from vcedge_runtime.buffers import Buffer
from vcedge_runtime.engines.base import Engine, ForwardingEngine, runs_beside
from vcedge_runtime.model.bundle import Bundle, GraphFile
from vcedge_runtime.model.composition import Composition
from vcedge_runtime.model.object_composition import ObjectComposition
from vcedge_runtime.model.spec import GraphSpec, TensorSpec, bind_lengths

BYTES_OF = {"fp32": 4, "fp16": 2, "int8": 1}
"""Of one value at a precision."""


@dataclass(frozen=True)
class GraphWork:
    """What one graph takes for a frame, on average.

    Attributes:
        name: the graph's.
        runs: how often it runs.
        macs: multiply-accumulates of its convolutions and matrix products; None where its bundle
            does not say them.
        values: numbers that cross memory: inputs read once, outputs written once, and the weights,
            in each run. What a graph keeps to itself between its layers is not in it.
        milliseconds: what it took here.
    """

    name: str
    runs: float
    macs: float | None
    values: float
    milliseconds: float


class Busy:
    """How long some engine ran: time in which several ran beside each other counts once.

    Attributes:
        seconds: of all runs that are done.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._running, self._since = 0, 0.0
        self._lock = Lock()

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count the time of a block."""
        with self._lock:
            self._running += 1
            if self._running == 1:
                self._since = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                if not self._running:
                    self.seconds += time.perf_counter() - self._since


class MeteredEngine(ForwardingEngine):
    """An engine that counts what its runs take, beside each other where its engine's are.

    Args:
        engine: what runs; closed by whoever opened it.
        graph: the same graph in its bundle, which says what a pixel costs.
        composition: of the bundle.
        weights: how many weights it has.
        busy: counts the time of all engines together.
    """

    def __init__(
        self,
        engine: Engine,
        graph: GraphFile,
        composition: Composition | ObjectComposition,
        weights: float,
        busy: Busy,
    ) -> None:
        super().__init__(engine)
        self._busy = busy
        self.beside = runs_beside(engine)
        self._counting = Lock()
        self._graph = graph
        self._composition = composition
        self._weights = weights
        self._runs, self._seconds, self._values = 0, 0.0, 0.0
        self._macs: float | None = 0.0

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        """Run once; see ``Engine.run``."""
        began = time.perf_counter()
        with self._busy.counting():
            super().run(inputs, out)
        seconds = time.perf_counter() - began
        lengths = bind_run(self.spec, {**inputs, **out})
        macs = count_macs(self._graph, lengths, self._composition)
        with self._counting:
            self._seconds += seconds
            self._runs += 1
            self._macs = None if macs is None or self._macs is None else self._macs + macs
            self._values += self._weights + count_values(self.spec, lengths)

    def reset(self) -> None:
        """Forget all runs so far."""
        self._runs, self._seconds, self._values = 0, 0.0, 0.0
        self._macs = 0.0

    def read(self, frames: int) -> GraphWork:
        """Average all runs since ``reset`` over as many frames."""
        return GraphWork(
            self._graph.spec.name,
            self._runs / frames,
            None if self._macs is None else self._macs / frames,
            self._values / frames,
            1000 * self._seconds / frames,
        )


def meter_engines(
    bundle: Bundle, engines: Mapping[str, Engine], busy: Busy
) -> dict[str, MeteredEngine]:
    """Put a meter before each engine of a model.

    Args:
        bundle: the model; weights are as many as its files have room for.
        engines: by the graph's name.
        busy: counts the time of all of them together.
    """
    metered = {}
    for name, engine in engines.items():
        graph, size = bundle.graphs[name], bundle.path_of(name).stat().st_size
        weights = size / BYTES_OF[graph.precision]
        metered[name] = MeteredEngine(engine, graph, bundle.tracking, weights, busy)
    return metered


def bind_run(spec: GraphSpec, arrays: Mapping[str, Any]) -> dict[str, int]:
    """Length of every named dimension of a run, and ``read``: the slots of memory that it reads.

    Args:
        spec: of the graph.
        arrays: its inputs and outputs, which fit it.
    """
    lengths = bind_lengths(spec, arrays)
    for chosen in ("slot_index", "slot_offset"):
        if chosen in arrays:
            lengths["read"] = arrays[chosen].shape[0]
    return lengths


def count_macs(
    graph: GraphFile, lengths: Mapping[str, int], composition: Composition | ObjectComposition
) -> float | None:
    """Multiply-accumulates of one run; None where the bundle does not say what a pixel costs.

    A readout compares cells over the key's channels and sums up values over theirs, and is counted
    from its lengths.

    Args:
        graph: of the bundle.
        lengths: as ``bind_run`` gives them.
        composition: of the bundle.
    """
    if "references" in lengths and isinstance(composition, ObjectComposition):
        return float(
            composition.count_readout(
                _count_cells(lengths), lengths["references"], lengths["objects"]
            )
        )
    if "references" in lengths:
        query = next(tensor for tensor in graph.spec.inputs if tensor.name == "query")
        channels = lengths.get("channels", 0)
        return float(_count_matches(lengths) * (int(query.shape[-1]) + channels))
    if "labels" in lengths:
        return 0.0  # Objects compete for pixels without a product.
    if not graph.macs_per_pixel and not graph.macs_per_object:
        return None
    pixels = (
        lengths["H"] * lengths["W"]
        if "H" in lengths
        else _count_cells(lengths) * composition.stride**2
    )
    objects = lengths.get("objects", 0)
    return pixels * (graph.macs_per_pixel + objects * graph.macs_per_object)


def count_values(spec: GraphSpec, lengths: Mapping[str, int]) -> float:
    """Values that one run reads and writes: each tensor once, of memory only what is read.

    Args:
        spec: of the graph.
        lengths: as ``bind_run`` gives them.
    """
    return float(sum(_count_tensor(tensor, lengths) for tensor in spec.tensors))


def _count_tensor(tensor: TensorSpec, lengths: Mapping[str, int]) -> int:
    if tensor.shape[:3] != ("slots", "h", "w"):
        return _multiply(tensor.shape, lengths)
    # A readout in tiles gathers a patch around each of them.
    tiled = "patch" in lengths
    cells = lengths["tiles"] * lengths["patch"] if tiled else _count_cells(lengths)
    return cells * lengths["read"] * _multiply(tensor.shape[3:], lengths)


def _count_matches(lengths: Mapping[str, int]) -> int:
    """Pairs of cells that a readout compares."""
    rows = lengths["queries"] if "queries" in lengths else lengths["columns"]
    return lengths["tiles"] * lengths["references"] * rows * lengths["patch"]


def _count_cells(lengths: Mapping[str, int]) -> int:
    return lengths["h"] * lengths["w"]


def _multiply(shape: Sequence[int | str], lengths: Mapping[str, int]) -> int:
    return math.prod(lengths[dim] if isinstance(dim, str) else dim for dim in shape)
