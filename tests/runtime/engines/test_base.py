"""Engines around engines, and engines of the host."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from tests.runtime.engines.fake_cuda import FakeCuda
from vcedge.bench.work import MeteredEngine
from vcedge_calibration.recording import RecordingEngine
from vcedge_runtime.buffers import HostArray, zeros_for
from vcedge_runtime.engines.base import ForwardingEngine, HostEngine
from vcedge_runtime.errors import EngineError
from vcedge_runtime.model.spec import GraphSpec, TensorSpec

SPEC = GraphSpec(
    "double", (TensorSpec("x", "float32", ("n",)),), (TensorSpec("y", "float32", ("n",)),)
)


class Doubling(HostEngine):
    closed = False

    def _compute(self, inputs: Mapping[str, HostArray], out: Mapping[str, HostArray]) -> None:
        out["y"][...] = 2 * inputs["x"]

    def close(self) -> None:
        self.closed = True


def test_an_engine_around_another_runs_and_closes_it() -> None:
    inner, y = Doubling(SPEC), np.zeros(2, np.float32)
    engine = ForwardingEngine(inner)
    engine.run({"x": np.ones(2, np.float32)}, {"y": y})
    engine.close()
    assert y.tolist() == [2, 2]
    assert engine.spec is SPEC
    assert inner.closed


def test_an_engine_of_the_host_takes_what_its_spec_says_and_no_devices_arrays() -> None:
    engine, x = Doubling(SPEC), np.ones(2, np.float32)
    with pytest.raises(EngineError, match="received y float32"):
        engine.run({"x": x}, {"y": np.zeros(3, np.float32)})
    with pytest.raises(EngineError, match=r"runs on the host, and received \['y'\]"):
        engine.run({"x": x}, {"y": zeros_for((2,), FakeCuda())})


def test_what_meters_and_what_records_forward_alike() -> None:
    for kind in (MeteredEngine, RecordingEngine):
        assert issubclass(kind, ForwardingEngine)
        assert not {"spec", "close"} & set(vars(kind))
