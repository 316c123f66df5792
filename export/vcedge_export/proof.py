"""The proof of a bundle: against PyTorch, or against another bundle of the same model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from vcedge_export.differences import BOUNDS
from vcedge_export.precision import open_engines
from vcedge_export.verify import OnFrame, OnRun, TruthClip, verify_bundle
from vcedge_runtime.buffers import Device
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.model.composition import Composition
from vcedge_runtime.predictors.requirements import takes_flow

OpenEngines = Callable[[], Mapping[str, Engine]]
OpenOnDevice = Callable[[], tuple[Mapping[str, Engine], Device | None]]


def switch_on(bundle: Bundle) -> Bundle:
    """The bundle with optical flow and value extraction where it has them, as export proves it."""
    parts = bundle.composition
    if not isinstance(parts, Composition):
        return bundle
    whole = parts.exchange(
        motion=takes_flow(bundle.graphs["encoder"].spec),
        value_extraction="value_extraction" in bundle.graphs,
    )
    return replace(bundle, composition=whole)


def prove(
    bundle: Bundle,
    open_source: OpenEngines,
    clip: TruthClip,
    *,
    max_drop: float = BOUNDS["int8"].score,
    on_run: OnRun | None = None,
    on_frame: OnFrame = lambda done, frames: None,
    open_exported: OpenOnDevice | None = None,
) -> dict[str, Any]:
    """Compare a bundle with its source; where layers are in FP16, as a GPU rounds them too.

    Args:
        bundle: whose files, and with whose run-time part.
        open_source: an engine for each of its graphs, of what it must be equal to.
        clip: frames with truth.
        max_drop: most J&F that INT8 may lose.
        on_run: told each run; see ``verify_bundle``.
        on_frame: told each frame, likewise.
        open_exported: an engine for each graph, on what shall be proven, and its device; ONNX
            Runtime's on the CPU when None.

    Returns:
        Plain JSON values, for the manifest; in FP16 on the CPU those of the rounded graphs, and
        under ``unrounded`` those of the files as ONNX Runtime runs them there.

    Raises:
        ExportError: the clip is too short.
        EngineError: an engine cannot be built or opened.
    """
    device = None
    if open_exported is not None:
        engines, device = open_exported()
        ways = [engines]
    else:
        ways = [open_engines(bundle, bundle.graphs)]
        if any(graph.half for graph in bundle.graphs.values()):
            ways.append(open_engines(bundle, bundle.graphs, rounded=True))
    verified = verify_bundle(
        bundle,
        ways,
        open_source(),
        clip,
        max_drop=max_drop,
        device=device,
        on_run=on_run,
        on_frame=on_frame,
    )
    found, *rounded = [each.to_json() for each in verified]
    for other in rounded:
        passes = other["passes"] and found["passes"]
        found = {**other, "passes": passes, "unrounded": found}
    return found
