"""Settings: what their annotations take, how they are read from text, what a refusal says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcedge_runtime.errors import BundleError
from vcedge_runtime.settings import (
    Bounds,
    check_settings,
    parse_setting,
    settings_from_mapping,
    show,
)


@dataclass(frozen=True)
class Inner:
    """Settings within settings."""

    depth: Annotated[int, Bounds(0, 3)] = 0

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class Sample:
    """One field of every sort."""

    count: Annotated[int, Bounds(1, 64)] = 5
    share: Annotated[float, Bounds(0, 1)] = 0.5
    switch: bool = False
    rule: Annotated[str, ("first", "last")] = "first"
    name: str = "plain"
    most: Annotated[int, Bounds(1, 9)] | None = None
    frames: Annotated[tuple[Annotated[int, Bounds(0, 99)], ...], Bounds(1, 3)] = (0, 5)
    sides: tuple[Annotated[int, Bounds(1, 9)] | str, ...] = ()
    inner: Inner = field(default_factory=Inner)
    facts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_settings(self)


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("count", np.int64(64), 64),
        ("share", 1, 1.0),
        ("share", np.float32(0.25), 0.25),
        ("share", np.int8(1), 1.0),
        ("switch", np.bool_(True), True),
        ("rule", np.str_("last"), "last"),
        ("most", None, None),
        ("most", 9, 9),
        ("frames", [0], (0,)),
        ("frames", (np.uint8(7), 8), (7, 8)),
        ("sides", [3, "w"], (3, "w")),
        ("inner", Inner(2), Inner(2)),
        ("facts", {"why": ["a", "b"]}, {"why": ("a", "b")}),
    ],
)
def test_a_value_is_kept_as_its_annotation_has_it(name: str, value: Any, kept: Any) -> None:
    found = getattr(replace(Sample(), **{name: value}), name)
    assert found == kept
    assert type(found) is type(kept)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("count", 0, r"received count=0 for Sample; expected a whole number, 1 to 64"),
        ("count", 65, "a whole number, 1 to 64"),
        ("count", 3.0, "a whole number"),
        ("count", True, "received count=True"),
        ("count", "3", "received count='3'"),
        ("count", None, "a whole number"),
        ("count", 2**70, "received count=1180591620717411303424"),
        pytest.param("count", 10**5000, "received count=a value of type int", id="5,001 digits"),
        ("count", np.float64(4), "a whole number"),
        ("share", float("nan"), "received share=nan for Sample; expected a number, 0 to 1"),
        ("share", float("inf"), "received share=inf"),
        pytest.param("share", 10**400, "received share=1000", id="401 digits"),
        ("share", False, "received share=False"),
        ("share", np.longdouble(0.5), "a number, 0 to 1"),
        ("switch", 1, "received switch=1 for Sample; expected true or false"),
        ("switch", "False", "received switch='False'"),
        ("rule", "middle", "received rule='middle' for Sample; expected one of first, last"),
        ("rule", ["first"], "one of first, last"),
        ("name", b"x", "expected text that prints"),
        ("name", "a\nb", "expected text that prints"),
        ("name", "\ud800", "expected text that prints"),
        ("most", 0, "received most=0 for Sample; expected a whole number, 1 to 9 or none"),
        ("frames", [], "a list of 1 to 3, each a whole number, 0 to 99"),
        ("frames", [1, 2, 3, 4], "a list of 1 to 3"),
        ("frames", [[1]], r"received frames=\[\[1\]\]"),
        ("frames", 5, "a list of 1 to 3"),
        ("frames", {1, 2}, "a list of 1 to 3"),
        ("frames", np.zeros((9, 9), int), r"received frames=array\(\[\[0, 0"),
        ("sides", [0], "a list, each a whole number, 1 to 9 or text that prints"),
        ("inner", {"depth": 1}, "expected Inner"),
        ("facts", {1: []}, "expected names, each with a list, each text that prints"),
        ("facts", {"why": "a"}, "each with a list"),
        ("facts", [], "expected names"),
    ],
)
def test_anything_else_is_refused_in_one_line(name: str, value: Any, expected: str) -> None:
    with pytest.raises(BundleError, match=expected) as refusal:
        Sample(**{name: value})
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 250


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("count", "3", 3),
        ("count", " 3 ", 3),
        ("share", "1", 1.0),
        ("share", "5e-1", 0.5),
        ("switch", "False", False),
        ("switch", "off", False),
        ("switch", "No", False),
        ("switch", "true", True),
        ("switch", "ON", True),
        ("switch", "yes", True),
        ("rule", "last", "last"),
        ("rule", '"last"', "last"),
        ("name", "3", "3"),
        ("most", "none", None),
        ("most", "Null", None),
        ("most", "3", 3),
        ("frames", "[5, 3,1]", (5, 3, 1)),
        ("frames", "[ ]", ()),
    ],
)
def test_text_is_read_by_the_annotation(name: str, text: str, value: Any) -> None:
    found = parse_setting(Sample, name, text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("count", "3.5"),
        ("count", "1e1"),
        ("count", ""),
        pytest.param("count", "9" * 5000, id="5,000 digits"),
        ("share", "half"),
        ("share", "nan"),
        ("switch", "1"),
        ("switch", "maybe"),
        ("most", "nothing"),
        ("frames", "5"),
        ("frames", "[5"),
        ("frames", "[[5]]"),
        ("frames", "[5,]"),
        ("inner", "x"),
    ],
)
def test_text_that_is_no_such_value_is_refused_when_it_is_checked(name: str, text: str) -> None:
    with pytest.raises(BundleError, match=f"received {name}=.* for Sample; expected"):
        Sample(**{name: parse_setting(Sample, name, text)})


@given(st.floats() | st.integers() | st.text() | st.none() | st.booleans() | st.binary())
def test_no_value_is_kept_that_its_annotation_does_not_have(value: Any) -> None:
    for name in ("count", "share", "switch", "rule", "most", "frames"):
        try:
            found = getattr(Sample(**{name: value}), name)
        except BundleError:
            continue
        assert found == value
        expected = {"count": int, "share": float, "switch": bool, "rule": str}
        assert type(found) is expected.get(name, type(value))


def test_names_that_are_no_settings_are_refused() -> None:
    assert settings_from_mapping(Inner, {"depth": 2}) == Inner(2)
    with pytest.raises(BundleError, match="received 'dept' for Inner; expected depth"):
        settings_from_mapping(Inner, {"dept": 2})
    with pytest.raises(BundleError, match="received 3 for Inner; expected depth"):
        settings_from_mapping(Inner, {3: 2})
    with pytest.raises(BundleError, match=r"received \[\] for Inner; expected its settings"):
        settings_from_mapping(Inner, [])


def test_what_was_received_is_shown_on_one_short_line() -> None:
    assert show("a\nb") == r"'a\nb'"
    assert show(np.eye(2)) == "array([[1., 0.], [0., 1.]])"
    assert len(show("x" * 1000)) < 70
