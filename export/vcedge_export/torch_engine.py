"""A graph run by PyTorch, so that the same tracker can be run on the model that was exported."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from vcedge_runtime.buffers import Buffer, host_arrays
from vcedge_runtime.model.spec import GraphSpec


class TorchEngine:
    """Runs a torch module behind the engine contract.

    Args:
        module: takes the spec's inputs by position and gives its outputs: a tensor, or a tuple of
            several.
        spec: the graph's tensors.
    """

    def __init__(self, module: nn.Module, spec: GraphSpec) -> None:
        self._module = module.eval()
        self._spec = spec

    @property
    def spec(self) -> GraphSpec:
        """Names, dtypes and shapes of the graph."""
        return self._spec

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        """Run once; see ``Engine.run``."""
        self._spec.check_arrays({**inputs, **out})
        given, written = (host_arrays(self._spec.name, arrays) for arrays in (inputs, out))
        with torch.inference_mode():
            found = self._module(*(torch.from_numpy(given[t.name]) for t in self._spec.inputs))
        outputs = found if isinstance(found, tuple) else (found,)
        for tensor, output in zip(self._spec.outputs, outputs, strict=True):
            written[tensor.name][...] = output.numpy()

    def close(self) -> None:
        """Hold nothing."""
