"""Every setting of every part, and every value of a manifest, given what nobody should give it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vcedge_runtime.errors import BundleError
from vcedge_runtime.memory.references import ReferencePolicy
from vcedge_runtime.model.bundle import MANIFEST, Bundle, GraphFile
from vcedge_runtime.model.composition import KINDS, LABEL_PARTS, Composition, part_from_json
from vcedge_runtime.model.object_composition import ObjectComposition
from vcedge_runtime.model.spec import GraphSpec, TensorSpec
from vcedge_runtime.reading import sha256_of

NAN, INFINITY = float("nan"), float("inf")
JSON: tuple[Any, ...] = (
    *(NAN, INFINITY, -INFINITY, -1, -0.0, 0, 1, 3, 3.5, 1e-320, 1e308, -1e308),
    *(2**31, 2**63, 2**70, 10**400, True, False, None, "", "x", "3", "False", "\ud800", "a\nb"),
    *([], [1], [0], [0, NAN], [[1]], ["x"], [[[[]]]], [1] * 1000, {}, {"kind": "x"}, {"": {}}),
)
PYTHON: tuple[Any, ...] = (
    *JSON,
    *(10**5000, (), (0,), (1, 1.5), {1, 2}, b"x", object, object(), 1j, range(3), {1: 2}),
    *(np.int64(3), np.uint8(200), np.float32(0.5), np.float64(NAN), np.bool_(True), np.str_("x")),
    *(np.longdouble(1), np.array(3), np.zeros((9, 9)), np.zeros(0), ReferencePolicy()),
)
TEXTS = (
    *("nan", "inf", "-inf", "-1", "0", "1", "3", "3.5", "1e308", "1e999", "9" * 400, "9" * 5000),
    *("", " ", "x", "true", "False", "off", "none", "null", '"x"', '"', "'", "=", ":", "\n", "\0"),
    *("[]", "[1]", "[0,5]", "[", "]", "[[1]]", "[nan]", "[1,2", "1,2", "[1][1]", "{}", '{"a":1}'),
)
LABELS = Composition(8, 64, 480)
OBJECTS = ObjectComposition(16, 64, 128, 480)
PARTS = [(part, kind, made) for part, kinds in KINDS.items() for kind, made in kinds.items()]
WHOLE = {part: LABELS if part in LABEL_PARTS else OBJECTS for part in KINDS}
"""A composition that has a part."""


def attempt(make: Callable[[], Any]) -> Any:
    """What is made, or the one line in which it was refused."""
    try:
        return make()
    except BundleError as exc:
        return str(exc)


def try_each(makers: Iterator[Callable[[], Any]]) -> tuple[int, int]:
    """Make each composition, and count those that were made and those that were refused."""
    found = [attempt(make) for make in makers]
    refusals = [each for each in found if isinstance(each, str)]
    assert not [text for text in refusals if "\n" in text or len(text) > 500]
    for composition in found:
        if not isinstance(composition, str):
            written = json.dumps(composition.to_json(), allow_nan=False)
            assert type(composition).from_json(json.loads(written)) == composition
    return len(found) - len(refusals), len(refusals)


def test_every_setting_takes_or_refuses_whatever_python_gives() -> None:
    def make() -> Iterator[Callable[[], Any]]:
        for value in PYTHON:
            for part, _, kind in PARTS:
                for entry in fields(kind):
                    settings = {entry.name: value}
                    yield lambda p=part, k=kind, s=settings: WHOLE[p].exchange(**{p: k(**s)})
            for whole in (LABELS, OBJECTS):
                for entry in fields(whole):
                    yield partial(replace, whole, **{entry.name: value})
                    yield partial(whole.exchange, **{entry.name: value})

    made, refused = try_each(make())
    assert made > 150
    assert refused > 3500


def test_every_setting_takes_or_refuses_whatever_a_user_writes() -> None:
    def make() -> Iterator[Callable[[], Any]]:
        for text in TEXTS:
            for part, name, kind in PARTS:
                for whole in (LABELS, OBJECTS):
                    yield partial(whole.exchange, **{part: text})
                    yield partial(whole.exchange, **{part: f"{name}{text}"})
                    yield partial(whole.exchange, **{part: f"{name}:{text}"})
                for entry in fields(kind):
                    written = f"{name}:{entry.name}={text}"
                    yield partial(WHOLE[part].exchange, **{part: written})
            for whole in (LABELS, OBJECTS):
                for entry in fields(whole):
                    yield partial(whole.exchange, **{entry.name: text})

    made, refused = try_each(make())
    assert made > 150
    assert refused > 3500


def test_every_setting_takes_or_refuses_whatever_json_holds() -> None:
    def make() -> Iterator[Callable[[], Any]]:
        for value in JSON:
            for part, name, kind in PARTS:
                whole = WHOLE[part]
                for wrong in (value, {"kind": value}, {"kind": name, "foreign": value}):
                    yield partial(type(whole).from_json, {**whole.to_json(), part: wrong})
                for entry in fields(kind):
                    own = {"kind": name, entry.name: value}
                    yield partial(type(whole).from_json, {**whole.to_json(), part: own})
            for whole in (LABELS, OBJECTS):
                yield partial(type(whole).from_json, value)
                for name in whole.to_json():
                    yield partial(type(whole).from_json, {**whole.to_json(), name: value})

    made, refused = try_each(make())
    assert made > 120
    assert refused > 2000


@pytest.fixture(params=[LABELS, OBJECTS], ids=["labels", "objects"])
def bundle(request: pytest.FixtureRequest, tmp_path: Path) -> Bundle:
    """A saved bundle of one graph, which is empty."""
    (tmp_path / "encoder.onnx").write_bytes(b"")
    image = TensorSpec("image", "float32", (1, 3, "H", "W"))
    spec = GraphSpec("encoder", (image,), (TensorSpec("key", "float32", ("h", "w", 64)),))
    graph = GraphFile(
        *(spec, "encoder.onnx", sha256_of(tmp_path / "encoder.onnx"), "fp32", 1234.5),
        islands={"range": ("softmax",)},
    )
    bundle = Bundle(tmp_path, "toy", "edge", request.param, {"encoder": graph}, {"steps": 8000})
    bundle.save()
    return bundle


def paths_in(value: Any) -> Iterator[tuple[Any, ...]]:
    """The place of everything in a JSON value, the whole first."""
    yield ()
    inner: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
    for name, entry in inner:
        yield from ((name, *path) for path in paths_in(entry))


def exchange_at(value: Any, path: tuple[Any, ...], other: Any) -> Any:
    """A JSON value with another at a place."""
    if not path:
        return other
    copy = value.copy()
    copy[path[0]] = exchange_at(value[path[0]], path[1:], other)
    return copy


def test_every_value_of_a_manifest_is_taken_or_refused_in_one_line(bundle: Bundle) -> None:
    path, found = bundle.folder / MANIFEST, []
    manifest = json.loads(path.read_text())
    # Within a composition the sweeps above go further.
    places = [place for place in paths_in(manifest) if "composition" not in place[:-1]]
    for place, wrong in product(places, JSON):
        path.write_text(json.dumps(exchange_at(manifest, place, wrong)))
        found.append(attempt(lambda: Bundle.open(bundle.folder)))
        if isinstance(found[-1], Bundle):
            found[-1].save()
            assert Bundle.open(bundle.folder) == found[-1]
    refusals = [each for each in found if isinstance(each, str)]
    assert not [text for text in refusals if "\n" in text]
    assert len(refusals) > 1000
    assert len(found) - len(refusals) > 100


def test_a_manifest_that_nests_without_end_is_refused(bundle: Bundle) -> None:
    (bundle.folder / MANIFEST).write_text("[" * 100_000)
    with pytest.raises(BundleError, match=r"bundle\.json cannot be read"):
        Bundle.open(bundle.folder)


@pytest.mark.parametrize("model", [None, 3, b"x", [], "\0", "a" * 5000, Path("b" * 300)])
def test_what_names_no_model_is_refused(model: Any) -> None:
    with pytest.raises(BundleError, match="no model"):
        Bundle.open(model)


@pytest.mark.parametrize(("part", "kind"), [(part, kind) for part, kind, _ in PARTS])
def test_defaults_are_within_their_own_bounds(part: str, kind: str) -> None:
    assert part_from_json(part, {"kind": kind}) == KINDS[part][kind]()
