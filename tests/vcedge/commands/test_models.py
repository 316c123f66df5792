"""The list of shipped models, and what it says of each."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from vcedge.commands.models import command, describe_accuracy, describe_verification, megabytes_of
from vcedge_runtime.model.bundle import (
    DEFAULT_LABEL_MODEL,
    DEFAULT_MODEL,
    Bundle,
    shipped_models,
)
from vcedge_runtime.model.composition import Composition
from vcedge_runtime.model.object_composition import ObjectComposition


def ship(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    for module in ("vcedge_runtime.model.bundle", "vcedge.commands.models"):
        monkeypatch.setattr(f"{module}.MODELS", folder)


def test_every_shipped_model_has_a_row(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, measured in (("slow", {"j_and_f": 0.7, "on": "two clips"}), ("fast", "unmeasured")):
        shutil.copytree(tiny_bundle.folder, tmp_path / name)
        weights = {"accuracy": measured}
        replace(tiny_bundle, folder=tmp_path / name, name=name, weights=weights).save()
    ship(monkeypatch, tmp_path)
    found = CliRunner().invoke(command, env={"COLUMNS": "200"})
    assert found.exit_code == 0, found.output
    rows = [line.split() for line in found.output.splitlines()]
    size = f"{megabytes_of(tiny_bundle):.1f}"
    accuracy = ["J&F", "0.700", "on", "two", "clips"]
    assert ["slow", "edge", "fp32", "64", "yes", *accuracy, size] in rows
    assert ["fast", "edge", "fp32", "64", "yes", "unmeasured", size] in rows
    assert "--model fast" in found.output


def test_an_installation_without_models_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship(monkeypatch, tmp_path)
    found = CliRunner().invoke(command)
    assert found.exit_code == 0
    assert "no model came with this installation" in found.output
    assert "vcedge export" in found.output


def test_the_size_of_a_bundle_is_that_of_its_graphs(tiny_bundle: Bundle) -> None:
    graphs = sum(path.stat().st_size for path in tiny_bundle.folder.glob("*.onnx"))
    assert megabytes_of(tiny_bundle) == graphs / 1e6


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ({}, ""),
        ({"accuracy": {}}, ""),
        ({"accuracy": "0.7 somewhere"}, "0.7 somewhere"),
        ({"accuracy": {"j_and_f": 0.68}}, "J&F 0.680"),
        ({"accuracy": {"j_and_f": 0.68, "on": "dev"}}, "J&F 0.680 on dev"),
    ],
)
def test_accuracy_is_told_as_far_as_it_is_known(weights: dict[str, object], text: str) -> None:
    assert describe_accuracy(weights) == text


def test_a_failed_verification_is_not_told_as_a_missing_one() -> None:
    told = [describe_verification(found) for found in ({}, {"passes": False}, {"passes": True})]
    assert told == ["not verified", "FAILED", "yes"]


@pytest.mark.skipif(DEFAULT_MODEL not in shipped_models(), reason="no model is shipped here")
def test_masks_are_followed_by_srnet_and_points_by_a_model_that_propagates_labels() -> None:
    said = CliRunner().invoke(command, env={"COLUMNS": "200"}).output
    assert f"{DEFAULT_MODEL} follows masks where --model is not given" in said
    assert f"{DEFAULT_LABEL_MODEL} follows points where --model is not given" in said
    assert isinstance(Bundle.open(DEFAULT_MODEL).composition, ObjectComposition)
    assert isinstance(Bundle.open(DEFAULT_LABEL_MODEL).composition, Composition)
