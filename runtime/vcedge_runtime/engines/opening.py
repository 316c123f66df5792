"""Every graph of a tracker in the back-end that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, closing

from vcedge_runtime.buffers import Device
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.engines.choosing import choose_backend
from vcedge_runtime.engines.cudart import Cuda, cuda_of_tensorrt
from vcedge_runtime.engines.onnxruntime import (
    CUDA,
    cuda_of_onnxruntime,
    engine_from_bundle,
    require_provider,
)
from vcedge_runtime.engines.plans import BuildProgress, FindSpans, ignore_progress
from vcedge_runtime.errors import MissingExtraError, TrackerError, VcedgeError
from vcedge_runtime.installing import how_to_install
from vcedge_runtime.model.bundle import Bundle

AUTO = "auto"
"""The back-end that ``choose_backend`` chooses."""
BACKENDS = (AUTO, "cpu", "cuda", "tensorrt")
"""What can run the graphs: ONNX Runtime on the CPU or in CUDA, or TensorRT."""
Opened = tuple[Mapping[str, Engine], Device | None]


def open_engines(
    bundle: Bundle,
    names: Iterable[str],
    backend: str,
    *,
    spans: FindSpans,
    threads: int = 0,
    cuda_graphs: bool | None = None,
    tell: Callable[[str], None] = lambda text: None,
    on_progress: Callable[[BuildProgress], None] = ignore_progress,
) -> Opened:
    """Open graphs of a bundle.

    Args:
        bundle: whose graphs.
        names: which of them.
        backend: one of ``BACKENDS``.
        spans: how far the lengths of a graph differ from run to run, by those of its first: what
            an engine of TensorRT can do, and where it is fastest.
        threads: threads of an engine on the CPU; 0 lets it choose.
        cuda_graphs: whether a GPU's runs are recorded; None as its back-end does it.
        tell: told in words what takes long, and what ``auto`` chose and why.
        on_progress: told how far the build of an engine is.

    Returns:
        Engines by graph, which the caller closes, and where they want arrays that live longer than
        a run: None on the host.

    Raises:
        TrackerError: there is no such back-end, or it knows no CUDA graphs.
        MissingExtraError: it is not installed.
        EngineError: a graph cannot be loaded, or there is no device.
    """
    names = list(names)

    def open_with(backend: str) -> Opened:
        if backend == "cpu":
            return _open_on_cpu(bundle, names, threads, cuda_graphs)
        if backend == "cuda":
            return _open_in_cuda(bundle, names, cuda_graphs)
        return _open_tensorrt(bundle, names, spans, cuda_graphs, tell, on_progress)

    if backend not in BACKENDS:
        raise TrackerError(f"received back-end {backend!r}; expected one of {BACKENDS}")
    if backend != AUTO:
        return open_with(backend)
    choice = choose_backend(bundle)
    if choice.backend == "cpu":
        opened = open_with("cpu")
        tell(choice.reason)
        return opened
    tell(choice.reason)
    try:
        return open_with(choice.backend)
    except VcedgeError as exc:
        tell(f"WARNING: {exc}; ONNX Runtime runs the graphs on the CPU")
        return open_with("cpu")


def _open_on_cpu(
    bundle: Bundle, names: Iterable[str], threads: int, cuda_graphs: bool | None
) -> Opened:
    if cuda_graphs is not None:
        raise TrackerError("received cuda_graphs for the CPU; choose another back-end")
    return {name: engine_from_bundle(bundle, name, threads=threads) for name in names}, None


def _open_in_cuda(bundle: Bundle, names: Iterable[str], cuda_graphs: bool | None) -> Opened:
    require_provider(CUDA)
    with closing(Cuda(generation=cuda_of_onnxruntime())) as cuda, ExitStack() as opened:
        engines = dict[str, Engine]()
        for name in names:
            engine = engine_from_bundle(bundle, name, cuda=cuda, cuda_graphs=bool(cuda_graphs))
            engines[name] = engine
            opened.callback(engine.close)
        opened.pop_all()
        return engines, cuda


def _open_tensorrt(
    bundle: Bundle,
    names: Iterable[str],
    spans: FindSpans,
    cuda_graphs: bool | None,
    tell: Callable[[str], None],
    on_progress: Callable[[BuildProgress], None],
) -> Opened:
    try:
        from vcedge_runtime.engines.tensorrt import engines_from_bundle
        from vcedge_runtime.engines.tensorrt_build import BuildSettings
    except ImportError as exc:
        raise MissingExtraError(
            "TensorRT is not installed; it comes with JetPack, or run: "
            f"{how_to_install('tensorrt')}"
        ) from exc
    settings = BuildSettings(cuda_graphs=cuda_graphs is not False)
    with closing(Cuda(generation=cuda_of_tensorrt())) as cuda:
        built = engines_from_bundle(
            bundle, names, cuda, spans, settings=settings, tell=tell, on_progress=on_progress
        )
        return built, cuda
