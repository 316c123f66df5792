"""The composition of a model that segments each object on its own, as plain data."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vcedge_runtime.errors import BundleError
from vcedge_runtime.frames.colour import IMAGENET_LITE, LAB
from vcedge_runtime.model.composition import Composition
from vcedge_runtime.model.object_composition import ObjectComposition

PLAIN = ObjectComposition(16, 64, 128, 480)


@pytest.mark.parametrize("colour", [LAB, IMAGENET_LITE])
def test_the_input_colour_is_written_and_read_back(colour: Any) -> None:
    parts = ObjectComposition(16, 64, 128, 480, colour=colour)
    written = json.loads(json.dumps(parts.to_json()))
    assert written["colour"]["space"] == colour.space
    assert ObjectComposition.from_json(written) == parts
    assert parts.exchange(edges=True).colour == colour


def test_a_manifest_from_before_colour_was_named_means_lab() -> None:
    written = PLAIN.to_json()
    del written["colour"]
    assert ObjectComposition.from_json(written) == PLAIN
    assert PLAIN.colour == LAB


def test_models_that_propagate_labels_take_lab_unless_they_say_otherwise() -> None:
    plain = Composition(8, 64, 480)
    assert plain.colour == LAB
    before = plain.to_json()
    del before["colour"]
    assert Composition.from_json(before) == plain
    other = Composition(8, 64, 480, colour=IMAGENET_LITE)
    assert Composition.from_json(json.loads(json.dumps(other.to_json()))) == other
    assert other.exchange(motion=False).colour == IMAGENET_LITE


@pytest.mark.parametrize("wrong", [{"space": "hsv"}, {"scale": [1, 2]}])
def test_an_unknown_colour_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="for InputColour; expected"):
        ObjectComposition.from_json({**PLAIN.to_json(), "colour": wrong})
