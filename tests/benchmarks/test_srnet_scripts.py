"""The scripts on SRNet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks.conftest import SCRIPTS, RunScript
from vcedge_runtime.model.bundle import DEFAULT_MODEL, Bundle


def test_every_graph_is_counted_and_timed(run_script: RunScript, srnet_bundle: Bundle) -> None:
    options = ["--bundle", srnet_bundle.folder, "--frame", "96x128", "--sizes", "96,64"]
    options += ["--objects", "1,3", "--runs", 2, "--threads", 1]
    found = run_script("graphs.py", *options, model=DEFAULT_MODEL)
    assert [(size["size"], size["work_hw"]) for size in found["sizes"]] == [
        (96, [96, 128]),
        (64, [64, 80]),
    ]
    rows = {row["graph"]: row for row in found["sizes"][0]["graphs"]}
    assert set(rows) == {*srnet_bundle.graphs, "memory_read (local)"}
    assert sum(row["parameters"] for row in rows.values()) == pytest.approx(3.90e6, rel=0.01)
    cells = 6 * 8
    # Five references and two views, of the local memory one frame, keys of 64 channels; of the 20
    # nearest and 8 more, values of 128. 8 cells stand in where memory is too small.
    read, local = (rows[f"memory_read{which}"]["gmac"] for which in ("", " (local)"))
    for objects in ("1", "3"):
        values = 28 * int(objects) * 128
        assert read[objects] == pytest.approx(cells * ((7 * cells + 8) * 72 + values) / 1e9)
        assert local[objects] == pytest.approx(cells * ((cells + 8) * 72 + values) / 1e9)
    # The frame is encoded once, each object by itself.
    assert rows["query_encoder"]["gmac"]["3"] == rows["query_encoder"]["gmac"]["1"]
    alone = rows["value_encoder"]["gmac"]["1"]
    # But for what of the frame's own features is joined, once for all objects.
    assert 2.9 * alone < rows["value_encoder"]["gmac"]["3"] < 3 * alone
    assert all(ms > 0 for row in rows.values() for ms in row["ms"].values())


def test_srnet_needs_no_more_than_12_gmac_a_frame(
    run_script: RunScript, srnet_bundle: Bundle
) -> None:
    options = ["--bundle", srnet_bundle.folder, "--sizes", "480", "--objects", "1", "--runs", 1]
    found = run_script("graphs.py", *options, model=DEFAULT_MODEL)
    assert found["sizes"][0]["work_hw"] == [480, 864]
    assert sum(row["gmac"]["1"] for row in found["sizes"][0]["graphs"]) <= 12


def test_the_rows_of_srnets_tables_name_parts_that_there_are(srnet_bundle: Bundle) -> None:
    tables = json.loads((SCRIPTS / "ablations_srnet.json").read_text())
    rows = [row for rows in tables.values() for row in rows]
    changed = [srnet_bundle.composition.exchange(**r["parts"]) for r in rows]
    assert len({json.dumps(parts.to_json()) for parts in changed}) >= len(rows) - len(tables)


def test_an_ablation_takes_srnet_too(
    run_script: RunScript, davis: Path, srnet_bundle: Bundle
) -> None:
    options = ["--root", davis, "--tables", SCRIPTS / "ablations_srnet.json"]
    options += ["--only", "SRNet local memory", "--sequences", "first", "--size", 96]
    found = run_script("ablation.py", *options, model=srnet_bundle.folder)["rows"]
    assert [row["name"] for row in found] == ["off", "raw", "aligned (FAM)"]
    assert [row["ms"]["align"] > 0 for row in found] == [False, False, True]
    assert all(row["ms"]["segment"] > 0 for row in found)


def test_srnets_modules_are_measured(
    run_script: RunScript, davis: Path, srnet_bundle: Bundle
) -> None:
    options = ["--source", davis / "JPEGImages/480p/first", "--frames", 2, "--warm-up", 1]
    options += ["--mask", davis / "Annotations/480p/first/00000.png"]
    rows = run_script("modules.py", *options, model=srnet_bundle.folder)["rows"]
    assert {part for row in rows for part in row["parts"]} == {
        *("local", "prototypes", "memory", "edges")
    }
    assert all(row["ms"]["encode"] > 0 and row["ms"]["segment"] > 0 for row in rows)
