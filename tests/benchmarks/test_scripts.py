"""Every script of benchmarks/ runs, and its JSON holds what it should; never how fast."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.benchmarks.conftest import SCRIPTS, RunScript
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.model.composition import LABEL_PARTS, part_from_json
from vcedge_runtime.timing import STAGES as TRACKING
from vcedge_runtime.video.palette import read_label_png

Frame = NDArray[np.uint8]


def test_the_readout_reads_the_same_in_every_way(
    run_script: RunScript, capsys: pytest.CaptureFixture[str]
) -> None:
    cuts = ["--tiles", "3,6", "--logits", "0.01,4", "--threads", 1]
    found = run_script("readout.py", "--grid", "7x9", "--rounds", 2, *cuts)
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("| ")
    ]
    assert [way["way"] for way in found["ways"]] == [
        *["ONNX Runtime"] * 4,
        "PyTorch, dense",
    ]
    assert {len(way["times_ms"]) for way in found["ways"]} == {2}
    # Sums in another order; labels are at most 1.
    assert all(float(row[-1]) < 1e-4 for row in rows[1:])


def test_accuracy_and_speed_are_told_for_every_size_and_sequence(
    run_script: RunScript, davis: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vcedge.bench import ceilings

    quick = ceilings.Ceilings(1, 100.0, 10.0)
    monkeypatch.setattr(ceilings, "measure_ceilings", lambda threads: quick)
    found = run_script("speed_accuracy.py", "--root", davis, "--sizes", "48", "--threads", 1)
    assert list(found["sizes"]) == ["48", "64"]
    assert found["default_size"] == 64
    for point in found["sizes"].values():
        scores = point["sequences"]
        assert list(scores) == ["first", "second"]
        assert point["j_and_f"] == pytest.approx(sum(scores.values()) / 2)
        # The first frame is given, and three of each sequence warm up.
        assert len(point["tracking_ms"]) == 2 * (5 - 1 - 3)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says what it holds")
@pytest.mark.parametrize(("limit", "exit_code"), [(100, 0), (-1, 1)])
def test_memory_is_sampled_along_a_looped_clip(
    run_script: RunScript, davis: Path, limit: int, exit_code: int
) -> None:
    options = ["--source", davis / "JPEGImages/480p/first", "--limit", limit, "--clip-frames", 3]
    mask = davis / "Annotations/480p/first/00000.png"
    options += ["--mask", mask, "--first", 4, "--frames", 10]
    found = run_script("memory_growth.py", *options, exit_code=exit_code)
    assert [sample["frame"] for sample in found["samples"]] == [4, 8, 10]
    assert len({sample["tracker_bytes"] for sample in found["samples"]}) == 1
    assert all(sample["process_bytes"] > 0 for sample in found["samples"])


def test_an_ablation_scores_every_row_beside_the_papers_figure(
    run_script: RunScript, davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"name": "as it is", "paper": "70.0"},
        {"name": "short", "parts": {"memory": {"kind": "dynamic", "memories": "short"}}},
    ]
    tables = tmp_path / "tables.json"
    tables.write_text(json.dumps({"memory": rows, "left out": [{"name": "none"}]}))
    options = ["--root", davis, "--tables", tables, "--only", "memory"]
    found = run_script("ablation.py", *options)["rows"]
    assert [(row["name"], row["paper"]) for row in found] == [("as it is", "70.0"), ("short", "")]
    assert all(set(row["sequences"]) == {"first", "second"} for row in found)
    assert all(row["ms"]["readout"] > 0 for row in found)
    assert all("encode" not in row["ms"] for row in found)
    assert "| memory | as it is |" in capsys.readouterr().out.replace("  ", " ")


def test_the_tables_of_the_papers_name_parts_that_there_are() -> None:
    tables = json.loads((SCRIPTS / "ablations.json").read_text())
    parts = [row.get("parts", {}) for rows in tables.values() for row in rows]
    made = [part_from_json(part, value) for row in parts for part, value in row.items()]
    assert len(made) >= len(parts)


def test_a_table_that_is_not_there_is_refused(
    tiny_bundle: Bundle, davis: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--root", davis, "--only", "none", "--model", tiny_bundle.folder]
    monkeypatch.setattr("sys.argv", ["ablation.py", *map(str, options)])
    with pytest.raises(SystemExit, match=r"received tables \['none'\]"):
        runpy.run_path(str(SCRIPTS / "ablation.py"), run_name="__main__")


def test_every_module_is_measured_beside_the_encoder(
    run_script: RunScript, davis: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--source", davis / "JPEGImages/480p/first", "--frames", 2, "--warm-up", 1]
    mask = davis / "Annotations/480p/first/00000.png"
    rows = run_script("modules.py", *options, "--mask", mask)["rows"]
    assert all(set(row["ms"]) == set(TRACKING) for row in rows)
    assert all(row["ms"]["encode"] > 0 and row["ms"]["readout"] > 0 for row in rows)
    assert all(set(row["mean_ms"]) == set(TRACKING) for row in rows)
    exchanged = {part for row in rows for part in row["parts"]}
    assert exchanged == {*LABEL_PARTS, "motion", "value_extraction"}
    assert "| bidirectional (DMP)" in capsys.readouterr().out


def test_masks_that_a_model_made_itself_are_held_against_the_true_object(
    run_script: RunScript, davis: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vcedge.training import self_labels

    def label(frames: list[Frame], *others: object) -> self_labels.SelfLabels | None:
        """The true square of the last frames, half void, and one more object."""
        if len(found) == 1:
            return None
        folder = davis / "Annotations/480p/first"
        masks = np.stack([read_label_png(path) for path in sorted(folder.glob("*.png"))[2:]])
        masks = np.where(masks > 0, np.uint8(3), np.uint8(0))
        masks[:, ::2][masks[:, ::2] > 0] = 255
        masks[:, :2, :2] = 1
        found.append(len(frames))
        return self_labels.SelfLabels(2, masks, 0.9)

    found: list[int] = []
    monkeypatch.setattr(self_labels, "label_video", label)
    first, second = run_script("self_labels.py", "--root", davis, "--threads", 1)["scores"]
    assert (first["frames"], first["kept"], first["objects"]) == (5, 3, 2)
    assert (first["overlap"], first["first"], first["agreed"]) == (1.0, 1.0, 0.9)
    assert (second["kept"], second["overlap"]) == (0, None)
