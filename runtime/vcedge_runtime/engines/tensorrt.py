"""Graphs in TensorRT 10.3 to 11: strongly typed, built once for their sizes, kept on disk."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import tensorrt as trt

from vcedge_runtime.buffers import Buffer
from vcedge_runtime.engines.cudart import Cuda
from vcedge_runtime.engines.plans import (
    OWN_LEVELS,
    BuildProgress,
    FindSpans,
    Found,
    Lengths,
    PlanCache,
    choose_folder,
    ignore_progress,
)
from vcedge_runtime.engines.tensorrt_build import (
    LOG,
    BuildSettings,
    Spans,
    build_plan,
    fix_sizes,
    timings_name,
)
from vcedge_runtime.engines.tensorrt_plan import LoadedPlan, PlanError
from vcedge_runtime.errors import EngineError, OutputError
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.model.spec import GraphSpec, bind_lengths


class TensorRTEngine:
    """One graph, whose engine is built or found when it first runs.

    Lengths that may differ from run to run have spans; all others are those of the first run. A
    length beyond makes another engine.

    Args:
        bundle: whose graph.
        name: of the graph.
        spans: of the lengths that differ from run to run, by those of the first.
        cuda: the device, of which the engine is one more user.
        cache: where engines are kept.
        settings: of the build.
        tell: told in words what takes long.
        on_progress: told how far a build is.
    """

    def __init__(
        self,
        bundle: Bundle,
        name: str,
        spans: FindSpans,
        cuda: Cuda,
        cache: PlanCache,
        *,
        settings: BuildSettings | None = None,
        tell: Callable[[str], None] = lambda text: None,
        on_progress: Callable[[BuildProgress], None] = ignore_progress,
    ) -> None:
        self._bundle = bundle
        self._graph = bundle.graphs[name]
        self._name = name
        self._spans = spans
        self._cuda = cuda.share()
        self._cache = cache
        self._settings = settings or BuildSettings()
        self._tell = tell
        self._on_progress = on_progress
        self._loaded: LoadedPlan | None = None

    @property
    def spec(self) -> GraphSpec:
        """Names, dtypes and shapes of the graph."""
        return self._graph.spec

    @property
    def layers(self) -> dict[str, int]:
        """How many layers of the engine have which precision, as TensorRT's inspector says.

        Raises:
            EngineError: nothing has run yet.
        """
        if self._loaded is None:
            raise EngineError(f"graph {self.spec.name} has no engine before its first run")
        return self._loaded.count_layers()

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        """Run once, and wait; see ``Engine.run``.

        Raises:
            EngineError: an array does not fit the spec, the engine cannot be built or loaded, or
                TensorRT or CUDA failed.
        """
        arrays = {**inputs, **out}
        self.spec.check_arrays(arrays)
        lengths = bind_lengths(self.spec, arrays)
        if self._loaded is None or not self._loaded.holds(lengths):
            self._open(lengths)
        assert self._loaded is not None
        self._loaded.run(inputs, out)

    def close(self) -> None:
        """Release the engine, its device memory and its share of the device."""
        self._unload()
        self._cuda.close()

    def _unload(self) -> None:
        if self._loaded is not None:
            self._loaded.close()
        self._loaded = None

    def _open(self, lengths: Lengths) -> None:
        self._unload()
        sizes = fix_sizes(lengths, self._spans)
        # What was said before is of other graphs.
        LOG.take()
        trt.init_libnvinfer_plugins(LOG, "")
        facts = self._facts(sizes)
        found = self._cache.find(self.spec.name, facts)
        if found.plan is not None:
            try:
                self._loaded = self._load(found.plan, sizes)
                return
            except PlanError as exc:
                found = Found(None, str(exc))
        self._tell(f"building an engine of {self.spec.name} ({found.reason}); it takes minutes")
        built = build_plan(
            self._bundle.read_graph(self._name),
            self.spec,
            sizes,
            self._settings,
            self._cache,
            self._on_progress,
        )
        self._loaded = self._load(built.plan, sizes)
        layers = self._loaded.count_layers()
        try:
            path = self._cache.store(self.spec.name, facts, built.plan, {"layers": layers})
            self._cache.keep(timings_name(), built.timings)
            self._tell(f"wrote {path} ({len(built.plan) / 1e6:.1f} MB)")
        except OutputError as exc:
            self._tell(f"WARNING: {exc}; it will be built again")
        self._check_precision(layers)

    def _load(self, plan: bytes, sizes: Spans) -> LoadedPlan:
        records = self._settings.cuda_graphs
        return LoadedPlan(self.spec, plan, sizes, self._cuda, records=records, tell=self._tell)

    def _facts(self, sizes: Spans) -> dict[str, Any]:
        return {
            "graph": self._graph.sha256,
            "precision": self._graph.precision,
            "tensorrt": str(trt.__version__),
            "compute_capability": list(self._cuda.compute_capability),
            "multiprocessors": self._cuda.multiprocessors,
            "machine": platform.machine(),
            "sizes": {name: list(size) for name, size in sorted(sizes.items())},
            "settings": self._settings.to_facts(),
        }

    def _check_precision(self, layers: Mapping[str, int]) -> None:
        """Say it where an engine is not what its graph is: TensorRT may fall back in silence."""
        wanted = self._graph.precision
        if wanted != "fp32" and layers and not layers.get(wanted):
            self._tell(
                f"WARNING: graph {self.spec.name} is in {wanted}, and no layer of its engine is: "
                f"{dict(layers)}"
            )


def engines_from_bundle(
    bundle: Bundle,
    names: Iterable[str],
    cuda: Cuda,
    spans: FindSpans,
    *,
    settings: BuildSettings | None = None,
    tell: Callable[[str], None] = lambda text: None,
    on_progress: Callable[[BuildProgress], None] = ignore_progress,
) -> dict[str, TensorRTEngine]:
    """Open graphs of a bundle on one device; they are built, or found, when they first run.

    Engines are kept in the user's own cache, and no others are run; see ``choose_folder``.

    Args:
        bundle: whose graphs.
        names: which of them.
        cuda: the device, of which each engine is one more user.
        spans: of their lengths that differ from run to run.
        settings: of the builds.
        tell: told in words what takes long.
        on_progress: told how far a build is.
    """
    cache = PlanCache(choose_folder(bundle), OWN_LEVELS)
    if (bundle.folder / "engines").exists():
        tell(f"engines in {bundle.folder} are not run: those that this machine built are")
    return {
        name: TensorRTEngine(
            bundle,
            name,
            spans,
            cuda,
            cache,
            settings=settings,
            tell=tell,
            on_progress=on_progress,
        )
        for name in names
    }
