"""PyTorch behind the engine contract."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from vcedge_export.torch_engine import TorchEngine
from vcedge_runtime.errors import EngineError
from vcedge_runtime.model.spec import GraphSpec, TensorSpec

SPEC = GraphSpec(
    "difference",
    (TensorSpec("minuend", "float32", ("n",)), TensorSpec("subtrahend", "float32", ("n",))),
    (TensorSpec("difference", "float32", ("n",)),),
)


class Difference(nn.Module):
    """Takes its inputs by position."""

    def forward(self, minuend: torch.Tensor, subtrahend: torch.Tensor) -> torch.Tensor:
        return minuend - subtrahend


def test_inputs_are_given_in_the_specs_order_and_the_output_is_written_in_place() -> None:
    engine = TorchEngine(Difference(), SPEC)
    arrays = {"subtrahend": np.full(3, 5, np.float32), "minuend": np.arange(3, dtype=np.float32)}
    memory = np.zeros((2, 3), np.float32)
    engine.run(arrays, {"difference": memory[1]})
    np.testing.assert_array_equal(memory, [[0, 0, 0], [-5, -4, -3]])
    assert engine.spec is SPEC
    engine.close()


class Both(nn.Module):
    """Gives two outputs."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x + 1, x.sum(dim=0, keepdim=True)


def test_several_outputs_are_written_each_to_its_name() -> None:
    outputs = (TensorSpec("more", "float32", ("n",)), TensorSpec("sum", "float32", (1,)))
    engine = TorchEngine(Both(), GraphSpec("both", (TensorSpec("x", "float32", ("n",)),), outputs))
    out = {"sum": np.zeros(1, np.float32), "more": np.zeros(3, np.float32)}
    engine.run({"x": np.arange(3, dtype=np.float32)}, out)
    np.testing.assert_array_equal(out["more"], [1, 2, 3])
    np.testing.assert_array_equal(out["sum"], [3])


def test_arrays_are_checked_against_the_spec() -> None:
    engine = TorchEngine(Difference(), SPEC)
    with pytest.raises(EngineError, match="difference received subtrahend"):
        engine.run(
            {"minuend": np.zeros(3, np.float32), "subtrahend": np.zeros(4, np.float32)},
            {"difference": np.zeros(3, np.float32)},
        )
