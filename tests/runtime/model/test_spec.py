"""Specs: what fits, what does not, and the way through JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcedge_runtime.errors import BundleError, EngineError
from vcedge_runtime.model.spec import GraphSpec, TensorSpec

SPEC = GraphSpec(
    "adder",
    (TensorSpec("left", "float32", (2, "h", "w")), TensorSpec("index", "int64", ("h",))),
    (TensorSpec("sum", "float32", ("h", "w")),),
)


def arrays(**changed: Any) -> dict[str, Any]:
    """Make arrays that fit ``SPEC``, but for those that are changed."""
    fitting = {
        "left": np.zeros((2, 3, 4), np.float32),
        "index": np.zeros(3, np.int64),
        "sum": np.zeros((3, 4), np.float32),
    }
    return {**fitting, **changed}


def test_arrays_that_fit_pass() -> None:
    SPEC.check_arrays(arrays())


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("left", np.zeros((2, 3, 4), np.float64)),
        ("index", np.zeros(3, np.int32)),
        ("left", np.zeros((1, 3, 4), np.float32)),
        ("left", np.zeros((3, 4), np.float32)),
        ("left", np.zeros((2, 3, 4, 1), np.float32)),
        ("index", np.zeros(4, np.int64)),
        ("sum", np.zeros((4, 3), np.float32)),
        ("sum", np.zeros((4, 3), np.float32).T),
        ("sum", np.zeros((3, 8), np.float32)[:, ::2]),
    ],
    ids=[
        "other dtype",
        "other width of an integer",
        "other fixed length",
        "a dimension too few",
        "a dimension too many",
        "other length than its namesake",
        "turned",
        "turned view",
        "gaps",
    ],
)
def test_an_array_that_does_not_fit_is_named(name: str, array: Any) -> None:
    with pytest.raises(EngineError, match=rf"adder received {name} .*expected {name} "):
        SPEC.check_arrays(arrays(**{name: array}))


def test_an_array_with_gaps_is_called_not_contiguous() -> None:
    with pytest.raises(EngineError, match="not contiguous"):
        SPEC.check_arrays(arrays(sum=np.zeros((4, 3), np.float32).T))


def test_missing_and_unknown_tensors_are_named() -> None:
    missing = arrays()
    del missing["index"]
    with pytest.raises(EngineError, match=r"\['left', 'sum'\]; expected \['index', 'left', 'sum'"):
        SPEC.check_arrays(missing)
    with pytest.raises(EngineError, match="guess"):
        SPEC.check_arrays(arrays(guess=np.zeros(1)))


NAMES = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)
TENSORS = st.builds(
    TensorSpec,
    NAMES,
    st.sampled_from(["float32", "int64"]),
    st.lists(st.integers(1, 9) | NAMES, max_size=5).map(tuple),
)
SIDES = st.lists(TENSORS, max_size=4).map(tuple)


@given(st.builds(GraphSpec, NAMES, SIDES, SIDES))
def test_a_spec_survives_json(spec: GraphSpec) -> None:
    value = json.loads(json.dumps(spec.to_json()))
    assert GraphSpec.from_json(spec.name, value) == spec


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"inputs": []},
        {"inputs": 3, "outputs": []},
        {"inputs": [["a", "float32"]], "outputs": []},
        {"inputs": [["a", "float32", 3]], "outputs": []},
        {"inputs": [["a", "float33", []]], "outputs": []},
        {"inputs": [["a", "float32", [1.5]]], "outputs": []},
        {"inputs": [[1, "float32", []]], "outputs": []},
        {"inputs": [["a", "float32", "hw"]], "outputs": []},
        [],
        None,
    ],
)
def test_a_damaged_spec_is_refused(value: Any) -> None:
    with pytest.raises(BundleError, match=r"the spec of graph 'adder' in bundle\.json is damaged"):
        GraphSpec.from_json("adder", value)
