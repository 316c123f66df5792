"""Graphs in TensorRT 10.3 to 11: strongly typed, built once for their sizes, kept on disk."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import tensorrt as trt

from vcedge_runtime.bundle import Bundle, GraphFile
from vcedge_runtime.engines.base import Buffer
from vcedge_runtime.engines.cudart import Cuda, count_bytes
from vcedge_runtime.engines.plans import Found, PlanCache, choose_folder
from vcedge_runtime.engines.ranges import find_ranges
from vcedge_runtime.engines.tensorrt_build import (
    BuildSettings,
    Log,
    Progress,
    Ranges,
    build_plan,
    shape_at,
    timings_name,
)
from vcedge_runtime.errors import EngineError, OutputError
from vcedge_runtime.spec import GraphSpec, bind_lengths

DTYPES = {trt.float32: "float32", trt.int64: "int64"}
"""What a graph's inputs and outputs may be."""
Lengths = Mapping[str, int]
WARM_UP = 2
"""Runs before they are recorded as a CUDA graph: TensorRT allocates in the first."""
PRECISION_NAMES = {"fp16": ("FP16", "HALF"), "int8": ("INT8",), "fp32": ("FP32", "FLOAT")}
"""What TensorRT's inspector calls a precision, in its versions' words."""


class TensorRTEngine:
    """One graph, whose engine is built or found when it first runs.

    Lengths that may differ from run to run have ranges; all others are those of the first run. A
    length beyond makes another engine.

    Args:
        path: the ONNX file.
        graph: what it must be.
        ranges: of named lengths, the least and the most.
        cuda: the device; closed with the engine, which is one of its users.
        cache: where engines are kept.
        settings: of the build.
        tell: told in words what takes long.
        on_progress: told how far a build is.
    """

    def __init__(
        self,
        path: Path,
        graph: GraphFile,
        ranges: Callable[[Lengths], Ranges],
        cuda: Cuda,
        cache: PlanCache,
        *,
        settings: BuildSettings | None = None,
        tell: Callable[[str], None] = lambda text: None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self._path = path
        self._graph = graph
        self._ranges = ranges
        self._cuda = cuda
        self._cache = cache
        self._settings = settings or BuildSettings()
        self._tell = tell
        self._on_progress = on_progress
        self._loaded: _Loaded | None = None

    @property
    def spec(self) -> GraphSpec:
        """Names, dtypes and shapes of the graph."""
        return self._graph.spec

    @property
    def layers(self) -> dict[str, int]:
        """How many layers of the engine have which precision, as TensorRT's inspector says.

        Raises:
            EngineError: nothing has run yet.
        """
        if self._loaded is None:
            raise EngineError(f"graph {self.spec.name} has no engine before its first run")
        return self._loaded.count_layers()

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        """Run once on host arrays; see ``Engine.run``.

        Raises:
            EngineError: an array does not fit the spec, the engine cannot be built or loaded, or
                TensorRT or CUDA failed.
        """
        arrays = {**inputs, **out}
        self.spec.check_arrays(arrays)
        lengths = bind_lengths(self.spec, arrays)
        if self._loaded is None or not self._loaded.holds(lengths):
            self._open(lengths)
        assert self._loaded is not None
        self._loaded.run(inputs, out)

    def close(self) -> None:
        """Release the engine, its device memory and its share of the device."""
        self._unload()
        self._cuda.close()

    def _unload(self) -> None:
        if self._loaded is not None:
            self._loaded.close()
        self._loaded = None

    def _open(self, lengths: Lengths) -> None:
        self._unload()
        ranges = {name: found for name, found in self._ranges(lengths).items() if name in lengths}
        sizes = {name: ranges.get(name, (length, length)) for name, length in lengths.items()}
        logger = Log()
        trt.init_libnvinfer_plugins(logger, "")
        facts = self._facts(sizes)
        found = self._cache.find(self.spec.name, facts)
        if found.plan is not None:
            try:
                self._loaded = self._load(found.plan, sizes, logger)
                return
            except EngineError as exc:
                found = Found(None, str(exc))
        self._tell(f"building an engine of {self.spec.name} ({found.reason}); it takes minutes")
        built = build_plan(
            self._path, self.spec, sizes, self._settings, self._cache, logger, self._on_progress
        )
        self._loaded = self._load(built.plan, sizes, logger)
        layers = self._loaded.count_layers()
        try:
            path = self._cache.store(self.spec.name, facts, built.plan, {"layers": layers})
            self._cache.keep(timings_name(), built.timings)
            self._tell(f"wrote {path} ({len(built.plan) / 1e6:.1f} MB)")
        except OutputError as exc:
            self._tell(f"WARNING: {exc}; it will be built again")
        self._check_precision(layers)

    def _load(self, plan: bytes, sizes: Ranges, logger: Log) -> _Loaded:
        return _Loaded(self.spec, plan, sizes, self._cuda, logger, self._settings, self._tell)

    def _facts(self, sizes: Ranges) -> dict[str, Any]:
        return {
            "graph": self._graph.sha256,
            "precision": self._graph.precision,
            "tensorrt": str(trt.__version__),
            "compute_capability": list(self._cuda.compute_capability),
            "multiprocessors": self._cuda.multiprocessors,
            "machine": platform.machine(),
            "sizes": {name: list(size) for name, size in sorted(sizes.items())},
            "settings": self._settings.to_facts(),
        }

    def _check_precision(self, layers: Mapping[str, int]) -> None:
        """Say it where an engine is not what its graph is: TensorRT may fall back in silence."""
        wanted = self._graph.precision
        if wanted != "fp32" and layers and not layers.get(wanted):
            self._tell(
                f"WARNING: graph {self.spec.name} is in {wanted}, and no layer of its engine is: "
                f"{dict(layers)}"
            )


class _Loaded:
    """A plan in the device's memory, with a buffer for each tensor at its largest."""

    def __init__(
        self,
        spec: GraphSpec,
        plan: bytes,
        sizes: Ranges,
        cuda: Cuda,
        logger: Log,
        settings: BuildSettings,
        tell: Callable[[str], None],
    ) -> None:
        self._spec = spec
        self._sizes = sizes
        self._cuda = cuda
        self._logger = logger
        self._tell = tell
        # A context whose shapes change must not be recorded.
        fixed = all(least == most for least, most in sizes.values())
        self._records = settings.cuda_graphs and fixed
        self._runtime = trt.Runtime(logger)
        engine = self._runtime.deserialize_cuda_engine(plan)
        context = None if engine is None else engine.create_execution_context()
        if engine is None or context is None:
            raise EngineError(
                f"TensorRT {trt.__version__} cannot load the engine of {spec.name}: {logger.said}"
            )
        self._engine, self._context = engine, context
        self._check_tensors()
        self._pointers: dict[str, int] = {}
        self._graph: int | None = None
        self._runs = 0
        try:
            for tensor in spec.tensors:
                size = count_bytes(shape_at(tensor, sizes, 1), tensor.dtype)
                self._pointers[tensor.name] = pointer = cuda.allocate(size)
                if not self._context.set_tensor_address(tensor.name, pointer):
                    raise EngineError(f"TensorRT takes no address for {tensor.name}: {logger.said}")
        except EngineError:
            self.close()
            raise

    def holds(self, lengths: Lengths) -> bool:
        """Whether every length is within what was built."""
        ends = ((self._sizes[name], length) for name, length in lengths.items())
        return all(least <= length <= most for (least, most), length in ends)

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        """Copy in, run, copy out, and wait."""
        for name, array in inputs.items():
            if not self._context.set_input_shape(name, array.shape):
                raise EngineError(
                    f"TensorRT refuses {name}{array.shape} for {self._spec.name}: "
                    f"{self._logger.said}"
                )
            self._cuda.copy_in(array, self._pointers[name])
        for name, array in out.items():
            shape = tuple(self._context.get_tensor_shape(name))
            if shape != array.shape:
                raise EngineError(
                    f"graph {self._spec.name} gives {name}{shape}; received an array of "
                    f"{array.shape} for it"
                )
        self._execute()
        for name, array in out.items():
            self._cuda.copy_out(self._pointers[name], array)
        self._cuda.synchronize()

    def count_layers(self) -> dict[str, int]:
        """How many layers give which precision."""
        inspector = self._engine.create_engine_inspector()
        text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
        try:
            layers = json.loads(text)["Layers"]
        except (ValueError, KeyError, TypeError):
            return {}
        return dict(Counter(map(_precision_of, layers)))

    def close(self) -> None:
        """Give everything back."""
        if self._graph is not None:
            self._cuda.drop(self._graph)
        for pointer in self._pointers.values():
            self._cuda.free(pointer)
        self._graph, self._pointers = None, {}

    def _execute(self) -> None:
        self._runs += 1
        if self._graph is None and self._records and self._runs > WARM_UP:
            self._record()
        if self._graph is None:
            self._queue()
        else:
            self._cuda.launch(self._graph)

    def _record(self) -> None:
        self._cuda.synchronize()
        try:
            self._graph = self._cuda.record(self._queue)
        except EngineError as exc:
            self._records = False
            self._tell(f"graph {self._spec.name} runs without a CUDA graph: {exc}")

    def _queue(self) -> None:
        if not self._context.execute_async_v3(self._cuda.stream):
            raise EngineError(f"TensorRT failed in graph {self._spec.name}: {self._logger.said}")

    def _check_tensors(self) -> None:
        """Refuse an engine whose tensors are not the spec's."""
        engine = self._engine
        names = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
        expected = {tensor.name for tensor in self._spec.tensors}
        if names != expected:
            raise EngineError(
                f"the engine of {self._spec.name} has tensors {sorted(names)}; expected "
                f"{sorted(expected)}; remove it from the cache"
            )
        for tensor in self._spec.tensors:
            found = DTYPES.get(engine.get_tensor_dtype(tensor.name), "of another type")
            is_input = engine.get_tensor_mode(tensor.name) == trt.TensorIOMode.INPUT
            if found != tensor.dtype or is_input != (tensor in self._spec.inputs):
                raise EngineError(
                    f"the engine of {self._spec.name} has {tensor.name} as "
                    f"{'input' if is_input else 'output'} {found}; expected {tensor.describe()}; "
                    "remove it from the cache"
                )


def _precision_of(layer: Any) -> str:
    """Precision of a layer's first output: 10.x has one text for format and type, 11 has two."""
    outputs = layer.get("Outputs") if isinstance(layer, dict) else None
    if not outputs:
        return "other"
    told = " ".join(str(value) for value in outputs[0].values()).upper()
    for precision, names in PRECISION_NAMES.items():
        if any(name in told for name in names):
            return precision
    return "other"


def engines_from_bundle(
    bundle: Bundle,
    names: Iterable[str],
    *,
    settings: BuildSettings | None = None,
    tell: Callable[[str], None] = lambda text: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> dict[str, TensorRTEngine]:
    """Open graphs of a bundle on one device; they are built, or found, when they first run.

    Engines are kept in the bundle's folder, or under ``~/.cache/vcedge`` where that is not
    writable.

    Args:
        bundle: whose graphs.
        names: which of them.
        settings: of the builds.
        tell: told in words what takes long.
        on_progress: told how far a build is.

    Raises:
        MissingExtraError: CUDA's run time is not installed.
        EngineError: there is no device.
    """
    cuda = Cuda()
    cache = PlanCache(choose_folder(bundle))
    engines = {
        name: TensorRTEngine(
            bundle.path_of(name),
            bundle.graphs[name],
            partial(find_ranges, bundle.composition),
            cuda.share(),
            cache,
            settings=settings,
            tell=tell,
            on_progress=on_progress,
        )
        for name in names
    }
    cuda.close()
    return engines
