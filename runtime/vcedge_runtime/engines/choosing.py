"""What a machine runs a model fastest with: a back-end, and the model in FP16 where it is there."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace

from vcedge_runtime.engines.cudart import Cuda, cuda_of_tensorrt
from vcedge_runtime.engines.onnxruntime import CUDA, cuda_of_onnxruntime, require_provider
from vcedge_runtime.errors import BundleError, EngineError, MissingExtraError
from vcedge_runtime.installing import LEAST_TENSORRT
from vcedge_runtime.model.bundle import MANIFEST, Bundle


@dataclass(frozen=True)
class Choice:
    """A back-end, and why.

    Attributes:
        backend: ``tensorrt``, ``cuda`` or ``cpu``.
        reason: one sentence for people.
    """

    backend: str
    reason: str


def rank_backends(bundle: Bundle) -> list[Choice]:
    """What can run a model here, the fastest first: TensorRT, ONNX Runtime in CUDA, on the CPU.

    Nothing of the model is loaded. What is missing or broken speaks for the next, and never ends
    in an error.

    Args:
        bundle: the model.

    Returns:
        Choices, of which the CPU is the last.
    """
    if any(g.precision == "int8" and not g.has_half_scales for g in bundle.graphs.values()):
        return [Choice("cpu", "ONNX Runtime runs the graphs on the CPU, for which their INT8 is")]
    told = {"tensorrt": "TensorRT runs the graphs", "cuda": "ONNX Runtime runs the graphs in CUDA"}
    against: list[str] = []
    found: list[Choice] = []
    checks: dict[str, Callable[[], None]] = {"tensorrt": require_tensorrt, "cuda": _try_cuda}
    for backend, check in checks.items():
        try:
            check()
        # A library that is broken fails in its own way.
        except Exception as exc:
            against.append(" ".join(str(exc).split()) or type(exc).__name__)
        else:
            why = f", since {against[0]}" if against else ", since it and a GPU are here"
            found.append(Choice(backend, told[backend] + why))
    why = f", since {' and '.join(dict.fromkeys(against))}" if not found else ""
    return [*found, Choice("cpu", f"ONNX Runtime runs the graphs on the CPU{why}")]


def require_tensorrt() -> None:
    """Refuse where TensorRT cannot build and run engines.

    Raises:
        MissingExtraError: TensorRT or CUDA's run time is not installed.
        EngineError: TensorRT is broken or too old, or no GPU answers.
    """
    if importlib.util.find_spec("tensorrt") is None:
        raise MissingExtraError("TensorRT is not installed")
    _try_gpu(cuda_of_tensorrt())
    try:
        version = str(importlib.import_module("tensorrt").__version__)
    # A library that is broken fails in its own way.
    except Exception as exc:
        raise EngineError(f"TensorRT cannot be imported ({str(exc) or repr(exc)})") from exc
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < LEAST_TENSORRT:
        least = ".".join(map(str, LEAST_TENSORRT))
        raise EngineError(f"TensorRT {version} is too old; {least} or newer is needed")


def find_half(bundle: Bundle) -> Bundle | None:
    """The same model in FP16, from the folder ``NAME-fp16`` beside its own; None where it is not.

    Args:
        bundle: the model; the other bundle gets its composition.
    """
    folder = bundle.folder.with_name(f"{bundle.folder.name}-fp16")
    if bundle.precision != "fp32" or not (folder / MANIFEST).is_file():
        return None
    try:
        half = Bundle.open(folder)
    except BundleError:
        return None
    same = _facts(half) == _facts(bundle) and half.precision == "fp16"
    if not same or not half.verification.get("passes"):
        return None
    return replace(half, composition=bundle.composition)


def _facts(bundle: Bundle) -> tuple[object, ...]:
    """What is the same in every precision of a model; the accuracy is each one's own."""
    weights = {name: fact for name, fact in bundle.weights.items() if name != "accuracy"}
    return bundle.profile, weights, {n: graph.spec for n, graph in bundle.graphs.items()}


def _try_cuda() -> None:
    try:
        require_provider(CUDA)
    except MissingExtraError as exc:
        raise MissingExtraError(f"ONNX Runtime here has no {CUDA}") from exc
    _try_gpu(cuda_of_onnxruntime())


def _try_gpu(generation: int | None) -> None:
    try:
        with closing(Cuda(generation=generation)):
            pass
    except MissingExtraError as exc:
        raise MissingExtraError("CUDA's run time is not installed") from exc
    except EngineError as exc:
        raise EngineError(f"no GPU answers ({exc})") from exc
