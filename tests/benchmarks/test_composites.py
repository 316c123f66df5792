"""composites.py and returns.py run, and their tables and JSON hold every model."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge_runtime.model.bundle import Bundle

SCRIPTS = Path(__file__).parents[2] / "benchmarks"
MakeImage = Callable[..., NDArray[np.uint8]]


@pytest.fixture
def davis(make_frame: MakeImage, make_mask: MakeImage, tmp_path: Path) -> Path:
    """A DAVIS folder of three sequences of four frames."""
    for name in ("first", "second", "third"):
        for folder in ("JPEGImages", "Annotations"):
            (tmp_path / folder / "480p" / name).mkdir(parents=True)
        for index in range(4):
            place = f"480p/{name}/{index:05d}.png"
            cv2.imwrite(str(tmp_path / "JPEGImages" / place), make_frame(66, 98, 2 * index))
            mask = np.roll(make_mask(66, 98, 1), 2 * index, axis=1)
            cv2.imwrite(str(tmp_path / "Annotations" / place), 255 * mask)
    return tmp_path


def run_script(
    monkeypatch: pytest.MonkeyPatch, *options: object, script: str = "composites.py"
) -> None:
    monkeypatch.setattr("sys.argv", [script, *map(str, options)])
    runpy.run_path(str(SCRIPTS / script), run_name="__main__")


def test_every_model_is_scored_on_the_same_composites(
    tiny_bundle: Bundle,
    davis: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("onnxruntime")
    report = tmp_path / "report.json"
    options = ["--root", davis, "--objects", "2,3", "--clips", 2, "--frames", 5, "--json", report]
    models = ["--model", tiny_bundle.folder, "--model", f"{tiny_bundle.folder}/"]
    run_script(monkeypatch, *options, *models, "--size", 48, "--threads", 1)
    found = json.loads(report.read_text())
    rows = found["rows"]
    assert [row["objects"] for row in rows] == [2, 2, 3, 3]
    assert [row["model"] for row in rows] == [str(model) for model in models[1::2] * 2]
    assert {model["size"] for model in found["models"].values()} == {48}
    assert rows[0]["clips"] == rows[1]["clips"]
    for row in rows:
        scores = [score for clip in row["clips"] for score in clip["j_and_f"]]
        assert len(scores) == 2 * row["objects"]
        assert row["j_and_f"] == pytest.approx(np.mean(scores))
        assert 0 <= row["occluded"] <= 1
    assert [len(clip["occluded"]) for clip in found["composites"]] == [2, 2, 3, 3]
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0][1:] == ["K", "J&F", "J", "F", "objects", "frames", "occluded"]
    assert [(row[1], row[5], row[6]) for row in cells[1:]] == [
        *[("2", "4", "6")] * 2,
        *[("3", "6", "6")] * 2,
    ]


def test_more_objects_than_sequences_are_refused(
    davis: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match=r"composites\.py: received 3 sequences for 4 composites"):
        run_script(monkeypatch, "--root", davis, "--objects", "4")


def test_objects_that_return_are_counted_for_every_model(
    tiny_bundle: Bundle,
    davis: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("onnxruntime")
    report = tmp_path / "report.json"
    options = ["--root", davis, "--clips", 2, "--size", 48, "--threads", 1, "--json", report]
    run_script(monkeypatch, *options, "--model", tiny_bundle.folder, script="returns.py")
    found = json.loads(report.read_text())
    [row] = found["rows"]
    assert row["clips"] == len(row["scores"]) == len(found["clips"]) == 2
    assert row["absent"] == sum(clip["away"][1] - clip["away"][0] + 1 for clip in found["clips"])
    assert row["empty"] == sum(score["empty"] for score in row["scores"]) / row["absent"]
    assert f" {row['empty']:.0%} |" in capsys.readouterr().out


def test_windows_stand_beside_whole_frames(
    srnet_bundle: Bundle,
    davis: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("onnxruntime")
    report = tmp_path / "report.json"
    options = ["--root", davis, "--model", srnet_bundle.folder, "--size", 64, "--threads", 1]
    options += ["--cameras", 132, "--every", 1, "--objects", 2, "--clips", 1, "--frames", 12]
    run_script(monkeypatch, *options, "--json", report, script="windows.py")
    rows = json.loads(report.read_text())["rows"]
    assert [(row["set"], row["clips"]) for row in rows] == [
        *(("sequences", 3), ("enlarged to 132", 3), ("one small object", 1)),
        *(("2 objects, near", 1), ("2 objects, far apart", 1)),
    ]
    for row in rows:
        for window in ("full", "follow"):
            assert 0 <= row[window]["j_and_f"] <= 1
            assert row[window]["median_ms"] > 0
        assert row["follow"]["memory_bytes"] > row["full"]["memory_bytes"]
        assert row["ran_away"] >= 0
    assert "| one small object" in capsys.readouterr().out


def test_returns_are_scored_through_each_window(
    srnet_bundle: Bundle, davis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    report, model = tmp_path / "report.json", str(srnet_bundle.folder)
    options = ["--root", davis, "--clips", 1, "--json", report, "--size", 80, "--threads", 1]
    options += ["--model", model, "--window", "full", "--window", "follow:search=2"]
    run_script(monkeypatch, *options, script="returns.py")
    rows = json.loads(report.read_text())["rows"]
    assert [row["model"] for row in rows] == [f"{model} full", f"{model} follow:search=2"]
