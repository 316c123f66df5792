"""Graphs in ONNX Runtime, bound to the caller's arrays without a copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vcedge_runtime.bundle import Bundle
from vcedge_runtime.engines.base import Buffer
from vcedge_runtime.errors import EngineError, MissingExtraError
from vcedge_runtime.spec import GraphSpec

if TYPE_CHECKING:
    import onnxruntime


WRONG_IN_HALF = "WeightBiasQuantization"
"""An optimiser of ONNX Runtime (1.31) that quantises biases anew, wrongly where scales are FP16."""


CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_OPTIONS = {CPU: {}, CUDA: {"use_tf32": "0"}}


class OnnxRuntimeEngine:
    """One graph on the CPU, or on an NVIDIA GPU; arrays are the host's.

    Args:
        model: the ONNX file.
        spec: what the graph must look like.
        threads: threads of one operator; 0 lets ONNX Runtime choose.
        disabled: names of ONNX Runtime's graph optimisers that are left out.
        provider: ``CPU`` or ``CUDA``.

    Raises:
        MissingExtraError: onnxruntime is not installed, or lacks the provider.
        EngineError: the file cannot be loaded, is not what the spec says, or would run elsewhere
            than on the provider.
    """

    def __init__(
        self,
        model: Path,
        spec: GraphSpec,
        *,
        threads: int = 0,
        disabled: Sequence[str] = (),
        provider: str = CPU,
    ) -> None:
        try:
            import onnxruntime
        except ImportError as exc:
            raise MissingExtraError(
                'ONNX Runtime is not installed; run: pip install "vcedge[cpu]"'
            ) from exc
        if provider not in onnxruntime.get_available_providers():
            raise MissingExtraError(
                f"ONNX Runtime {onnxruntime.__version__} has no {provider}; run: "
                'pip uninstall -y onnxruntime && pip install "vcedge[gpu]"'
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # Each session's idle threads would spin on the cores that the next stage needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                str(model),
                options,
                providers=[(provider, _OPTIONS[provider])],
                disabled_optimizers=list(disabled),
            )
        except Exception as exc:
            raise EngineError(f"ONNX Runtime cannot load {model}: {exc}") from exc
        # ONNX Runtime falls back to the CPU in silence where a driver or a library is missing.
        used = self._session.get_providers()[0]
        if used != provider:
            raise EngineError(
                f"ONNX Runtime runs {model} on {used} instead of {provider}; `vcedge doctor` tells "
                "what is missing, --backend cpu runs it there"
            )
        self._spec = spec
        self._check_names()
        self._binding: onnxruntime.IOBinding = self._session.io_binding()

    @property
    def spec(self) -> GraphSpec:
        """Names, dtypes and shapes of the graph."""
        return self._spec

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        """Run once on the caller's arrays; see ``Engine.run``."""
        self._spec.check_arrays({**inputs, **out})
        for name, array in inputs.items():
            self._binding.bind_input(
                name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data
            )
        for name, array in out.items():
            self._binding.bind_output(
                name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data
            )
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as exc:
            raise EngineError(f"graph {self._spec.name} failed in ONNX Runtime: {exc}") from exc

    def close(self) -> None:
        """Release the session."""
        del self._binding, self._session

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


def engine_from_bundle(
    bundle: Bundle, name: str, *, threads: int = 0, provider: str = CPU
) -> OnnxRuntimeEngine:
    """Open a graph of a bundle; see ``OnnxRuntimeEngine``."""
    graph = bundle.graphs[name]
    return OnnxRuntimeEngine(
        bundle.path_of(name),
        graph.spec,
        threads=threads,
        disabled=[WRONG_IN_HALF] if graph.has_half_scales else [],
        provider=provider,
    )
