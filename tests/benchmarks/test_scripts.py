"""Every script of benchmarks/ runs, and its JSON holds what it should; never how fast."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.benchmarks.conftest import SCRIPTS, MakeImage, RunScript
from tests.vcedge.commands.conftest import write_video
from vcedge.evaluation.masked import tell_gain
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.model.composition import LABEL_PARTS, Composition
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
        *["all references by one softmax"] * 4,
        *["each reference, then merged"] * 2,
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
    assert all(row["j_and_f"] == pytest.approx((row["j"] + row["f"]) / 2) for row in found)
    assert "| memory | as it is |" in capsys.readouterr().out.replace("  ", " ")


def test_the_tables_of_the_papers_name_parts_that_there_are() -> None:
    tables = json.loads((SCRIPTS / "ablations.json").read_text())
    parts = [row.get("parts", {}) for rows in tables.values() for row in rows]
    plain = Composition(8, 64, 480)
    assert all(isinstance(plain.exchange(**row), Composition) for row in parts)
    assert sum(map(len, parts)) >= len(parts)


@pytest.fixture
def masked(make_frame: MakeImage, make_mask: MakeImage, tmp_path: Path) -> Path:
    """Six videos of four frames with masks, two of one source; one of them has three objects."""
    root = tmp_path / "masked"
    (root / "videos").mkdir(parents=True)
    for at, name in enumerate(("a", "b", "c", "d", "road_1", "road_2")):
        frames = [make_frame(64, 96, (1 + at) * step) for step in range(4)]
        write_video(root / "videos" / f"{name}.mp4", frames)
        (root / "masks" / name).mkdir(parents=True)
        mask = make_mask(64, 96, *((1, 2, 3) if name == "d" else (1,)))
        for index in range(4):
            place = root / "masks" / name / f"{index:05d}.png"
            cv2.imwrite(str(place), np.roll(mask, (1 + at) * index, axis=1))
    return root


def test_settings_are_chosen_on_one_half_and_told_of_the_other(
    run_script: RunScript, masked: Path, tmp_path: Path
) -> None:
    rows = [{"name": "today"}, {"name": "vote", "parts": {"fusion": {"kind": "vote"}}}]
    tables = tmp_path / "tables.json"
    tables.write_text(json.dumps({"fusion": rows}))
    options = ["--masked", masked, "--tables", tables, "--size", 64, "--objects", 2]
    found = run_script("halves.py", *options)
    scores = found["videos"]
    assert sorted(scores) == ["a", "b", "c", "road_1", "road_2"]
    assert all(len(each) == 2 for each in scores.values())
    names = {half: found["choice"][f"chosen on the {half}"] for half in ("first", "second")}
    # Videos of a source are in both halves.
    deal = runpy.run_path(str(SCRIPTS / "halves.py"))["deal_halves"]
    halves = deal(list(scores))
    assert sorted([*halves[0], *halves[1]]) == sorted(scores)
    assert all(sum(name.startswith("road") for name in half) == 1 for half in halves)
    for (half, other), own in zip((halves, halves[::-1]), names.values(), strict=True):
        means = np.mean([scores[name] for name in half], axis=0)
        best = int(np.argmax(means))
        assert own["row"] == rows[best]["name"]
        assert own["there"] == pytest.approx(means[best])
        elsewhere = np.mean([scores[name] for name in other], axis=0)
        assert own["on the other"] == pytest.approx(elsewhere[best])
        assert own["today's on the other"] == pytest.approx(elsewhere[0])


def test_rows_are_trained_once_with_every_seed_and_scored_by_halves(
    masked: Path, davis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    pytest.importorskip("onnxscript")
    rows = [{"name": "plain", "method": "base", "options": [], "paper": "68.0"}]
    mer = ["--no-motion", "--no-values", "--contrast", "0", "--clusters", "2"]
    rows.append({"name": "sampler", "method": "mer", "options": mer, "paper": ""})
    tables, out = tmp_path / "tables.json", tmp_path / "rows"
    tables.write_text(json.dumps({"one": rows, "again": rows[:1]}))
    options = ["--videos", masked, "--masked", masked, "--root", davis, "--tables", tables]
    options += ["--seeds", "0,1", "--size", 64, "--objects", 1]
    options += [
        "--cache",
        tmp_path / "frames",
        "--out",
        out,
        "--",
        "--steps",
        1,
        "--sizes",
        "1.0:32",
    ]
    monkeypatch.setattr("sys.argv", ["training_rows.py", *map(str, options)])
    runpy.run_path(str(SCRIPTS / "training_rows.py"), run_name="__main__")
    scores = {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")}
    assert len(scores) == 4
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == sorted(scores)
    for key, found in scores.items():
        names = {"plain windows"} | ({"its sampler"} if key.startswith("mer") else set())
        assert set(found) == names
        assert all(len(own["halves"]) == 2 and 0 <= own["davis"] <= 1 for own in found.values())
    # The row that two tables have is told in both, and is what the others are held against.
    told = capfd.readouterr().out
    assert told.count(" 68.0 |") == 2
    assert told.count(" +0.000 (0.000) |") >= 2
    # What is done is neither trained nor scored again.
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    runpy.run_path(str(SCRIPTS / "training_rows.py"), run_name="__main__")
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_gain_is_that_of_each_video_with_its_standard_error() -> None:
    assert tell_gain([0.5, 0.7, 0.9], [0.5, 0.6, 0.7]) == "+0.100 (0.058)"  # 0.1 / sqrt(3)
    assert tell_gain([0.4], [0.5]) == "-0.100 (0.000)"


def test_the_training_rows_are_options_that_there_are() -> None:
    from vcedge.commands.train import command

    tables = json.loads((SCRIPTS / "training_rows.json").read_text())
    for row in (row for rows in tables.values() for row in rows):
        method = command.commands[row["method"]]
        given = ["--videos", str(SCRIPTS), *row["options"]]
        assert method.make_context(row["method"], given).params


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
