"""The run-time part of a model of first masks, as data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vcedge_runtime.errors import BundleError, TrackerError
from vcedge_runtime.model.bundle import Bundle, _kind_of
from vcedge_runtime.model.prompt_composition import PromptComposition


def test_what_is_written_is_read_back() -> None:
    parts = PromptComposition(size=320, disc=6, margin=0.5)
    value = parts.to_json()
    assert _kind_of(value) is PromptComposition
    assert PromptComposition.from_json(value) == parts


@pytest.mark.parametrize("value", [None, [], {"disc": 4}, {"disc": 4, "strange": 1}])
def test_what_is_something_else_is_refused(value: object) -> None:
    with pytest.raises(BundleError):
        PromptComposition.from_json(value)


@pytest.mark.parametrize("wrong", [{"size": 16}, {"disc": 0}, {"margin": -0.1}, {"stride": 3}])
def test_settings_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BundleError):
        replace(PromptComposition(), **wrong)


def test_nothing_of_it_can_be_exchanged() -> None:
    assert PromptComposition().exchange(memory=None) == PromptComposition()
    with pytest.raises(BundleError, match="a model of first masks"):
        PromptComposition().exchange(memory="dynamic")


def test_a_model_that_makes_first_masks_tracks_nothing() -> None:
    bundle = Bundle(Path("m"), "m", "prompts-lite", PromptComposition(), {})
    with pytest.raises(TrackerError, match="makes first masks and follows nothing"):
        _ = bundle.tracking
