"""TensorRT-RTX, NVIDIA's parser and builder that need no GPU, as the TensorRT of our own build."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tests.runtime.engines.fake_cuda import FakeCuda
from vcedge_runtime.buffers import Buffer, DeviceArray
from vcedge_runtime.engines.plans import PlanCache, ignore_progress
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.model.composition import Composition
from vcedge_runtime.model.spec import GraphSpec, bind_lengths
from vcedge_runtime.predictors.ranges import find_spans
from vcedge_runtime.tracker import Tracker

TARGETS = ("SM86", "SM89")
"""Compute capabilities to build for: Ampere and Ada. Orin's, SM87, is none of TensorRT-RTX's."""
FRAME_HW = (480, 864)
"""Height and width of the video that engines are built for."""
BUILD = "vcedge_runtime.engines.tensorrt_build"


class NotingEngine:
    """Computes nothing, and notes the lengths of its first run; what it writes is noise."""

    def __init__(self, spec: GraphSpec) -> None:
        self.spec = spec
        self.lengths: dict[str, int] = {}
        self._rng = np.random.default_rng(0)

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        arrays = {**inputs, **out}
        self.spec.check_arrays(arrays)
        self.lengths = self.lengths or bind_lengths(self.spec, arrays)
        for array in out.values():
            noise = self._rng.random(array.shape, np.float32)
            if isinstance(array, DeviceArray):
                array.write(noise)
            else:
                array[...] = noise

    def close(self) -> None: ...


@cache
def find_lengths(folder: Path) -> dict[str, dict[str, int]]:
    """The lengths of every graph's first run in a video on a device, as a tracker has them.

    Args:
        folder: of the bundle.
    """
    bundle = Bundle.open(folder)
    engines = {name: NotingEngine(graph.spec) for name, graph in bundle.graphs.items()}
    noise = np.random.default_rng(0).integers(0, 256, (4, *FRAME_HW, 3), np.uint8)
    mask = np.zeros(FRAME_HW, np.uint8)
    mask[100:300, 100:300], mask[100:300, 400:600] = 1, 2
    for parts in _compositions(bundle):
        composed = Bundle(folder, bundle.name, bundle.profile, parts, bundle.graphs)
        with Tracker(composed, engines, device=FakeCuda(1 << 33)) as tracker:
            tracker.start(noise[0], mask)
            for frame in noise[1:]:
                tracker.step(frame)
    return {name: engine.lengths for name, engine in engines.items()}


def _compositions(bundle: Bundle) -> Iterator[Any]:
    """The bundle's own, and one that runs the other graphs that it has."""
    yield bundle.composition
    if isinstance(bundle.composition, Composition):
        yield bundle.composition.exchange(sampler="clusters", fusion="bidirectional")


@contextmanager
def open_builder() -> Iterator[ModuleType]:
    """Our module of the build, which found TensorRT-RTX as its TensorRT."""
    kept = {name: sys.modules.pop(name, None) for name in ("tensorrt", BUILD)}
    sys.modules["tensorrt"] = _stand_in()
    try:
        yield importlib.import_module(BUILD)
    finally:
        for name, module in kept.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module


def build_with_rtx(build: ModuleType, bundle: Bundle, graph: str, path: Path) -> bytes:
    """Build a graph for any run of a video, as a tracker that runs TensorRT does.

    Args:
        build: what ``open_builder`` gives.
        bundle: whose composition runs it.
        graph: its name.
        path: its file, which may be of another precision than the bundle's.

    Returns: the plan, which runs on a GPU only.

    Raises:
        EngineError: the graph is not parsed or not built; the message has TensorRT's.
    """
    lengths = find_lengths(bundle.folder)[graph]
    sizes = build.fix_sizes(lengths, partial(find_spans, bundle.composition))
    spec, settings = bundle.graphs[graph].spec, build.BuildSettings()
    cache = PlanCache(path.parent / "no engines")
    with warnings.catch_warnings():
        # It keeps no timings any more, and says so; TensorRT does.
        warnings.simplefilter("ignore", DeprecationWarning)
        built = build.build_plan(path.read_bytes(), spec, sizes, settings, cache, ignore_progress)
    return bytes(built.plan)


@cache
def _stand_in() -> ModuleType:
    """TensorRT-RTX under TensorRT's name; a machine without a GPU says what it builds for."""
    import tensorrt_rtx

    class Builder:
        def __init__(self, logger: Any) -> None:
            self._real = tensorrt_rtx.Builder(logger)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

        def create_builder_config(self) -> Any:
            config = self._real.create_builder_config()
            config.num_compute_capabilities = len(TARGETS)
            for index, target in enumerate(TARGETS):
                known = tensorrt_rtx.ComputeCapability.__members__
                config.set_compute_capability(known[target], index)
            return config

    module = ModuleType("tensorrt")
    module.__dict__.update({**vars(tensorrt_rtx), "Builder": Builder, "__name__": "tensorrt"})
    return module
