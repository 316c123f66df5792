"""A TensorRT plan in a device's memory, run at any of its sizes; recorded where one comes again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import tensorrt as trt

from vcedge_runtime.buffers import Buffer, DeviceArray
from vcedge_runtime.engines.cudart import Cuda, count_bytes
from vcedge_runtime.engines.staging import Staging
from vcedge_runtime.engines.tensorrt_build import Log, Ranges, shape_at
from vcedge_runtime.errors import EngineError
from vcedge_runtime.spec import GraphSpec

DTYPES = {trt.float32: "float32", trt.int64: "int64"}
"""What a graph's inputs and outputs may be."""
WARM_UP = 2
"""Runs of the same shapes before they have a context of their own, and are recorded there."""
CONTEXTS = 4
"""Most sets of shapes that are recorded (our choice); others run as they come."""
RECORDINGS = 32
"""Most recordings of one set of shapes, one for each set of addresses (our choice)."""
PRECISION_NAMES = {"fp16": ("FP16", "HALF"), "int8": ("INT8",), "fp32": ("FP32", "FLOAT")}
"""What TensorRT's inspector calls a precision, in its versions' words."""
Shapes = tuple[tuple[int, ...], ...]


class LoadedPlan:
    """A plan, and the contexts that run it; all of them share one scratch memory.

    A context whose shapes change must not be recorded. Shapes that come again therefore have one
    of their own, with a CUDA graph for each set of addresses that it is given.

    Args:
        spec: of the graph.
        plan: as TensorRT wrote it.
        sizes: named lengths, the least and the most.
        cuda: the device.
        logger: keeps TensorRT's errors.
        records: whether runs are recorded.
        tell: told once if they cannot be.

    Raises:
        EngineError: TensorRT cannot load it, it is another graph's, or memory is short.
    """

    def __init__(
        self,
        spec: GraphSpec,
        plan: bytes,
        sizes: Ranges,
        cuda: Cuda,
        logger: Log,
        *,
        records: bool,
        tell: Callable[[str], None],
    ) -> None:
        self._spec = spec
        self._sizes = sizes
        self._cuda = cuda
        self._logger = logger
        self._records = records
        self._tell = tell
        self._runtime = trt.Runtime(logger)
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise EngineError(
                f"TensorRT {trt.__version__} cannot load the engine of {spec.name}: {logger.said}"
            )
        self._engine = engine
        self._check_tensors()
        room = {t.name: count_bytes(shape_at(t, sizes, 1), t.dtype) for t in spec.tensors}
        self._staging = Staging(cuda, room)
        self._scratch = DeviceArray(cuda, (max(1, engine.device_memory_size_v2),), "uint8")
        self._seen: Counter[Shapes] = Counter()
        self._settled: dict[Shapes, _Context] = {}
        self._wandering = self._make_context()

    def holds(self, lengths: Mapping[str, int]) -> bool:
        """Whether every length is within what was built."""
        ends = ((self._sizes[name], length) for name, length in lengths.items())
        return all(least <= length <= most for (least, most), length in ends)

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        """Run, and wait; the host's arrays are copied in and out.

        Raises:
            EngineError: TensorRT or CUDA failed.
        """
        places = self._staging.place(inputs, out)
        context = self._choose(tuple(array.shape for array in inputs.values()))
        self._records = context.run(inputs, out, places, records=self._records)
        self._staging.collect(out)

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
        for context in self._settled.values():
            context.close()
        self._settled = {}
        self._staging.close()
        del self._wandering, self._scratch

    def _choose(self, shapes: Shapes) -> _Context:
        """The context of some shapes: their own, or that of all which come and go."""
        if shapes in self._settled or not self._records:
            return self._settled.get(shapes, self._wandering)
        self._seen[shapes] += 1
        if self._seen[shapes] <= WARM_UP or len(self._settled) == CONTEXTS:
            return self._wandering
        self._settled[shapes] = self._make_context(settled=True)
        return self._settled[shapes]

    def _make_context(self, *, settled: bool = False) -> _Context:
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self._engine.create_execution_context(strategy)
        if context is None:
            raise EngineError(
                f"TensorRT {trt.__version__} cannot run the engine of {self._spec.name}: "
                f"{self._logger.said}"
            )
        context.set_device_memory(self._scratch.pointer, self._scratch.nbytes)
        return _Context(
            self._spec.name, context, self._cuda, self._logger, self._tell, settled=settled
        )

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


class _Context:
    """One of TensorRT's contexts; a settled one keeps its shapes."""

    def __init__(
        self,
        graph: str,
        context: trt.IExecutionContext,
        cuda: Cuda,
        logger: Log,
        tell: Callable[[str], None],
        *,
        settled: bool,
    ) -> None:
        self._graph = graph
        self._context = context
        self._cuda = cuda
        self._logger = logger
        self._tell = tell
        self._settled = settled
        self._warm = False
        self._recorded: dict[tuple[int, ...], int] = {}

    def run(
        self,
        inputs: Mapping[str, Buffer],
        out: Mapping[str, Buffer],
        places: Mapping[str, int],
        *,
        records: bool,
    ) -> bool:
        """Queue a run at some addresses; return whether the next ones may be recorded."""
        addresses = tuple(places.values())
        if addresses in self._recorded:
            self._cuda.launch(self._recorded[addresses])
            return records
        self._bind(inputs, out, places)
        room = len(self._recorded) < RECORDINGS
        if records and self._settled and self._warm and room:
            self._cuda.synchronize()
            try:
                self._recorded[addresses] = self._cuda.record(self._queue)
            except EngineError as exc:
                self._tell(f"graph {self._graph} runs without a CUDA graph: {exc}")
                records = False
        if addresses in self._recorded:
            self._cuda.launch(self._recorded[addresses])
        else:
            self._queue()
            self._warm = True
        return records

    def close(self) -> None:
        """Release the recordings."""
        for recorded in self._recorded.values():
            self._cuda.drop(recorded)
        self._recorded = {}

    def _bind(
        self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer], places: Mapping[str, int]
    ) -> None:
        for name, array in inputs.items():
            if not self._context.set_input_shape(name, array.shape):
                raise EngineError(
                    f"TensorRT refuses {name}{array.shape} for {self._graph}: {self._logger.said}"
                )
        for name, place in places.items():
            if not self._context.set_tensor_address(name, place):
                raise EngineError(f"TensorRT takes no address for {name}: {self._logger.said}")
        for name, array in out.items():
            shape = tuple(self._context.get_tensor_shape(name))
            if shape != array.shape:
                raise EngineError(
                    f"graph {self._graph} gives {name}{shape}; received an array of "
                    f"{array.shape} for it"
                )

    def _queue(self) -> None:
        if not self._context.execute_async_v3(self._cuda.stream):
            raise EngineError(f"TensorRT failed in graph {self._graph}: {self._logger.said}")


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
