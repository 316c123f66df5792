"""What ``vcedge doctor`` finds, and with which exit code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from vcedge.commands import doctor
from vcedge_runtime.errors import EngineError
from vcedge_runtime.model import bundle as bundles
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.tracker import Tracker

WIDE = {"COLUMNS": "200"}


@pytest.fixture
def shipped(tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of shipped models that holds one, ``tiny``."""
    pytest.importorskip("onnxruntime")
    shutil.copytree(tiny_bundle.folder, tmp_path / "tiny")
    monkeypatch.setattr(bundles, "MODELS", tmp_path)
    return tmp_path


@pytest.mark.usefixtures("shipped")
def test_a_machine_that_tracks_is_told_so() -> None:
    found = CliRunner().invoke(doctor.command, env=WIDE)
    assert found.exit_code == 0, found.output
    rows = [line.split() for line in found.output.splitlines()]
    assert ["tiny", "yes", "tracks;", "its", "graphs", "are", "verified:", "yes"] in rows
    assert "ONNX Runtime" in found.output
    for part in (
        "track, mask, demo, bench, eval",
        "track --backend cuda",
        "track --backend tensorrt",
    ):
        assert part in found.output
    assert "next: vcedge demo" in found.output


@pytest.mark.usefixtures("shipped")
def test_json_holds_the_machine_and_the_models() -> None:
    found = json.loads(CliRunner().invoke(doctor.command, ["--json"]).output)
    assert found["machine"]["cores"] >= 1
    assert [(model["name"], model["works"]) for model in found["models"]] == [("tiny", True)]


def test_a_damaged_model_is_told_with_its_mend(shipped: Path) -> None:
    (shipped / "tiny" / "encoder.onnx").write_bytes(b"something else")
    found = CliRunner().invoke(doctor.command, env=WIDE)
    assert found.exit_code == 1
    assert "sha256" in found.output
    assert "next:" not in found.output


@pytest.mark.usefixtures("shipped")
def test_a_backend_that_fails_is_told_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise EngineError("ONNX Runtime cannot load the graph")

    monkeypatch.setattr(Tracker, "open", fail)
    found = CliRunner().invoke(doctor.command, env=WIDE)
    assert found.exit_code == 1
    assert "ONNX Runtime cannot load the graph" in found.output


def test_an_installation_without_models_cannot_track(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "MODELS", tmp_path)
    found = CliRunner().invoke(doctor.command, env=WIDE)
    assert found.exit_code == 1
    assert "no model came with this installation" in found.output
