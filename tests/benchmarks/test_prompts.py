"""The script that scores first masks."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.benchmarks.conftest import SCRIPTS, RunScript


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPTS / "prompts.py"))


def test_it_scores_every_way_to_ask_and_tracks_from_a_box(
    run_script: RunScript, davis: Path, tmp_path: Path, tiny_bundle: Any
) -> None:
    found = run_script(
        *("prompts.py", "--root", davis, "--no-grabcut", "--threads", 1),
        *("--track", tiny_bundle.folder, "--size", 48, "--sheets", tmp_path / "sheets"),
        model="grabcut",
    )
    table = found["grabcut"]["iou"]["sequences"]
    assert set(table) == {"objects", "box", "rough box", "click 1", "click 2", "click 3"}
    assert table["objects"] == 2
    assert all(0 <= value <= 1 for way, value in table.items() if way != "objects")
    assert set(found["tracking"]) == {"true mask", "box"}
    assert set(found["tracking"]["box"]) == {"first", "second", "mean", "median step, ms"}
    assert {path.name for path in (tmp_path / "sheets").iterdir()} == {
        "worst-box.png",
        "worst-click.png",
        "first-box.png",
        "first-click.png",
    }


def test_what_is_void_counts_for_nothing(script: dict[str, Any]) -> None:
    truth = np.zeros((10, 10), np.uint8)
    truth[:5], truth[8:] = 1, 255
    mask = np.zeros((10, 10), bool)
    mask[:4], mask[8:] = True, True
    assert script["score_mask"](mask, truth) == 0.8


@pytest.mark.parametrize(
    ("kind", "group"),
    [
        ("binary horse", "horses"),
        ("binary person", "cut-outs"),
        ("instances", "things and people (COCO)"),
        ("instances of persons (a few far ones unlabelled)", "people"),
        ("regions", "regions, no objects"),
    ],
)
def test_kinds_of_stills_have_their_rows(script: dict[str, Any], kind: str, group: str) -> None:
    assert script["name_group"](kind) == group
