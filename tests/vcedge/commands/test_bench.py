"""``vcedge bench``: what it measures, what it says, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import click
import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from vcedge.bench import power
from vcedge.bench.ceilings import Ceilings
from vcedge.bench.power import PolledSource, PowerMeter
from vcedge.bench.profiling import STAGES
from vcedge.bench.roofline import BOARDS
from vcedge.commands import bench, bench_clip
from vcedge_runtime.demo.clip import render_demo_clip
from vcedge_runtime.errors import MaskError, OutputError, TrackerError
from vcedge_runtime.model.bundle import PRECISIONS, Bundle
from vcedge_runtime.predictors.requirements import choose_graphs

CEILINGS = Ceilings(threads=1, matmul_gflops=100.0, copy_gbs=10.0)
MakeImage = Callable[..., NDArray[np.uint8]]


@pytest.fixture(autouse=True)
def known_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "measure_ceilings", lambda threads: CEILINGS)


@pytest.fixture
def clip(make_frame: MakeImage, make_mask: MakeImage, tmp_path: Path) -> SimpleNamespace:
    """A folder of six frames, and a mask of two objects."""
    source, mask = tmp_path / "clip", tmp_path / "first.png"
    source.mkdir()
    for index in range(6):
        cv2.imwrite(str(source / f"{index:05d}.png"), make_frame(66, 98, 2 * index))
    cv2.imwrite(str(mask), make_mask(66, 98, 1, 2))
    return SimpleNamespace(options=["--source", str(source), "--mask", str(mask)])


def run_bench(bundle: Bundle, *options: str) -> Result:
    pytest.importorskip("onnxruntime")
    quick = ["--warm-up", "1", "--threads", "1", "--cameras", ""]
    arguments = [str(bundle.folder), *quick, *options]
    return CliRunner().invoke(
        bench.command, arguments, env={"COLUMNS": "200"}, catch_exceptions=False
    )


def test_every_figure_is_written_for_every_size_and_the_default(
    tiny_bundle: Bundle, clip: SimpleNamespace, tmp_path: Path
) -> None:
    report = tmp_path / "bench.json"
    options = ["--sizes", "48", "--frames", "3", "--json", str(report)]
    assert run_bench(tiny_bundle, *clip.options, *options).exit_code == 0
    found = json.loads(report.read_text())
    assert found["ceilings"] == {"threads": 1, "matmul_gflops": 100.0, "copy_gbs": 10.0}
    assert [(run["size"], run["window"]) for run in found["runs"]] == [(48, "full"), (64, "full")]
    assert found["runs"][0]["grid_hw"] == [6, 9]
    for profile in found["runs"]:
        assert list(profile["stages"]) == list(STAGES)
        assert {len(stage["times_ms"]) for stage in profile["stages"].values()} == {3}
        encode = profile["stages"]["encode"]
        assert encode["share_of_ceiling"] == pytest.approx(
            encode["flops"] / 100e9 / (encode["p50_ms"] / 1000)
        )
        assert profile["tracking_fps"] > profile["end_to_end_fps"] > 0
        predicted = profile["predicted"]
        assert predicted["note"].startswith("predicted, not measured")
        assert len(predicted["boards"]) == len(BOARDS) * len(PRECISIONS)
        assert set(profile["graphs"]) == set(predicted["boards"][0]["predicted_graphs_ms"])
    assert found["model"]["default_size"] == 64
    assert found["machine"]


def test_a_part_of_the_model_that_is_exchanged_is_what_is_measured(
    tiny_bundle: Bundle, clip: SimpleNamespace, tmp_path: Path
) -> None:
    report = tmp_path / "bench.json"
    parts = ["--memory", "dynamic:short=2", "--no-edges"]
    options = ["--sizes", "64", "--frames", "2", "--json", str(report)]
    assert run_bench(tiny_bundle, *clip.options, *parts, *options).exit_code == 0
    composition = json.loads(report.read_text())["model"]["composition"]
    assert (composition["memory"]["kind"], composition["memory"]["short"]) == ("dynamic", 2)
    assert composition["edges"] is False


COPIES = {"upload", "download"}


def test_the_tables_say_what_is_included_and_mark_the_default(
    tiny_bundle: Bundle, clip: SimpleNamespace
) -> None:
    found = run_bench(tiny_bundle, *clip.options, "--sizes", "48", "--frames", "2", "--markdown")
    lines = found.stdout.splitlines()
    for text in ("predicted, not measured", "not predicted", "back-end  cpu"):
        assert text in found.stdout
    for text in ("Not included:", "100 GFLOP/s", "66x98 (height x width), 2 objects, 2 frames"):
        assert text in found.stdout
    rows = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines]
    # This model has no flow, value extraction or part of SRNet: what takes no time has no row.
    shown = [row[0] for row in rows if row[0] in STAGES]
    assert (
        set(STAGES) - set(shown) <= {"flow", "values", "prototypes", "segment", "remember"} | COPIES
    )
    assert shown == [stage for stage in STAGES if stage in shown]
    sizes = rows[next(at for at, row in enumerate(rows) if row[0] == "size") + 2 :][:2]
    assert [row[:6] for row in sizes] == [
        ["48", "full", "66x98", "48x72", "6x9", ""],
        ["64 (default)", "full", "66x98", "64x96", "8x12", ""],
    ]


def test_every_graph_has_a_predicted_time_on_every_board(
    tiny_bundle: Bundle, clip: SimpleNamespace
) -> None:
    found = run_bench(tiny_bundle, *clip.options, "--sizes", "", "--frames", "2", "--markdown")
    rows = [line.strip("|").split("|") for line in found.stdout.splitlines()]
    cells = [[cell.strip() for cell in row] for row in rows if len(row) == 4 + len(BOARDS)]
    cells = cells[next(at for at, row in enumerate(cells) if row[0] == "graph") :]
    assert cells[0][4:] == [f"{board.name} predicted" for board in BOARDS]
    names = {row[0] for row in cells[2:]}
    graphs = choose_graphs(tiny_bundle.composition, tiny_bundle.graphs)
    assert names == graphs | {f"all in {each}" for each in PRECISIONS}
    assert all(float(cell) >= 0 for row in cells[2:] for cell in row[4:])


@pytest.mark.parametrize(
    ("tells", "text"), [(True, "5.0 W on average, 5.0 W at most"), (False, "not measured")]
)
def test_power_is_told_where_the_machine_tells_it(
    tiny_bundle: Bundle,
    clip: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    tells: bool,
    text: str,
) -> None:
    # Five small frames take less than the time between two samples.
    monkeypatch.setattr(power, "PERIOD_MS", 1)
    sensor = PolledSource("a sensor", lambda: 5.0)
    monkeypatch.setattr(bench, "open_power_meter", lambda: PowerMeter(sensor) if tells else None)
    found = run_bench(tiny_bundle, *clip.options, "--sizes", "", "--frames", "5")
    assert text in found.stdout


def test_without_a_source_the_demo_clip_is_decoded_from_a_video(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = lambda frames: render_demo_clip(frames=frames, frame_hw=(64, 98))  # noqa: E731
    monkeypatch.setattr(bench_clip, "render_demo_clip", small)
    report = tmp_path / "bench.json"
    run_bench(tiny_bundle, "--sizes", "64", "--frames", "2", "--json", str(report))
    found = json.loads(report.read_text())
    assert found["clip"] == "the demo clip"
    (run,) = found["runs"]
    assert (run["frames"], run["frame_hw"]) == (2, [64, 98])
    assert 0 <= run["j_and_f"] <= 1


def test_windows_stand_beside_each_other_where_a_model_can_look_through_both(
    srnet_bundle: Bundle, clip: SimpleNamespace, tmp_path: Path
) -> None:
    report = tmp_path / "bench.json"
    options = ["--sizes", "", "--frames", "2", "--json", str(report)]
    assert run_bench(srnet_bundle, *clip.options, *options).exit_code == 0
    runs = json.loads(report.read_text())["runs"]
    assert [run["window"] for run in runs] == ["full", "follow"]
    assert runs[0]["work_hw"] == runs[1]["work_hw"]
    options = [*options, "--window", "follow"]
    assert run_bench(srnet_bundle, *clip.options, *options).exit_code == 0
    found = json.loads(report.read_text())
    assert [run["window"] for run in found["runs"]] == ["follow"]
    assert found["model"]["composition"]["window"]["kind"] == "follow"


def test_a_larger_camera_has_the_clip_enlarged_at_the_default_size(
    tiny_bundle: Bundle, clip: SimpleNamespace, tmp_path: Path
) -> None:
    report = tmp_path / "bench.json"
    options = ["--sizes", "", "--frames", "2", "--cameras", "132", "--json", str(report)]
    assert run_bench(tiny_bundle, *clip.options, *options).exit_code == 0
    runs = json.loads(report.read_text())["runs"]
    assert [(run["camera"], run["frame_hw"]) for run in runs] == [(0, [66, 98]), (132, [132, 196])]
    assert {run["size"] for run in runs} == {64}


def test_masks_are_scored_where_the_true_ones_are_known(
    tiny_bundle: Bundle, clip: SimpleNamespace, make_mask: MakeImage, tmp_path: Path
) -> None:
    truth, report = tmp_path / "truth", tmp_path / "bench.json"
    truth.mkdir()
    options = ["--sizes", "", "--frames", "4", "--json", str(report), "--truth", str(truth)]
    with pytest.raises(MaskError, match="holds no PNG"):
        run_bench(tiny_bundle, *clip.options, *options)
    for index in range(6):
        cv2.imwrite(str(truth / f"{index:05d}.png"), make_mask(66, 98, 1, 2))
    assert run_bench(tiny_bundle, *clip.options, *options).exit_code == 0
    (run,) = json.loads(report.read_text())["runs"]
    assert 0 < run["j_and_f"] <= 1
    with pytest.raises(MaskError, match="--truth without --source"):
        run_bench(tiny_bundle, *options)


@pytest.mark.parametrize(
    ("text", "sizes"), [("256,192, 256", (192, 256)), ("", ()), ("64,", (64,))]
)
def test_sizes_are_read_in_order_and_once(text: str, sizes: tuple[int, ...]) -> None:
    assert bench.parse_sizes(None, None, text) == sizes


@pytest.mark.parametrize("text", ["big", "192;256", "-3,192", "0"])
def test_sizes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="expected numbers such as"):
        bench.parse_sizes(None, None, text)


def test_a_source_without_a_mask_is_refused(tiny_bundle: Bundle, clip: SimpleNamespace) -> None:
    with pytest.raises(MaskError, match="expected both or neither"):
        run_bench(tiny_bundle, *clip.options[:2])


def test_a_mask_of_another_size_is_refused(
    tiny_bundle: Bundle, clip: SimpleNamespace, make_mask: MakeImage, tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "small.png"), make_mask(32, 48, 1))
    with pytest.raises(MaskError, match="32x48"):
        run_bench(tiny_bundle, *clip.options[:3], str(tmp_path / "small.png"))


def test_what_would_fail_after_minutes_is_refused_at_once(
    tiny_bundle: Bundle, clip: SimpleNamespace, tmp_path: Path
) -> None:
    for size in (8, 100_000):
        with pytest.raises(TrackerError, match=f"working size of {size}; expected 16 to 4096"):
            run_bench(tiny_bundle, *clip.options, "--sizes", f"{size},64")
    with pytest.raises(OutputError, match="folder does not exist"):
        run_bench(tiny_bundle, *clip.options, "--json", str(tmp_path / "none" / "bench.json"))


def test_opencv_gets_its_threads_back() -> None:
    before = cv2.getNumThreads()
    with bench._limited_opencv(1):
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == before
