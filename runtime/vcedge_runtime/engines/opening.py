"""Every graph of a tracker in the back-end that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, closing

from vcedge_runtime.buffers import Device
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.engines.cudart import Cuda
from vcedge_runtime.engines.onnxruntime import CUDA, engine_from_bundle, require_provider
from vcedge_runtime.engines.plans import BuildProgress, ignore_progress
from vcedge_runtime.errors import MissingExtraError, TrackerError
from vcedge_runtime.installing import how_to_install
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.model.composition import Composition
from vcedge_runtime.model.spec import GraphSpec
from vcedge_runtime.predictors.labels import takes_flow

BACKENDS = ("cpu", "cuda", "tensorrt")
"""What can run the graphs: ONNX Runtime on the CPU or in CUDA, or TensorRT."""


def open_engines(
    bundle: Bundle,
    names: Iterable[str],
    backend: str,
    *,
    threads: int = 0,
    cuda_graphs: bool | None = None,
    tell: Callable[[str], None] = lambda text: None,
    on_progress: Callable[[BuildProgress], None] = ignore_progress,
) -> tuple[Mapping[str, Engine], Device | None]:
    """Open graphs of a bundle.

    Args:
        bundle: whose graphs.
        names: which of them.
        backend: one of ``BACKENDS``.
        threads: threads of an engine on the CPU; 0 lets it choose.
        cuda_graphs: whether a GPU's runs are recorded; None as its back-end does it.
        tell: told in words what takes long.
        on_progress: told how far the build of an engine is.

    Returns:
        Engines by graph, which the caller closes, and where they want arrays that live longer than
        a run: None on the host.

    Raises:
        TrackerError: there is no such back-end, or it knows no CUDA graphs.
        MissingExtraError: it is not installed.
        EngineError: a graph cannot be loaded, or there is no device.
    """
    if backend == "cpu":
        if cuda_graphs is not None:
            raise TrackerError("received cuda_graphs for the CPU; choose another back-end")
        return {name: engine_from_bundle(bundle, name, threads=threads) for name in names}, None
    if backend == "cuda":
        require_provider(CUDA)
        with closing(Cuda()) as cuda:
            recorded, engines = bool(cuda_graphs), dict[str, Engine]()
            with ExitStack() as opened:
                for name in names:
                    engine = engine_from_bundle(bundle, name, cuda=cuda, cuda_graphs=recorded)
                    engines[name] = engine
                    opened.callback(engine.close)
                opened.pop_all()
            return engines, cuda
    if backend != "tensorrt":
        raise TrackerError(f"received back-end {backend!r}; expected one of {BACKENDS}")
    try:
        from vcedge_runtime.engines.tensorrt import engines_from_bundle
        from vcedge_runtime.engines.tensorrt_build import BuildSettings
    except ImportError as exc:
        raise MissingExtraError(
            "TensorRT is not installed; it comes with JetPack, or run: "
            f"{how_to_install('tensorrt')}"
        ) from exc
    settings = BuildSettings(cuda_graphs=cuda_graphs is not False)
    with closing(Cuda()) as cuda:
        built = engines_from_bundle(
            bundle, names, cuda, settings=settings, tell=tell, on_progress=on_progress
        )
        return built, cuda


def require_graphs(bundle: Bundle, specs: Mapping[str, GraphSpec]) -> None:
    """Refuse a composition that asks for what the model's graphs, by name, do not give.

    Raises:
        TrackerError: the composition needs another graph, or the encoder's takes no flow.
    """
    parts = bundle.composition
    labels = parts if isinstance(parts, Composition) else None
    if labels and labels.value_extraction and "value_extraction" not in specs:
        raise TrackerError(
            f"model {bundle.name} has no value extraction; leave --values out, or use a model that "
            "was trained with it"
        )
    missing = parts.graphs - set(specs)
    if missing:
        raise TrackerError(
            f"bundle {bundle.folder} gives the graphs {sorted(specs)}; expected also "
            f"{sorted(missing)}; export the bundle again"
        )
    if labels and labels.motion and not takes_flow(specs["encoder"]):
        raise TrackerError(
            f"the encoder of model {bundle.name} takes no optical flow; leave --motion out, or use "
            "a model that was trained with it"
        )
