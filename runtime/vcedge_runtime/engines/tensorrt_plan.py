"""A TensorRT plan in a device's memory, run at any of its sizes; recorded where one comes again."""

from __future__ import annotations

import json
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import tensorrt as trt

from vcedge_runtime.buffers import Buffer, DeviceArray
from vcedge_runtime.engines.cudart import Cuda
from vcedge_runtime.engines.staging import Staging
from vcedge_runtime.engines.tensorrt_build import LOG, Spans
from vcedge_runtime.errors import EngineError
from vcedge_runtime.model.spec import GraphSpec

DTYPES = {trt.float32: "float32", trt.int64: "int64"}
"""What a graph's inputs and outputs may be."""
WARM_UP = 2
"""Runs of a kind before they have a context of their own, and are recorded there."""
KINDS = 16
"""Most kinds of runs that are known at a time (our choice); the one that is longest ago goes."""
PRECISION_NAMES = {"fp16": ("FP16", "HALF"), "int8": ("INT8",), "fp32": ("FP32", "FLOAT")}
"""What TensorRT's inspector calls a precision, in its versions' words."""
Kind = tuple[tuple[tuple[int, ...], int | None], ...]
"""Of each tensor of a run, its shape, and where it lies; None where that may be elsewhere next."""


class PlanError(EngineError):
    """A plan cannot be loaded, or is another graph's."""


class LoadedPlan:
    """A plan, and the contexts that run it; all of them share one scratch memory.

    Runs that come again, of the same shapes and whole arrays, have a context of their own, which
    never sees others, and one CUDA graph. Whole arrays are bound where they lie. Parts of larger
    ones, such as the slot that a key is written to, are copied within the device to and from one
    place: which part it is changes from frame to frame.

    Args:
        spec: of the graph.
        plan: as TensorRT wrote it.
        sizes: of every named length.
        cuda: the device.
        records: whether runs are recorded.
        tell: told once if they cannot be.

    Raises:
        PlanError: TensorRT cannot load it, or it is another graph's.
        EngineError: memory is short.
    """

    def __init__(
        self,
        spec: GraphSpec,
        plan: bytes,
        sizes: Spans,
        cuda: Cuda,
        *,
        records: bool,
        tell: Callable[[str], None],
    ) -> None:
        self._spec = spec
        self._sizes = sizes
        self._cuda = cuda
        self._records = records
        self._tell = tell
        self._runtime = trt.Runtime(LOG)
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise PlanError(
                f"TensorRT {trt.__version__} cannot load the engine of {spec.name}: {LOG.take()}"
            )
        self._engine = engine
        self._check_tensors()
        self._staging = Staging(cuda)
        self._scratch = DeviceArray(cuda, (max(1, engine.device_memory_size_v2),), "uint8")
        self._wandering = self._make_context()
        self._habits: OrderedDict[Kind, _Habit] = OrderedDict()

    def holds(self, lengths: Mapping[str, int]) -> bool:
        """Whether every length is within what was built."""
        spans = ((self._sizes[name], length) for name, length in lengths.items())
        return all(span.least <= length <= span.most for span, length in spans)

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        """Run, and wait; the host's arrays are copied in and out.

        Raises:
            EngineError: TensorRT or CUDA failed.
        """
        with self._staging.placed(inputs, out) as places:
            recording = self._recording_of(inputs, out, places) if self._records else None
            if recording is not None:
                recording.run(places)
            else:
                self._bind(self._wandering, inputs, out, places)
                self._queue(self._wandering)

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
        for habit in self._habits.values():
            habit.forget()
        self._habits.clear()
        self._staging.close()
        del self._wandering, self._scratch

    def _observe(self, arrays: Mapping[str, Buffer], places: Mapping[str, int]) -> _Habit:
        """Note a run; what is known of such runs."""
        parts = {n for n, a in arrays.items() if isinstance(a, DeviceArray) and a.is_part}
        names = [tensor.name for tensor in self._spec.tensors]
        kind = tuple((arrays[n].shape, None if n in parts else places[n]) for n in names)
        if kind not in self._habits:
            # Those of another video, say, whose arrays are gone.
            for dead in [k for k, habit in self._habits.items() if habit.is_over]:
                self._habits.pop(dead).forget()
            self._habits[kind] = _Habit({n: a for n, a in arrays.items() if n not in parts}, parts)
        self._habits.move_to_end(kind)
        if len(self._habits) > KINDS:
            self._habits.popitem(last=False)[1].forget()
        self._habits[kind].runs += 1
        return self._habits[kind]

    def _recording_of(
        self,
        inputs: Mapping[str, Buffer],
        out: Mapping[str, Buffer],
        places: Mapping[str, int],
    ) -> _Recording | None:
        arrays = {**inputs, **out}
        habit = self._observe(arrays, places)
        if habit.recording is None and habit.runs > WARM_UP:
            try:
                homes = {
                    name: DeviceArray(self._cuda, arrays[name].shape, arrays[name].dtype)
                    for name in habit.parts
                }
                bound = {**places, **{name: home.pointer for name, home in homes.items()}}
                context = self._make_context()
                self._bind(context, inputs, out, bound)
                queue = partial(self._queue, context)
                habit.recording = _Recording(self._cuda, queue, homes, set(inputs))
                # TensorRT makes ready what it needs in a context's first run.
                habit.recording.play_once(places)
                habit.recording.record()
            except EngineError as exc:
                self._tell(f"graph {self._spec.name} runs without a CUDA graph: {exc}")
                self._records = False
                habit.forget()
        return habit.recording

    def _make_context(self) -> trt.IExecutionContext:
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self._engine.create_execution_context(strategy)
        if context is None:
            raise EngineError(
                f"TensorRT {trt.__version__} cannot run the engine of {self._spec.name}: "
                f"{LOG.take()}"
            )
        context.set_device_memory(self._scratch.pointer, self._scratch.nbytes)
        return context

    def _bind(
        self,
        context: trt.IExecutionContext,
        inputs: Mapping[str, Buffer],
        out: Mapping[str, Buffer],
        places: Mapping[str, int],
    ) -> None:
        for name, array in inputs.items():
            if not context.set_input_shape(name, array.shape):
                raise EngineError(
                    f"TensorRT refuses {name}{array.shape} for {self._spec.name}: {LOG.take()}"
                )
        for name, place in places.items():
            if not context.set_tensor_address(name, place):
                raise EngineError(f"TensorRT takes no address for {name}: {LOG.take()}")
        for name, array in out.items():
            shape = tuple(context.get_tensor_shape(name))
            if shape != array.shape:
                raise EngineError(
                    f"graph {self._spec.name} gives {name}{shape}; received an array of "
                    f"{array.shape} for it"
                )

    def _queue(self, context: trt.IExecutionContext) -> None:
        if not context.execute_async_v3(self._cuda.stream):
            raise EngineError(f"TensorRT failed in graph {self._spec.name}: {LOG.take()}")

    def _check_tensors(self) -> None:
        """Refuse an engine whose tensors are not the spec's."""
        engine = self._engine
        names = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
        expected = {tensor.name for tensor in self._spec.tensors}
        if names != expected:
            raise PlanError(
                f"the engine of {self._spec.name} has tensors {sorted(names)}; expected "
                f"{sorted(expected)}; remove it from the cache"
            )
        for tensor in self._spec.tensors:
            found = DTYPES.get(engine.get_tensor_dtype(tensor.name), "of another type")
            is_input = engine.get_tensor_mode(tensor.name) == trt.TensorIOMode.INPUT
            if found != tensor.dtype or is_input != (tensor in self._spec.inputs):
                raise PlanError(
                    f"the engine of {self._spec.name} has {tensor.name} as "
                    f"{'input' if is_input else 'output'} {found}; expected {tensor.describe()}; "
                    "remove it from the cache"
                )


class _Recording:
    """A context that keeps its shapes and addresses, and its runs as a CUDA graph.

    Args:
        cuda: the device.
        queue: queues a run.
        homes: where tensors lie for it that lie elsewhere in each run.
        inputs: which of all tensors are inputs.
    """

    def __init__(
        self,
        cuda: Cuda,
        queue: Callable[[], None],
        homes: Mapping[str, DeviceArray],
        inputs: Collection[str],
    ) -> None:
        self._cuda = cuda
        self._queue = queue
        self._homes = homes
        self._inputs = inputs
        self._graph: int | None = None

    def play_once(self, places: Mapping[str, int]) -> None:
        """Run without a recording."""
        self._surround(places, self._queue)

    def record(self) -> None:
        """Record a run, which does not happen."""
        self._cuda.synchronize()
        self._graph = self._cuda.record(self._queue)

    def run(self, places: Mapping[str, int]) -> None:
        """Play the recording."""
        assert self._graph is not None
        self._surround(places, partial(self._cuda.launch, self._graph))

    def close(self) -> None:
        """Give the recording back."""
        if self._graph is not None:
            self._cuda.drop(self._graph)
        self._graph = None

    def _surround(self, places: Mapping[str, int], run: Callable[[], None]) -> None:
        for name, home in self._homes.items():
            if name in self._inputs:
                self._cuda.copy_within(home.pointer, places[name], home.nbytes)
        run()
        for name, home in self._homes.items():
            if name not in self._inputs:
                self._cuda.copy_within(places[name], home.pointer, home.nbytes)


class _Habit:
    """What is known of the runs of one kind.

    Args:
        whole: the arrays that are in the same place in each of them.
        parts: names of the others.

    Attributes:
        runs: how many there were.
        parts: as given.
        recording: made of them.
    """

    def __init__(self, whole: Mapping[str, Buffer], parts: Collection[str]) -> None:
        self.runs = 0
        self.parts = parts
        self.recording: _Recording | None = None
        on_device = [array for array in whole.values() if isinstance(array, DeviceArray)]
        self._memories = [weakref.ref(array.memory) for array in on_device]

    @property
    def is_over(self) -> bool:
        """Whether there is no such run any more: an array of it is gone."""
        return any(memory() is None for memory in self._memories)

    def forget(self) -> None:
        """Give the recording back."""
        if self.recording is not None:
            self.recording.close()
        self.recording = None


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
