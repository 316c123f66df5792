"""``vcedge eval davis``: known scores of made masks, and the tracker on a made data set."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge.evaluation.davis import score_sequence
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.video.palette import read_label_png, write_label_png

Image = NDArray[np.uint8]
Run = Callable[..., CompletedProcess[str]]
Refuse = Callable[..., str]
MakeImage = Callable[..., Image]
FRAMES, HW = 6, (48, 64)
SEQUENCES = {"boat": (1,), "dance": (1, 2)}


@pytest.fixture
def davis(tmp_path: Path, make_frame: MakeImage, make_mask: MakeImage) -> Path:
    """A data set of two short sequences, laid out as DAVIS is, in the folder ``DAVIS``."""
    root = tmp_path / "DAVIS"
    for name, ids in SEQUENCES.items():
        images, masks = (root / part / "480p" / name for part in ("JPEGImages", "Annotations"))
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        for index in range(FRAMES):
            cv2.imwrite(str(images / f"{index:05d}.jpg"), make_frame(*HW, 2 * index))
            write_label_png(masks / f"{index:05d}.png", shift(make_mask(*HW, *ids), 2 * index))
    return root


@pytest.fixture
def predictions(davis: Path, tmp_path: Path) -> Path:
    """A copy of the ground truth, a folder per sequence, in the folder ``masks``."""
    return Path(shutil.copytree(davis / "Annotations" / "480p", tmp_path / "masks"))


@pytest.fixture
def track_options(tiny_bundle: Bundle) -> list[object]:
    pytest.importorskip("onnxruntime", reason="the graphs run in it; install vcedge[cpu]")
    return ["--model", tiny_bundle.folder, "--size", 48, "--threads", 1, "--backend", "cpu"]


def shift(mask: Image, pixels: int) -> Image:
    return np.ascontiguousarray(np.roll(mask, pixels, axis=1))


def read_rows(path: str) -> dict[tuple[str, str, str], dict[str, float]]:
    """Read a CSV file's figures by scope, sequence and object."""
    with Path(path).open(newline="") as file:
        rows = list(csv.DictReader(file))
    keys = ("Scope", "Sequence", "Object")
    return {
        (row["Scope"], row["Sequence"], row["Object"]): {
            name: float(text) for name, text in row.items() if name not in keys
        }
        for row in rows
    }


def read_sequence(folder: Path) -> list[Image]:
    return [read_label_png(path) for path in sorted(folder.glob("*.png"))]


@pytest.mark.usefixtures("davis", "predictions")
def test_copies_of_the_ground_truth_score_1_in_table_and_csv(run: Run) -> None:
    done = run("eval", "davis", "--gt", "DAVIS", "--pred", "masks", "--csv", "scores.csv")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines()]
    perfect = ["1.000", "1.000", "1.000", "0.000", "1.000", "1.000", "0.000"]
    scored = FRAMES - 2
    assert ["boat", str(scored), *perfect] in rows
    assert ["dance", str(scored), *perfect] in rows
    assert ["3", "objects", str(2 * scored), *perfect] in rows
    assert "wrote scores.csv" in done.stdout
    assert read_rows("scores.csv")["global", "", ""]["J&F-Mean"] == 1


@pytest.mark.usefixtures("davis")
def test_shifted_masks_score_the_overlap_of_their_bars(run: Run, predictions: Path) -> None:
    for path in predictions.rglob("*.png"):
        write_label_png(path, shift(read_label_png(path), 4))
    done = run("eval", "davis", "--gt", "DAVIS", "--pred", "masks", "--csv", "scores.csv")
    assert done.returncode == 0
    found = read_rows("scores.csv")
    # Bars of 21 and of 13 pixels, moved by 4; those of one object stay apart from the other's.
    boat, dance = (21 - 4) / (21 + 4), (13 - 4) / (13 + 4)
    assert found["object", "boat", "1"]["J-Mean"] == pytest.approx(boat, abs=1e-6)
    assert found["sequence", "dance", ""]["J-Mean"] == pytest.approx(dance, abs=1e-6)
    overall = found["global", "", ""]
    # Every object weighs the same, not every sequence.
    assert overall["J-Mean"] == pytest.approx((boat + 2 * dance) / 3, abs=1e-6)
    assert overall["J&F-Mean"] == pytest.approx(
        (overall["J-Mean"] + overall["F-Mean"]) / 2, abs=1e-6
    )
    assert 0 < overall["F-Mean"] < 1
    for name in SEQUENCES:
        truth = read_sequence(Path("DAVIS/Annotations/480p") / name)
        expected = score_sequence(truth, read_sequence(Path("masks") / name))
        figure = found["sequence", name, ""]["J&F-Mean"]
        assert figure == pytest.approx(expected.j_and_f, abs=1e-6)


@pytest.mark.usefixtures("davis", "predictions")
def test_per_object_gives_each_object_of_several_a_row(run: Run) -> None:
    options = ["--gt", "DAVIS", "--pred", "masks", "--per-object"]
    names = [line.split()[:1] for line in run("eval", "davis", *options).stdout.splitlines()]
    assert [name for name in names if "/" in "".join(name)] == [["dance/1"], ["dance/2"]]


def test_ids_that_are_left_out_are_told_with_the_score_of_those_that_are_there(
    run: Run, davis: Path, predictions: Path
) -> None:
    for root in (davis / "Annotations" / "480p", predictions):
        for index, path in enumerate(sorted((root / "boat").glob("*.png"))):
            moved = np.where(read_label_png(path) == 1, np.uint8(4), np.uint8(0))
            lost = root == predictions and index > 0
            write_label_png(path, np.zeros_like(moved) if lost else moved)
    done = run("eval", "davis", "--gt", "DAVIS", "--pred", "masks", "--sequences", " boat, ")
    assert "3 of these objects are ids that are left out" in done.stdout
    assert "J&F of the objects that are there: 0.000" in done.stdout
    whole = run("eval", "davis", "--gt", "DAVIS", "--pred", "masks", "--sequences", "dance")
    assert "left out" not in whole.stdout


@pytest.mark.usefixtures("davis", "predictions")
def test_sequences_narrows_what_is_scored(run: Run) -> None:
    options = ["--gt", "DAVIS", "--pred", "masks", "--sequences", "dance"]
    done = run("eval", "davis", *options)
    assert done.returncode == 0
    assert "dance" in done.stdout
    assert "boat" not in done.stdout


def write_lists(davis: Path, **parts: str) -> None:
    """Write DAVIS's lists of a year: a part, and its sequences."""
    folder = davis / "ImageSets" / "2017"
    folder.mkdir(parents=True)
    for part, names in parts.items():
        (folder / f"{part}.txt").write_text("".join(f"{name}\n" for name in names.split()))


@pytest.mark.parametrize(
    ("truth", "given"),
    [
        ("DAVIS", "ImageSets/2017/val.txt"),
        ("DAVIS", "2017/val.txt"),
        ("DAVIS/Annotations/480p", "DAVIS/ImageSets/2017/val.txt"),
    ],
)
@pytest.mark.usefixtures("predictions")
def test_sequences_may_be_a_list_of_davis(run: Run, davis: Path, truth: str, given: str) -> None:
    write_lists(davis, train="boat", val="dance")
    done = run("eval", "davis", "--gt", truth, "--pred", "masks", "--sequences", given)
    assert (done.returncode, done.stderr) == (0, "")
    assert "dance" in done.stdout
    assert "boat" not in done.stdout
    assert "scored together" not in done.stdout


@pytest.mark.usefixtures("davis", "predictions")
def test_a_list_that_is_not_there_is_named(refuse: Refuse) -> None:
    options = ["--gt", "DAVIS", "--pred", "masks", "--sequences", "ImageSets/2019/val.txt"]
    line = refuse("eval", "davis", *options)
    assert "received ImageSets/2019/val.txt as a list of sequences, which cannot be read" in line


@pytest.mark.usefixtures("predictions")
def test_training_and_validation_scored_together_are_told(run: Run, davis: Path) -> None:
    write_lists(davis, train="boat other", val="dance another")
    for truth in ("DAVIS", "DAVIS/Annotations/480p"):
        done = run("eval", "davis", "--gt", truth, "--pred", "masks")
        assert done.returncode == 0
        (line,) = [line for line in done.stdout.splitlines() if "scored together" in line]
        assert line.startswith(
            "sequences of training (1) and of validation (1) are scored together"
        )
        assert "ImageSets/2017" in line
    for names in ("boat", "dance"):
        alone = run("eval", "davis", "--gt", "DAVIS", "--pred", "masks", "--sequences", names)
        assert "scored together" not in alone.stdout


@pytest.mark.usefixtures("davis")
def test_root_tracks_the_sequences_and_scores_what_it_wrote(
    run: Run, track_options: list[object]
) -> None:
    options = ["--root", "DAVIS", "--out", "kept", "--csv", "run.csv", *track_options]
    done = run("eval", "davis", *options)
    assert (done.returncode, done.stderr) == (0, "")
    for name in SEQUENCES:
        truth, found = (
            read_sequence(Path(folder) / name) for folder in ("DAVIS/Annotations/480p", "kept")
        )
        np.testing.assert_array_equal(found[0], truth[0])
        assert [mask.shape for mask in found] == FRAMES * [HW]
        assert f"{name}: " in done.stdout
    assert "frames/s" in done.stdout
    again = run("eval", "davis", "--gt", "DAVIS", "--pred", "kept", "--csv", "again.csv")
    assert again.returncode == 0
    assert Path("run.csv").read_text() == Path("again.csv").read_text()


@pytest.mark.usefixtures("davis")
def test_workers_write_the_masks_that_one_tracker_writes(
    run: Run, refuse: Refuse, track_options: list[object]
) -> None:
    options = ["eval", "davis", "--root", "DAVIS", *track_options]
    assert run(*options, "--out", "alone", "--csv", "alone.csv").returncode == 0
    done = run(*options, "--out", "kept", "--csv", "kept.csv", "--workers", 2)
    assert (done.returncode, done.stderr) == (0, "")
    assert {line.partition(":")[0] for line in done.stdout.splitlines()} >= set(SEQUENCES)
    assert Path("kept.csv").read_text() == Path("alone.csv").read_text()
    for name in SEQUENCES:
        for mask in Path("alone", name).glob("*.png"):
            assert Path("kept", name, mask.name).read_bytes() == mask.read_bytes()
    Path("DAVIS/JPEGImages/480p/dance/00003.jpg").write_bytes(b"")
    assert "dance: SourceError: " in refuse(*options, "--out", "again", "--workers", 1)


@pytest.mark.usefixtures("davis")
def test_root_leaves_nothing_behind_where_no_folder_is_named(
    run: Run, track_options: list[object]
) -> None:
    done = run("eval", "davis", "--root", "DAVIS", "--sequences", "boat", *track_options)
    assert done.returncode == 0
    assert "dance" not in done.stdout
    assert [path.name for path in Path().iterdir()] == ["DAVIS"]


@pytest.mark.usefixtures("davis", "predictions")
@pytest.mark.parametrize(
    ("options", "mend"),
    [
        ([], "pass either --gt and --pred, or --root"),
        (["--gt", "DAVIS"], "pass either --gt and --pred, or --root"),
        (["--pred", "masks"], "pass either --gt and --pred, or --root"),
        (["--root", "DAVIS", "--gt", "DAVIS"], "pass either --gt and --pred, or --root"),
        (["--root", "DAVIS", "--pred", "masks"], "pass either --gt and --pred, or --root"),
        (["--gt", "DAVIS", "--pred", "masks", "--out", "kept"], "--out without --root"),
        (
            ["--gt", "DAVIS", "--pred", "masks", "--workers", "2"],
            "--workers or --ray without --root",
        ),
        (["--root", "DAVIS", "--ray", "auto"], "received --ray without --out"),
        (["--gt", "none", "--pred", "masks"], "none, which is no folder"),
        (["--gt", "DAVIS", "--pred", "none"], "none, which is no folder"),
        (["--root", "none"], "none, which is no folder"),
        (["--root", "DAVIS", "--model", "none"], "no model 'none'"),
        (
            ["--gt", "DAVIS", "--pred", "masks", "--sequences", "swim"],
            "received swim as a sequence of DAVIS; expected some of: boat, dance",
        ),
        (["--root", "DAVIS", "--sequences", "boat,swim"], "received swim as a sequence"),
        (
            ["--gt", "DAVIS", "--pred", "masks", "--csv", "none/a.csv"],
            "none/a.csv, whose folder does not exist",
        ),
    ],
)
def test_wrong_combinations_and_names_are_refused(
    refuse: Refuse, options: list[str], mend: str
) -> None:
    assert mend in refuse("eval", "davis", *options)
    assert not Path("kept").exists()


@pytest.mark.usefixtures("davis")
def test_missing_predictions_are_named(refuse: Refuse, predictions: Path) -> None:
    (predictions / "dance" / "00003.png").unlink()
    line = refuse("eval", "davis", "--gt", "DAVIS", "--pred", "masks")
    assert "no prediction of frame 00003 of dance" in line
    shutil.rmtree(predictions / "dance")
    line = refuse("eval", "davis", "--gt", "DAVIS", "--pred", "masks")
    assert "no predictions of dance" in line


def test_missing_frames_are_told_before_anything_is_tracked(
    refuse: Refuse, davis: Path, track_options: list[object]
) -> None:
    shutil.rmtree(davis / "JPEGImages" / "480p" / "dance")
    line = refuse("eval", "davis", "--root", "DAVIS", "--out", "kept", *track_options)
    assert "has no frames of dance; expected JPEGImages/480p/dance" in line
    assert not list(Path().glob("kept/**/*.png"))


@pytest.mark.usefixtures("davis")
def test_masks_that_exist_are_not_replaced_without_overwrite(
    run: Run, refuse: Refuse, track_options: list[object]
) -> None:
    Path("kept/dance").mkdir(parents=True)
    Path("kept/dance/00000.png").write_bytes(b"mine")
    options = ["--root", "DAVIS", "--out", "kept", *track_options]
    assert "pass --overwrite or choose another --out" in refuse("eval", "davis", *options)
    assert [path.name for path in Path("kept").rglob("*.png")] == ["00000.png"]
    assert "which this run would replace" in run("eval", "davis", *options, "--overwrite").stderr
    assert Path("kept/dance/00000.png").read_bytes() == b"mine"


@pytest.mark.usefixtures("davis")
def test_masks_of_an_earlier_run_are_replaced_with_overwrite(
    run: Run, refuse: Refuse, track_options: list[object]
) -> None:
    options = ["--root", "DAVIS", "--out", "kept", *track_options]
    assert run("eval", "davis", *options).returncode == 0
    assert {path.suffix for path in Path("kept/dance").iterdir()} == {".png"}
    assert "pass --overwrite or choose another --out" in refuse("eval", "davis", *options)
    assert run("eval", "davis", *options, "--overwrite").returncode == 0
    assert len(read_sequence(Path("kept/dance"))) == FRAMES
