"""TensorRT's engines of a bundle, where the machine that exports can build and run them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from vcedge_runtime.buffers import Device
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.engines.opening import open_engines
from vcedge_runtime.engines.plans import BuildProgress, ignore_progress
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.predictors.ranges import find_spans


def open_whole(
    bundle: Bundle,
    backend: str,
    *,
    tell: Callable[[str], None] = lambda text: None,
    on_progress: Callable[[BuildProgress], None] = ignore_progress,
) -> tuple[Mapping[str, Engine], Device | None]:
    """Open every graph of a bundle, what the composition does not run too.

    Args:
        bundle: whose graphs; TensorRT's engines are built when they first run.
        backend: one of ``opening.BACKENDS``.
        tell: told in words what takes long.
        on_progress: told how far a build is.

    Returns:
        Engines by graph, which the caller closes, and their device: None on the host.

    Raises:
        MissingExtraError: the back-end is not installed.
        EngineError: a graph cannot be loaded, or there is no device.
    """
    spans = partial(find_spans, bundle.composition)
    opened = open_engines(
        bundle, bundle.graphs, backend, spans=spans, tell=tell, on_progress=on_progress
    )
    return opened.engines, opened.device
