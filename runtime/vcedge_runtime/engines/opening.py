"""Every graph of a tracker in the back-end that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack, closing
from typing import NamedTuple

from vcedge_runtime.buffers import Device
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.engines.choosing import find_half, rank_backends
from vcedge_runtime.engines.cudart import Cuda, cuda_of_tensorrt
from vcedge_runtime.engines.onnxruntime import (
    CUDA,
    cuda_of_onnxruntime,
    engine_from_bundle,
    require_provider,
)
from vcedge_runtime.engines.plans import BuildProgress, FindSpans, ignore_progress
from vcedge_runtime.engines.processor import count_cores
from vcedge_runtime.errors import MissingExtraError, TrackerError, VcedgeError
from vcedge_runtime.installing import how_to_install
from vcedge_runtime.model.bundle import Bundle

AUTO = "auto"
"""The back-end that is the fastest of those that are here."""
BACKENDS = (AUTO, "cpu", "cuda", "tensorrt")
"""What can run the graphs: ONNX Runtime on the CPU or in CUDA, or TensorRT."""
_Graphs = tuple[Mapping[str, Engine], Device | None]


class Opened(NamedTuple):
    """Graphs of a model, opened.

    Attributes:
        engines: by graph; the caller closes them.
        device: where they want arrays that live longer than a run; None on the host.
        bundle: whose graphs they are: the one that was asked for, or its FP16.
        backend: what runs them, none of ``BACKENDS`` but ``auto``.
    """

    engines: Mapping[str, Engine]
    device: Device | None
    bundle: Bundle
    backend: str


def open_engines(
    bundle: Bundle,
    names: Iterable[str],
    backend: str,
    *,
    spans: FindSpans,
    beside: Collection[str] = (),
    threads: int = 0,
    cuda_graphs: bool | None = None,
    tell: Callable[[str], None] = lambda text: None,
    on_progress: Callable[[BuildProgress], None] = ignore_progress,
) -> Opened:
    """Open graphs of a bundle.

    ``auto`` takes the fastest back-end that is here and loads; on a GPU, the model in FP16 where it
    stands beside its own, see ``find_half``.

    Args:
        bundle: whose graphs.
        names: which of them.
        backend: one of ``BACKENDS``.
        spans: how far the lengths of a graph differ from run to run, by those of its first: what
            an engine of TensorRT can do, and where it is fastest.
        beside: those of them that run beside each other: on a CPU of several cores, each with half
            of the threads.
        threads: threads of an engine on the CPU; 0 lets it choose.
        cuda_graphs: whether a GPU's runs are recorded; None as its back-end does it.
        tell: told in words what takes long, and what ``auto`` chose and why.
        on_progress: told how far the build of an engine is.

    Raises:
        TrackerError: there is no such back-end, or it knows no CUDA graphs.
        MissingExtraError: it is not installed.
        EngineError: a graph cannot be loaded, or there is no device.
    """
    names = list(names)

    def open_with(backend: str, bundle: Bundle) -> Opened:
        if backend == "cpu":
            opened = _open_on_cpu(bundle, names, beside, threads, cuda_graphs)
        elif backend == "cuda":
            opened = _open_in_cuda(bundle, names, cuda_graphs)
        else:
            opened = _open_tensorrt(bundle, names, spans, cuda_graphs, tell, on_progress)
        return Opened(*opened, bundle, backend)

    if backend not in BACKENDS:
        raise TrackerError(f"received back-end {backend!r}; expected one of {BACKENDS}")
    if backend != AUTO:
        return open_with(backend, bundle)
    *on_gpu, last = rank_backends(bundle)
    half = find_half(bundle) if on_gpu else None
    for choice in on_gpu:
        tell(choice.reason)
        try:
            opened = open_with(choice.backend, half or bundle)
        except VcedgeError as exc:
            tell(f"WARNING: {exc}")
            continue
        if half is not None:
            tell(f"the model is taken in FP16, from {half.folder}")
        return opened
    opened = open_with(last.backend, bundle)
    tell(last.reason)
    return opened


def _open_on_cpu(
    bundle: Bundle,
    names: Iterable[str],
    beside: Collection[str],
    threads: int,
    cuda_graphs: bool | None,
) -> _Graphs:
    if cuda_graphs is not None:
        raise TrackerError("received cuda_graphs for the CPU; choose another back-end")
    half = (threads or count_cores()) // 2
    halved = set(beside) if half else set()
    engines = dict[str, Engine]()
    for name in names:
        own = half if name in halved else threads
        engines[name] = engine_from_bundle(bundle, name, threads=own, beside=name in halved)
    return engines, None


def _open_in_cuda(bundle: Bundle, names: Iterable[str], cuda_graphs: bool | None) -> _Graphs:
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
) -> _Graphs:
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
