"""TensorRT's Python interface on ONNX Runtime: it builds, loads and runs graphs on the CPU.

Only what the engine uses is here; ``tests/contract`` compares each name and parameter with
TensorRT's own. Addresses are the host's: a test gives it memory that stands for a device's.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime

from vcedge_runtime.engines.onnxruntime import SLOW_ON_CPU

__version__ = "10.3.0"
MAGIC = b"a plan of the double\n"


class DataType(enum.Enum):
    FLOAT = "float32"
    HALF = "float16"
    INT64 = "int64"


float32, float16, int64 = DataType.FLOAT, DataType.HALF, DataType.INT64
_TYPES = {"tensor(float)": float32, "tensor(float16)": float16, "tensor(int64)": int64}


class TensorIOMode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class BuilderFlag(enum.Enum):
    TF32 = 0


class ProfilingVerbosity(enum.Enum):
    DETAILED = 2


class ExecutionContextAllocationStrategy(enum.Enum):
    STATIC = 0
    USER_MANAGED = 2


class LayerInformationFormat(enum.Enum):
    JSON = 1


@dataclass
class Behaviour:
    """What goes wrong, and what was asked for; a test sets and reads it.

    Attributes:
        refuses: words that stand for an operator that the parser does not know.
        out_of_memory: the builder finds no memory.
        refuses_timings: the timings are another device's.
        refuses_recording: runs cannot be recorded.
        fails: runs fail.
        spoils: factor of every output.
        precision: what the inspector says of each layer.
        builds: settings of every build.
        captured: runs that were recorded, as what runs them.
        logger: the first that anything was given; it alone is told what goes wrong.
    """

    refuses: str = ""
    out_of_memory: bool = False
    refuses_timings: bool = False
    refuses_recording: bool = False
    fails: bool = False
    spoils: float = 1.0
    precision: str = "FP32"
    builds: list[dict[str, Any]] = field(default_factory=list)
    captured: list[Any] | None = None
    logger: Any = None


behaviour = Behaviour()
streams: dict[int, Callable[[Callable[[], None]], None]] = {}
"""What queues work, by the handle of a stream; without, work is done at once."""


class ILogger:
    class Severity(enum.IntEnum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2

    def __init__(self) -> None: ...

    def log(self, severity: Severity, msg: str) -> None:
        raise NotImplementedError


class IProgressMonitor:
    def __init__(self) -> None: ...

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        raise NotImplementedError

    def step_complete(self, phase_name: str, step: int) -> bool:
        raise NotImplementedError

    def phase_finish(self, phase_name: str) -> None:
        raise NotImplementedError


def init_libnvinfer_plugins(logger: ILogger, namespace: str) -> bool:
    _keep(logger)
    return True


def _keep(logger: ILogger) -> None:
    behaviour.logger = behaviour.logger or logger


def _say(message: str) -> None:
    behaviour.logger.log(ILogger.Severity.ERROR, message)


class INetworkDefinition:
    model: bytes = b""


class IOptimizationProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[Sequence[int], Sequence[int], Sequence[int]]] = {}

    def set_shape(
        self, input: str, min: Sequence[int], opt: Sequence[int], max: Sequence[int]
    ) -> None:
        self.shapes[input] = (min, opt, max)


class ITimingCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content + b"."


class IBuilderConfig:
    def __init__(self) -> None:
        self.builder_optimization_level = 3
        self.profiling_verbosity = ProfilingVerbosity.DETAILED
        self.progress_monitor: IProgressMonitor | None = None
        self.limits: dict[MemoryPoolType, int] = {}
        self.flags = {BuilderFlag.TF32}
        self.profiles: list[IOptimizationProfile] = []
        self.timing: ITimingCache | None = None

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        self.limits[pool] = pool_size

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags.discard(flag)

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
        return ITimingCache(serialized_timing_cache)

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if behaviour.refuses_timings and cache.content:
            return False
        self.timing = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self.timing


class Builder:
    def __init__(self, logger: ILogger) -> None:
        _keep(logger)

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        assert flags == 1 << int(NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        return INetworkDefinition()

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> bytes | None:
        if behaviour.out_of_memory:
            _say("Requested size was 4 GiB,\nout of memory")
            return None
        monitor, phase = config.progress_monitor, "Building Engine"
        if monitor is not None:
            monitor.phase_start(phase, None, 3)
            for step in range(3):
                # What a callback raises does not come through the builder.
                goes_on = True
                with contextlib.suppress(BaseException):
                    goes_on = monitor.step_complete(phase, step)
                if not goes_on:
                    return None
            monitor.phase_finish(phase)
        facts = {
            "version": __version__,
            "shapes": config.profiles[0].shapes,
            "precision": behaviour.precision,
        }
        behaviour.builds.append(
            {
                **facts,
                "tf32": BuilderFlag.TF32 in config.flags,
                "workspace": config.limits[MemoryPoolType.WORKSPACE],
                "level": config.builder_optimization_level,
                "timing": None if config.timing is None else config.timing.content,
            }
        )
        return MAGIC + json.dumps(facts).encode() + b"\n" + network.model


class ParserError:
    def __init__(self, operator: str, name: str) -> None:
        self._operator, self._name = operator, name

    def node_operator(self) -> str:
        return self._operator

    def node_name(self) -> str:
        return self._name

    def desc(self) -> str:
        return "Plugin not found"


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network = network
        self._errors: list[ParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def parse(self, model: bytes, path: str | None = None) -> bool:
        nodes = onnx.load_from_string(model).graph.node
        self._errors = [
            ParserError(n.op_type, n.name) for n in nodes if n.op_type == behaviour.refuses
        ]
        self._network.model = model
        return not self._errors

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]


class EngineInspector:
    def __init__(self, precision: str) -> None:
        self._precision = precision

    def get_engine_information(self, format: LayerInformationFormat) -> str:
        # The words of 10.x, and those of 11.
        old = {"Name": "out", "Format/Datatype": f"Row major linear {self._precision} format"}
        new = {"Name": "out", "Format": "Row major linear", "DataType": self._precision}
        return json.dumps({"Layers": [{"Outputs": [old]}, {"Outputs": [new]}, {"Outputs": []}]})


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._scratch = 0

    def set_device_memory(self, memory: int, size: int) -> None:
        assert size >= self._engine.device_memory_size_v2
        self._scratch = memory

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        least, _, most = self._engine.shapes[name]
        ends = zip(least, shape, most, strict=True)
        fits = all(low <= length <= high for low, length, high in ends)
        if not fits:
            _say(f"{name} {shape} is outside the profile")
        self._shapes[name] = tuple(shape)
        return fits

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        session, shapes = self._engine.session, self._shapes
        inputs = {
            tensor.name: np.zeros(shapes[tensor.name], _TYPES[tensor.type].value)
            for tensor in session.get_inputs()
        }
        return tuple(session.run([name], inputs)[0].shape)

    def execute_async_v3(self, stream_handle: int) -> bool:
        if behaviour.captured is not None and behaviour.refuses_recording:
            _say("operation not permitted when capturing")
            return False
        if behaviour.fails or not self._scratch or set(self._addresses) != set(self._engine.names):
            _say("Cuda failure: an illegal memory access")
            return False
        shapes, addresses = dict(self._shapes), dict(self._addresses)
        if behaviour.captured is not None:
            behaviour.captured.append(lambda: self._play(shapes, addresses))
        elif stream_handle in streams:
            streams[stream_handle](lambda: self._run(shapes, addresses))
        else:
            self._run(shapes, addresses)
        return True

    def _play(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
        # TensorRT leaves open what a recording does when its context has other shapes since.
        assert shapes == self._shapes
        self._run(shapes, addresses)

    def _run(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
        session = self._engine.session
        inputs = {
            tensor.name: _view(
                addresses[tensor.name], shapes[tensor.name], _TYPES[tensor.type].value
            ).copy()
            for tensor in session.get_inputs()
        }
        outputs = session.run(None, inputs)
        for tensor, found in zip(session.get_outputs(), outputs, strict=True):
            _view(addresses[tensor.name], found.shape, str(found.dtype))[...] = (
                behaviour.spoils * found
            )


class ICudaEngine:
    def __init__(self, plan: bytes) -> None:
        facts, _, model = plan.removeprefix(MAGIC).partition(b"\n")
        read = json.loads(facts)
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 1
        # As the engine on the CPU does, so that both give the same to the last bit.
        self.session = onnxruntime.InferenceSession(
            model,
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=[SLOW_ON_CPU],
        )
        self.shapes = read["shapes"]
        self.precision = read["precision"]
        tensors = [*self.session.get_inputs(), *self.session.get_outputs()]
        self._inputs = {tensor.name for tensor in self.session.get_inputs()}
        self._types = {tensor.name: _TYPES[tensor.type] for tensor in tensors}
        self.names = list(self._types)

    @property
    def device_memory_size_v2(self) -> int:
        return 4096

    @property
    def num_io_tensors(self) -> int:
        return len(self.names)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return self._types[name]

    def create_execution_context(
        self,
        strategy: ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy.STATIC,
    ) -> IExecutionContext | None:
        assert strategy == ExecutionContextAllocationStrategy.USER_MANAGED
        return IExecutionContext(self)

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector(self.precision)


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        _keep(logger)

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        if not serialized_engine.startswith(MAGIC):
            _say("magicTag does not match")
            return None
        return ICudaEngine(serialized_engine)


def _view(address: int, shape: Sequence[int], dtype: str) -> Any:
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    memory = (ctypes.c_byte * size).from_address(address)
    return np.frombuffer(memory, dtype=dtype).reshape(shape)
