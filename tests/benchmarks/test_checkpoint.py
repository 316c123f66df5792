"""The script that measures a run of SRNet while it trains."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch trains")

from tests.benchmarks.conftest import SCRIPTS  # noqa: E402
from vcedge.models.weights import load_weights  # noqa: E402
from vcedge.training.run import TrainingRun  # noqa: E402
from vcedge.training.settings import RunSettings  # noqa: E402
from vcedge.training.srnet import SRNetObjective  # noqa: E402


@pytest.fixture
def run(tmp_path: Path) -> TrainingRun:
    """A run that has a checkpoint and whose mean weights are not its own."""
    torch.manual_seed(0)
    settings = RunSettings("srnet-lite", steps=4, batch=1, sizes=((1.0, 64),))
    run = TrainingRun(settings, SRNetObjective("srnet-lite"), None, tmp_path, "cpu")  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in run.delivered.parameters():
            parameter.add_(0.01)
    run.step = 3
    run.save()
    return run


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["checkpoint.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(SCRIPTS / "checkpoint.py"), run_name="__main__")
    return int(stop.value.code or 0)


def test_mean_weights_are_scored_and_written(
    run: TrainingRun, davis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    curve, weights = tmp_path / "curve.jsonl", tmp_path / "mean.safetensors"
    options = ["--root", davis, "--sequences", "first", "--size", 96, "--curve", curve]
    for _ in range(2):
        assert call(monkeypatch, run.checkpoint_path, *options, "--weights", weights) == 0
    lines = [json.loads(line) for line in curve.read_text().splitlines()]
    assert len(lines) == 2
    assert lines[0] == lines[1] == json.loads(capsys.readouterr().out.splitlines()[-1])
    assert lines[0]["steps"] == 3
    assert lines[0]["size"] == 96
    assert lines[0]["sequences"] == {"first": lines[0]["j_and_f"]}
    expected = run.delivered.state_dict()
    for name, value in load_weights(weights).network.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-3)


def test_what_is_no_checkpoint_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    torch.save({"step": 1}, tmp_path / "checkpoint.pt")
    assert call(monkeypatch, tmp_path / "checkpoint.pt") == 1
    assert "which is no checkpoint of SRNet" in capsys.readouterr().err
