"""Readouts at a few fixed lengths, so that a device meets the same shapes again and again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.buffers import Buffer, host_arrays
from vcedge_runtime.engines.base import Engine, ForwardingEngine
from vcedge_runtime.model.spec import TensorSpec, bind_lengths
from vcedge_runtime.sampling.windows import MASKED_LOGIT

BIASES = ("key_bias", "query_bias")
"""Inputs that are added to logits."""


class PaddedEngine(ForwardingEngine):
    """Makes runs longer than they are, and drops what is read beyond.

    What makes up a length are cells 0 whose logits are masked, so that they take part in nothing,
    not in a choice of the k largest either.

    Args:
        engine: what runs.
        lengths: by name, those that a run may have; it gets the least that holds it.
    """

    def __init__(self, engine: Engine, lengths: Mapping[str, Sequence[int]]) -> None:
        super().__init__(engine)
        self._lengths = lengths

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        """Run once; see ``Engine.run``; what is padded lies on the host."""
        given = bind_lengths(self.spec, {**inputs, **out})
        lengths = {
            name: min(length for length in some if length >= given[name])
            for name, some in self._lengths.items()
        }
        short = {
            tensor.name: self._shape(tensor, {**given, **lengths})
            for tensor in self.spec.tensors
            if any(lengths.get(dim, given.get(dim)) != given.get(dim) for dim in _names(tensor))
        }
        if not short:
            super().run(inputs, out)
            return
        host = host_arrays(self.spec.name, {n: a for n, a in inputs.items() if n in short})
        padded = {name: _pad(name, array, short[name]) for name, array in host.items()}
        found = {n: np.empty(short.get(n, a.shape), a.dtype) for n, a in out.items()}
        super().run({**inputs, **padded}, found)
        for name, array in host_arrays(self.spec.name, out).items():
            array[...] = found[name][tuple(map(slice, array.shape))]

    def _shape(self, tensor: TensorSpec, lengths: Mapping[str, int]) -> tuple[int, ...]:
        return tuple(lengths[dim] if isinstance(dim, str) else dim for dim in tensor.shape)


def _names(tensor: TensorSpec) -> list[str]:
    return [dim for dim in tensor.shape if isinstance(dim, str)]


def _pad(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    padded = np.full(shape, MASKED_LOGIT if name in BIASES else 0, array.dtype)
    padded[tuple(map(slice, array.shape))] = array
    return padded
