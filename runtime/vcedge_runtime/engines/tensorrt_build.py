"""From an ONNX file to a TensorRT plan: parsed and built, strongly typed, for given sizes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import tensorrt as trt

from vcedge_runtime.engines.plans import BuildProgress, FindSpans, Lengths, PlanCache, Span
from vcedge_runtime.errors import EngineError
from vcedge_runtime.model.spec import GraphSpec, TensorSpec

Spans = Mapping[str, Span]
"""Of every named length of a graph."""


@dataclass(frozen=True)
class BuildSettings:
    """How engines are built.

    Attributes:
        workspace_mb: most scratch memory that a layer may take, in 2^20 bytes.
        level: TensorRT's optimisation level, 0 to 5.
        tf32: whether FP32 products may be rounded to 10 bits; a proof against FP32 then fails.
        cuda_graphs: whether a shape that comes again is recorded; no matter of the build.
    """

    workspace_mb: int = 1024
    level: int = 3
    tf32: bool = False
    cuda_graphs: bool = field(default=True, compare=False)

    def to_facts(self) -> dict[str, Any]:
        """What of it a plan depends on."""
        facts = asdict(self)
        del facts["cuda_graphs"]
        return facts


class Log(trt.ILogger):  # type: ignore[misc]
    """Keeps TensorRT's last errors."""

    def __init__(self) -> None:
        super().__init__()
        self._lines = deque[str](maxlen=3)

    def take(self) -> str:
        """The last errors since this was called, in one line."""
        lines = [" ".join(line.split()) for line in self._lines]
        self._lines.clear()
        return "; ".join(lines) or "it says no more"

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        """Take a message."""
        if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
            self._lines.append(msg)


LOG = Log()
"""The one of the process: TensorRT keeps the first that it is given, and tells no other."""


class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
    """Hands the steps of a build on.

    Attributes:
        stopped: what the report raised, which ended the build.
    """

    def __init__(self, graph: str, report: Callable[[BuildProgress], None]) -> None:
        super().__init__()
        self._graph = graph
        self._report = report
        self._steps: dict[str, int] = {}
        self.stopped: BaseException | None = None

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """Take the length of a phase."""
        self._steps[phase_name] = num_steps

    def step_complete(self, phase_name: str, step: int) -> bool:
        """Report a step; whether the build goes on."""
        try:
            self._report(BuildProgress(self._graph, phase_name, step + 1, self._steps[phase_name]))
        except BaseException as exc:
            # It would be lost on its way through the builder, Ctrl-C too.
            self.stopped = exc
        return self.stopped is None

    def phase_finish(self, phase_name: str) -> None:
        """Forget a phase."""
        self._steps.pop(phase_name, None)


@dataclass(frozen=True)
class Built:
    """What a build gives.

    Attributes:
        plan: the engine.
        timings: how long layers took, for the next build.
    """

    plan: bytes
    timings: bytes


def build_plan(
    model: bytes,
    spec: GraphSpec,
    sizes: Spans,
    settings: BuildSettings,
    cache: PlanCache,
    on_progress: Callable[[BuildProgress], None],
) -> Built:
    """Build an engine; nothing is written.

    Args:
        model: an ONNX file's bytes, which ``Bundle.read_graph`` has checked.
        spec: of the graph.
        sizes: of every named length.
        settings: of the build.
        cache: where timings of former builds are kept.
        on_progress: told how far it is.

    Raises:
        EngineError: TensorRT cannot parse or build it.
        BaseException: what ``on_progress`` raised, Ctrl-C among it.
    """
    builder = trt.Builder(LOG)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, LOG)
    if not parser.parse(model):
        found = [parser.get_error(index) for index in range(parser.num_errors)]
        told = "; ".join(f"{e.node_operator()} {e.node_name()}: {e.desc()}" for e in found)
        raise EngineError(f"TensorRT {trt.__version__} cannot parse {spec.name}: {told}")
    config = builder.create_builder_config()
    limit = settings.workspace_mb << 20
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, limit)
    config.builder_optimization_level = settings.level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if not settings.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    monitor = Monitor(spec.name, on_progress)
    config.progress_monitor = monitor
    profile = builder.create_optimization_profile()
    for tensor in spec.inputs:
        least, usual, most = (shape_at(tensor, sizes, end) for end in range(3))
        profile.set_shape(tensor.name, least, usual, most)
    config.add_optimization_profile(profile)
    known = config.create_timing_cache(cache.read(timings_name()))
    # Those of another device, or a damaged file, are no reason to stop.
    if known is None or not config.set_timing_cache(known, ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if monitor.stopped is not None:
        raise monitor.stopped
    if plan is None:
        raise EngineError(
            f"TensorRT {trt.__version__} cannot build {spec.name}: {LOG.take()}; a lower "
            "--size or workspace needs less memory, --backend cuda or cpu runs without it"
        )
    timings = config.get_timing_cache()
    return Built(bytes(plan), b"" if timings is None else bytes(timings.serialize()))


def timings_name() -> str:
    """File of the timings, beside the plans."""
    return f"timing.{trt.__version__}.cache"


def fix_sizes(lengths: Lengths, spans: FindSpans) -> dict[str, Span]:
    """The span of every named length of a graph; those that have none are the same in each run.

    Args:
        lengths: of the first run.
        spans: of those that differ.
    """
    found = spans(lengths)
    return {name: found.get(name, Span(*3 * (length,))) for name, length in lengths.items()}


def shape_at(tensor: TensorSpec, sizes: Spans, end: int) -> tuple[int, ...]:
    """Shape of a tensor at the least (0), the usual (1) or the most (2) of its lengths."""
    return tuple(sizes[dim][end] if isinstance(dim, str) else dim for dim in tensor.shape)
