"""Readouts at fixed lengths: what makes them up takes part in nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracle import NumpyColumnTotal, NumpyJointReadout, NumpyLabelReadout
from tests.runtime.engines.fake_cuda import FakeCuda
from tests.runtime.predictors.test_reader import make_spec
from vcedge_runtime.buffers import Buffer, zeros_for
from vcedge_runtime.engines.base import ForwardingEngine
from vcedge_runtime.engines.onnxruntime import engine_from_bundle
from vcedge_runtime.errors import EngineError
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.model.spec import GraphSpec
from vcedge_runtime.predictors.padding import PaddedEngine
from vcedge_runtime.sampling.windows import MASKED_LOGIT

FIXED = {"tiles": (5,), "references": (1, 4)}
LENGTHS = {"h": 4, "w": 6, "slots": 5, "channels": 3, "queries": 7, "columns": 7, "patch": 9}
READOUT = (
    "query:h,w,8 keys:slots,h,w,8 labels:slots,h,w,channels slot_offset:references "
    "query_index:tiles,queries key_index:tiles,references,patch key_bias:tiles,references,patch "
    "distance:queries,patch inner:1"
)
OUTPUTS = (
    "peak:tiles,references,queries total:tiles,references,queries "
    "values:tiles,references,queries,channels"
)
PLAIN = make_spec("label_readout", READOUT, OUTPUTS)
SECOND = make_spec(
    "cluster_readout",
    f"{READOUT} outer:tiles,queries delta:1 query_group:tiles,queries "
    "key_group:tiles,references,patch reach:1",
    OUTPUTS,
)
COLUMNS = make_spec(
    "column_total",
    "query:h,w,8 keys:slots,h,w,8 slot_offset:references column_index:tiles,columns "
    "query_index:tiles,references,patch query_bias:tiles,references,patch "
    "distance:columns,patch inner:1 outer:tiles,references,patch delta:1 "
    "column_group:tiles,references,columns query_group:tiles,references,patch reach:1",
    "log_total:tiles,references,columns",
)


SMALL = ("distance", "inner", "outer", "delta", "reach")
"""Inputs that are small whole numbers, as groups are."""


JOINT = make_spec("joint_readout", READOUT, "values:tiles,queries,channels")


SPECS = {spec.name: spec for spec in (PLAIN, SECOND, COLUMNS, JOINT)}


class NotingEngine(ForwardingEngine):
    """Notes the shapes of its runs."""

    shapes: set[tuple[int, ...]]

    def __init__(self, engine: Any) -> None:
        super().__init__(engine)
        self.shapes = set()

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        bias = inputs["key_bias" if "key_bias" in inputs else "query_bias"]
        self.shapes.add(bias.shape[:2])
        super().run(inputs, out)


def make_arrays(
    spec: GraphSpec, tiles: int, references: int, seed: int, key_dim: int = 8
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs and outputs of one run; some of the cells may not be read."""
    rng = np.random.default_rng(seed)
    lengths = {**LENGTHS, "tiles": tiles, "references": references, 8: key_dim}
    arrays: dict[str, Any] = {}
    for tensor in spec.tensors:
        shape = [lengths.get(dim, dim) for dim in tensor.shape]
        if tensor.name == "slot_offset":
            arrays[tensor.name] = rng.permutation(5)[:references] * 24
        elif tensor.dtype == "int64":
            arrays[tensor.name] = rng.integers(0, 24, shape)
        elif tensor.name.endswith("_bias"):
            masked = rng.random(shape) < 0.3
            arrays[tensor.name] = np.where(masked, MASKED_LOGIT, np.float32(0))
        elif tensor.name == "labels":
            arrays[tensor.name] = rng.dirichlet(np.ones(shape[-1]), shape[:-1]).astype(np.float32)
        elif tensor.name.endswith("_group") or tensor.name in SMALL:
            arrays[tensor.name] = rng.integers(0, 5, shape).astype(np.float32)
        else:
            arrays[tensor.name] = rng.standard_normal(shape).astype(np.float32)
    return tuple(  # type: ignore[return-value]
        {t.name: arrays[t.name] for t in side} for side in (spec.inputs, spec.outputs)
    )


@pytest.mark.parametrize("spec", [PLAIN, SECOND, COLUMNS], ids=lambda spec: spec.name)
@pytest.mark.parametrize("top_k", [None, 4])
@given(tiles=st.integers(1, 5), references=st.integers(1, 4), seed=st.integers(0, 999))
def test_the_oracle_reads_the_same_with_and_without_padding(
    spec: GraphSpec, top_k: int | None, tiles: int, references: int, seed: int
) -> None:
    plain: Any = NumpyColumnTotal(spec)
    if spec is not COLUMNS:
        plain = NumpyLabelReadout(spec, top_k=top_k)
    noting = NotingEngine(plain)
    inputs, expected = make_arrays(spec, tiles, references, seed)
    found = {name: np.full_like(array, np.nan) for name, array in expected.items()}
    plain.run(inputs, expected)
    PaddedEngine(noting, FIXED).run(inputs, found)
    assert noting.shapes == {(5, 1 if references == 1 else 4)}
    read = expected["log_total" if spec is COLUMNS else "peak"] > -5e3
    for name in expected:
        np.testing.assert_allclose(found[name][read], expected[name][read], atol=1e-6)
        # Where nothing may be read, nothing may be in its place.
        if name in ("peak", "log_total"):
            assert (found[name][~read] < -5e3).all()


@pytest.mark.parametrize("top_k", [None, 4])
@given(tiles=st.integers(1, 5), references=st.integers(1, 4), seed=st.integers(0, 999))
def test_the_joint_oracle_reads_the_same_with_and_without_padding(
    top_k: int | None, tiles: int, references: int, seed: int
) -> None:
    engine = NumpyJointReadout(JOINT, top_k=top_k)
    inputs, expected = make_arrays(JOINT, tiles, references, seed)
    found = {"values": np.full_like(expected["values"], np.nan)}
    engine.run(inputs, expected)
    PaddedEngine(engine, FIXED).run(inputs, found)
    np.testing.assert_allclose(found["values"], expected["values"], atol=1e-6)


@pytest.mark.parametrize("graph", SPECS)
def test_an_exported_graph_reads_the_same_with_and_without_padding(
    tiny_bundle: Bundle, graph: str
) -> None:
    engine = engine_from_bundle(tiny_bundle, graph, threads=1)
    spec = SPECS[graph]
    for tiles, references in [(1, 1), (2, 3), (3, 2), (5, 4)]:
        inputs, expected = make_arrays(spec, tiles, references, seed=tiles, key_dim=64)
        found = {name: np.full_like(array, np.nan) for name, array in expected.items()}
        engine.run(inputs, expected)
        PaddedEngine(engine, FIXED).run(inputs, found)
        for name in expected:
            # ONNX Runtime sums up in another order in arrays of another size.
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)


def test_what_is_padded_lies_on_the_host() -> None:
    inputs, out = make_arrays(PLAIN, 2, 2, seed=0)
    inputs["key_bias"] = zeros_for(inputs["key_bias"].shape, FakeCuda())
    with pytest.raises(EngineError, match=r"received \['key_bias'\] in a device's memory"):
        PaddedEngine(NumpyLabelReadout(PLAIN), FIXED).run(inputs, out)
