"""What every exported module is."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vcedge_runtime.model.spec import GraphSpec


class GraphModule(nn.Module, ABC):
    """A module that declares its graph: it takes the inputs by position and gives the outputs."""

    @property
    @abstractmethod
    def spec(self) -> GraphSpec:
        """The graph's tensors."""

    def make_examples(self, lengths: Mapping[str, int]) -> tuple[Tensor, ...]:
        """Zeros for every input, in order.

        Args:
            lengths: of each length that the spec names.
        """
        return tuple(
            torch.zeros(
                [lengths[dim] if isinstance(dim, str) else dim for dim in tensor.shape],
                dtype=getattr(torch, tensor.dtype),
            )
            for tensor in self.spec.inputs
        )

    def count_macs(self, lengths: Mapping[str, int]) -> int:
        """Multiply-accumulates of one run's convolutions and matrix products.

        They are counted on a run of shapes alone, so that a large image costs no more.

        Args:
            lengths: as for ``make_examples``.
        """
        # Slow to import, and only an export counts.
        from torch._subclasses.fake_tensor import FakeTensorMode

        # The counter follows gradients, of which there are none here.
        counted = copy.deepcopy(self).requires_grad_(False)
        with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):
            examples = self.make_examples(lengths)
            with FlopCounterMode(display=False) as counter:
                counted(*examples)
        return int(counter.get_total_flops()) // 2
