"""Names, dtypes and shapes of an exported graph: what export writes and the runtime checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from vcedge_runtime.buffers import Buffer, DeviceArray
from vcedge_runtime.errors import BundleError, EngineError
from vcedge_runtime.settings import NAME, Bounds, check_settings, show

Name = Annotated[str, NAME]
Dim = Annotated[int, Bounds(1, 2**31 - 1)] | Name
"""A fixed length, or the name of a length that may differ from run to run."""
DTYPES = ("float32", "int64")
"""Of tensors, by numpy's names."""


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a graph.

    Attributes:
        name: the same in PyTorch, ONNX, TensorRT and numpy.
        dtype: one of ``DTYPES``.
        shape: one entry a dimension; equal names are equal lengths within one run of a graph.
    """

    name: Name
    dtype: Annotated[str, DTYPES]
    shape: tuple[Dim, ...]

    def __post_init__(self) -> None:
        check_settings(self)

    def describe(self) -> str:
        """Return ``name dtype(shape)``."""
        return f"{self.name} {self.dtype}({', '.join(map(str, self.shape))})"

    @classmethod
    def from_json(cls, value: Any) -> TensorSpec:
        """Read ``[name, dtype, shape]``.

        Raises:
            BundleError: it is something else.
        """
        if not isinstance(value, list) or len(value) != 3:
            raise BundleError(f"received {show(value)}; expected a tensor's name, dtype and shape")
        return cls(*value)


@dataclass(frozen=True)
class GraphSpec:
    """One graph: its inputs and outputs, in order."""

    name: Name
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """Inputs, then outputs."""
        return self.inputs + self.outputs

    def check_arrays(self, arrays: Mapping[str, Buffer]) -> None:
        """Check one run's inputs and outputs together.

        Raises:
            EngineError: a tensor is missing, unknown, not contiguous, or of another dtype or shape.
        """
        names = {tensor.name for tensor in self.tensors}
        if set(arrays) != names:
            raise EngineError(
                f"graph {self.name} received tensors {sorted(arrays)}; expected {sorted(names)}"
            )
        lengths: dict[str, int] = {}
        for tensor in self.tensors:
            self._check_array(tensor, arrays[tensor.name], lengths)

    def _check_array(self, tensor: TensorSpec, array: Buffer, lengths: dict[str, int]) -> None:
        fits = array.dtype == np.dtype(tensor.dtype) and array.ndim == len(tensor.shape)
        for want, length in zip(tensor.shape, array.shape, strict=False):
            expected = lengths.setdefault(want, length) if isinstance(want, str) else want
            fits = fits and expected == length
        contiguous = isinstance(array, DeviceArray) or array.flags.c_contiguous
        if not fits or not contiguous:
            raise EngineError(
                f"graph {self.name} received {tensor.name} {array.dtype}{array.shape}"
                f"{'' if contiguous else ', not contiguous'}; "
                f"expected {tensor.describe()} with {lengths}, contiguous"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the spec as plain JSON values."""
        return {
            side: [[t.name, t.dtype, list(t.shape)] for t in tensors]
            for side, tensors in (("inputs", self.inputs), ("outputs", self.outputs))
        }

    @classmethod
    def from_json(cls, name: str, value: Any) -> GraphSpec:
        """Read a spec back.

        Raises:
            BundleError: the value is not what ``to_json`` writes.
        """
        try:
            sides = [value[side] for side in ("inputs", "outputs")]
            return cls(name, *(tuple(TensorSpec.from_json(t) for t in side) for side in sides))
        except (KeyError, TypeError, BundleError) as exc:
            raise BundleError(
                f"the spec of graph {show(name)} in bundle.json is damaged: {exc}"
            ) from exc


def bind_lengths(spec: GraphSpec, arrays: Mapping[str, Buffer]) -> dict[str, int]:
    """Length of every named dimension of a run.

    Args:
        spec: of the graph.
        arrays: its inputs and outputs, which fit it.
    """
    return {
        dim: length
        for tensor in spec.tensors
        for dim, length in zip(tensor.shape, arrays[tensor.name].shape, strict=True)
        if isinstance(dim, str)
    }
