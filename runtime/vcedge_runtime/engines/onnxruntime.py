"""Graphs in ONNX Runtime, bound to the caller's arrays: the host's, or a device's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vcedge_runtime.buffers import Buffer, host_arrays
from vcedge_runtime.engines.cudart import Cuda
from vcedge_runtime.engines.processor import spin_briefly, take_exact_products
from vcedge_runtime.engines.staging import Staging
from vcedge_runtime.errors import EngineError, MissingExtraError
from vcedge_runtime.installing import how_to_install
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.model.spec import GraphSpec

if TYPE_CHECKING:
    import onnxruntime


WRONG_IN_HALF = "WeightBiasQuantization"
"""An optimiser of ONNX Runtime (1.31) that quantises biases anew, wrongly where scales are FP16."""
SLOW_ON_CPU = "SkipLayerNormFusion"
"""One whose operator takes three times what the sum and the normalisation take apart (1.31)."""

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
RECORDINGS = 32
"""Most recordings of a graph, one for each set of shapes (our choice): none can be given back."""
_NOT_RECORDED = -1
"""ONNX Runtime's number of a recording for a run that shall be none."""


class OnnxRuntimeEngine:
    """One graph on the CPU, or on an NVIDIA GPU.

    On a GPU every array lies on it while the graph runs: the host's are copied there and back, a
    ``DeviceArray`` is bound where it lies.

    Args:
        model: an ONNX file's bytes, which ``Bundle.read_graph`` has checked: by a name, ONNX
            Runtime would read the file again, and whatever it names.
        spec: what the graph must look like.
        threads: threads of one operator on the CPU; 0 lets ONNX Runtime choose.
        disabled: names of ONNX Runtime's graph optimisers that are left out.
        cuda: the GPU, of which the engine is one more user; None runs on the CPU.
        cuda_graphs: record runs on the GPU and play them again where shapes are the same; what lies
            on it is copied to where the recording wants it. A graph of which ONNX Runtime leaves a
            part to the CPU is refused then.
        beside: whether it leaves cores to others, and is run beside them and beside itself; on the
            CPU alone.

    Attributes:
        beside: as given.

    Raises:
        MissingExtraError: onnxruntime is not installed, or lacks the provider.
        EngineError: the graph cannot be loaded, is not what the spec says, or would run elsewhere
            than on the provider.
    """

    def __init__(
        self,
        model: bytes,
        spec: GraphSpec,
        *,
        threads: int = 0,
        disabled: Sequence[str] = (),
        cuda: Cuda | None = None,
        cuda_graphs: bool = False,
        beside: bool = False,
    ) -> None:
        provider = CPU if cuda is None else CUDA
        require_provider(provider)
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # It would take bytes of its own format for it, which nobody has looked at.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        spin_briefly(options, onnxruntime.__version__)
        take_exact_products(options)
        try:
            self._session = onnxruntime.InferenceSession(
                model,
                options,
                providers=[(provider, _options(cuda, cuda_graphs=cuda_graphs))],
                disabled_optimizers=[*disabled, *([SLOW_ON_CPU] if cuda is None else [])],
            )
        except Exception as exc:
            raise EngineError(f"ONNX Runtime cannot load graph {spec.name}: {exc}") from exc
        # ONNX Runtime falls back to the CPU in silence where a driver or a library is missing.
        used = self._session.get_providers()[0]
        if used != provider:
            raise EngineError(
                f"ONNX Runtime runs graph {spec.name} on {used} instead of {provider}; "
                "`vcedge doctor` tells what is missing, --backend cpu runs it there"
            )
        self._spec = spec
        self._check_names()
        self.beside = beside
        self._cuda = None if cuda is None else cuda.share()
        self._staging = None if cuda is None else Staging(cuda, owns_all=cuda_graphs)
        self._cuda_graphs = cuda_graphs
        self._recorded: dict[tuple[object, ...], int] = {}

    @property
    def spec(self) -> GraphSpec:
        """Names, dtypes and shapes of the graph."""
        return self._spec

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        """Run once on the caller's arrays, and wait; see ``Engine.run``."""
        self._spec.check_arrays({**inputs, **out})
        if self._staging is None:
            arrays = host_arrays(self._spec.name, {**inputs, **out})
            places = {name: array.ctypes.data for name, array in arrays.items()}
            self._run(inputs, out, places)
        else:
            with self._staging.placed(inputs, out) as places:
                self._run(inputs, out, places)

    def close(self) -> None:
        """Release the session, and what it has on a GPU."""
        del self._session
        if self._staging is not None and self._cuda is not None:
            self._staging.close()
            self._cuda.close()

    def _run(
        self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer], places: Mapping[str, int]
    ) -> None:
        kind = "cpu" if self._cuda is None else "cuda"
        # One of each run, so that two threads may run at once.
        binding = self._session.io_binding()
        for name, array in inputs.items():
            dtype, shape = array.dtype.type, array.shape
            binding.bind_input(name, kind, 0, dtype, shape, places[name])
        for name, array in out.items():
            dtype, shape = array.dtype.type, array.shape
            binding.bind_output(name, kind, 0, dtype, shape, places[name])
        try:
            self._session.run_with_iobinding(binding, self._choose(inputs, places))
        except Exception as exc:
            raise EngineError(f"graph {self._spec.name} failed in ONNX Runtime: {exc}") from exc

    def _choose(
        self, inputs: Mapping[str, Buffer], places: Mapping[str, int]
    ) -> onnxruntime.RunOptions | None:
        """Say which recording a run is, where runs are recorded."""
        if not self._cuda_graphs:
            return None
        import onnxruntime

        key = (*(array.shape for array in inputs.values()), *places.values())
        if key not in self._recorded and len(self._recorded) < RECORDINGS:
            self._recorded[key] = 1 + len(self._recorded)
        options = onnxruntime.RunOptions()
        number = self._recorded.get(key, _NOT_RECORDED)
        options.add_run_config_entry("gpu_graph_id", str(number))
        return options

    def _check_names(self) -> None:
        found = [(t.name, t.type) for t in self._session.get_inputs()]
        found += [(t.name, t.type) for t in self._session.get_outputs()]
        kinds = {"float32": "tensor(float)", "int64": "tensor(int64)"}
        expected = [(t.name, kinds.get(t.dtype, t.dtype)) for t in self._spec.tensors]
        if found != expected:
            raise EngineError(
                f"graph {self._spec.name} has tensors {found}; its spec says {expected}; "
                "export it again"
            )


def require_provider(provider: str) -> None:
    """Ask whether ONNX Runtime can run graphs there.

    Args:
        provider: ``CPU`` or ``CUDA``.

    Raises:
        MissingExtraError: it is not installed, or lacks the provider.
    """
    try:
        import onnxruntime
    except ImportError as exc:
        raise MissingExtraError(
            f"ONNX Runtime is not installed; run: {how_to_install('cpu')}"
        ) from exc
    if provider not in onnxruntime.get_available_providers():
        raise MissingExtraError(
            f"ONNX Runtime {onnxruntime.__version__} has no {provider}; run: "
            f"pip uninstall -y onnxruntime && {how_to_install('gpu')}"
        )


def engine_from_bundle(
    bundle: Bundle,
    name: str,
    *,
    threads: int = 0,
    cuda: Cuda | None = None,
    cuda_graphs: bool = False,
    beside: bool = False,
) -> OnnxRuntimeEngine:
    """Open a graph of a bundle; see ``OnnxRuntimeEngine``."""
    graph = bundle.graphs[name]
    return OnnxRuntimeEngine(
        bundle.read_graph(name),
        graph.spec,
        threads=threads,
        disabled=[WRONG_IN_HALF] if graph.has_half_scales else [],
        cuda=cuda,
        cuda_graphs=cuda_graphs,
        beside=beside,
    )


def _options(cuda: Cuda | None, *, cuda_graphs: bool) -> dict[str, str]:
    """The provider's: no rounding to TF32, and our stream, so that copies and runs keep order."""
    if cuda is None:
        return {}
    return {
        "use_tf32": "0",
        "user_compute_stream": str(cuda.stream),
        "enable_cuda_graph": str(int(cuda_graphs)),
    }


def cuda_of_onnxruntime() -> int | None:
    """CUDA's generation that ONNX Runtime was built with; None where it does not say so."""
    import onnxruntime

    told = re.match(r"\d+", str(getattr(onnxruntime, "cuda_version", "") or ""))
    return int(told[0]) if told else None
