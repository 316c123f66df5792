"""A graph run by PyTorch, so that the same tracker can be run on the model that was exported."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from vcedge_runtime.buffers import HostArray
from vcedge_runtime.engines.base import HostEngine
from vcedge_runtime.model.spec import GraphSpec


class TorchEngine(HostEngine):
    """Runs a torch module behind the engine contract.

    Args:
        module: takes the spec's inputs by position and gives its outputs: a tensor, or a tuple of
            several.
        spec: the graph's tensors.
    """

    def __init__(self, module: nn.Module, spec: GraphSpec) -> None:
        super().__init__(spec)
        self._module = module.eval()

    def _compute(self, inputs: Mapping[str, HostArray], out: Mapping[str, HostArray]) -> None:
        with torch.inference_mode():
            found = self._module(*(torch.from_numpy(inputs[t.name]) for t in self.spec.inputs))
        outputs = found if isinstance(found, tuple) else (found,)
        for tensor, output in zip(self.spec.outputs, outputs, strict=True):
            out[tensor.name][...] = output.numpy()
