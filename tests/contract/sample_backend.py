"""What a TensorRT engine does, from graph to queued run; checked against stubs, never imported."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorrt as trt

Shape = tuple[int, ...]
DTYPES = {trt.float32: np.float32, trt.float16: np.float16, trt.int64: np.int64, trt.bool: np.bool_}


class Progress(trt.IProgressMonitor):  # type: ignore[misc]
    """Hands the steps of a build on."""

    def __init__(self, report: Callable[[str, int, int], bool]) -> None:
        super().__init__()
        self._report = report
        self._lengths: dict[str, int] = {}

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        self._lengths[phase_name] = num_steps

    def step_complete(self, phase_name: str, step: int) -> bool:
        return self._report(phase_name, step, self._lengths[phase_name])

    def phase_finish(self, phase_name: str) -> None:
        del self._lengths[phase_name]


class Log(trt.ILogger):  # type: ignore[misc]
    """Keeps the warnings and errors."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.ERROR, trt.Logger.WARNING):
            self.lines.append(f"{severity.name}: {msg}")


class Errors(trt.IErrorRecorder):  # type: ignore[misc]
    """Keeps what the runtime reports."""

    def __init__(self) -> None:
        super().__init__()
        self._errors: list[tuple[trt.ErrorCodeTRT, str]] = []

    def num_errors(self) -> int:
        return len(self._errors)

    def get_error_code(self, index: int) -> trt.ErrorCodeTRT:
        return self._errors[index][0]

    def get_error_desc(self, index: int) -> str:
        return self._errors[index][1]

    def has_overflowed(self) -> bool:
        return False

    def clear(self) -> None:
        self._errors.clear()

    def report_error(self, code: trt.ErrorCodeTRT, text: str) -> bool:
        self._errors.append((code, text))
        return True


def build_engine(
    onnx: Path,
    shapes: Mapping[str, tuple[Shape, Shape, Shape]],
    cache: bytes,
    report: Callable[[str, int, int], bool],
) -> tuple[bytes, bytes]:
    """Parse and build; return the plan and the timing cache."""
    logger = trt.Logger(trt.Logger.WARNING)
    trt.init_libnvinfer_plugins(logger, "")
    builder = trt.Builder(logger)
    builder.max_threads = 2
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx.read_bytes()):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        raise ValueError(
            [(error.node_name(), error.node_operator(), error.desc()) for error in errors]
        )
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << 30)
    config.clear_flag(trt.BuilderFlag.TF32)
    config.builder_optimization_level = 3
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.progress_monitor = Progress(report)
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        if -1 in tuple(tensor.shape):
            least, best, most = shapes[tensor.name]
            profile.set_shape(tensor.name, least, best, most)
    config.add_optimization_profile(profile)
    timing = config.create_timing_cache(cache)
    config.set_timing_cache(timing, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ValueError("TensorRT built nothing")
    return bytes(plan), bytes(config.get_timing_cache().serialize())


class Engine:
    """A plan, loaded."""

    def __init__(self, plan: bytes) -> None:
        self.log, self.errors = Log(), Errors()
        self.runtime = trt.Runtime(self.log)
        self.runtime.max_threads = 1
        self.runtime.error_recorder = self.errors
        engine = self.runtime.deserialize_cuda_engine(plan)
        context = engine.create_execution_context() if engine is not None else None
        if engine is None or context is None:
            raise ValueError(self.log.lines)
        self.engine, self.context = engine, context

    @property
    def tensors(self) -> dict[str, tuple[bool, type[np.generic], Shape]]:
        """Whether it is an input, dtype and shape, by name."""
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        return {
            name: (
                self.engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT,
                DTYPES[self.engine.get_tensor_dtype(name)],
                tuple(self.engine.get_tensor_shape(name)),
            )
            for name in names
        }

    @property
    def device_memory_bytes(self) -> int:
        """Scratch memory of one context."""
        return int(self.engine.device_memory_size_v2)

    def layer_names(self) -> list[str]:
        """What was built."""
        inspector = self.engine.create_engine_inspector()
        text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
        return [layer["Name"] for layer in json.loads(text)["Layers"]]

    def queue_run(self, addresses: Mapping[str, tuple[int, Shape]], stream: int) -> None:
        """Bind device pointers and queue a run."""
        for name, (address, shape) in addresses.items():
            if self.engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
                self.context.set_input_shape(name, shape)
            self.context.set_tensor_address(name, address)
        if not self.context.execute_async_v3(stream):
            raise ValueError(self.errors.get_error_desc(0))
