"""precision.py scores, weighs and times every precision of a model in one run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.conftest import RunScript
from vcedge_runtime.model.bundle import Bundle


@pytest.fixture
def calibration(davis: Path, tmp_path: Path) -> list[object]:
    """Options that calibrate on one of the sequences."""
    masks = tmp_path / "masks"
    masks.mkdir()
    first = davis / "Annotations" / "480p" / "first"
    (masks / "first").symlink_to(first)
    return ["--videos", davis / "JPEGImages" / "480p" / "first", "--masks", masks]


def test_every_precision_is_held_against_fp32(
    run_script: RunScript, davis: Path, calibration: list[object], exported_bundle: Bundle
) -> None:
    options = ["--root", davis, *calibration, "--frames", 4, "--runs", 2, "--threads", 1]
    found = run_script("precision.py", *options, model=exported_bundle.folder)
    assert found["sequences"] == ["first", "second"]
    (measured,) = found["models"].values()
    rows = measured["precisions"]
    assert list(rows) == ["fp32", "fp16", "int8"]
    for row in rows.values():
        assert row["j_and_f"] == pytest.approx(sum(row["sequences"].values()) / 2)
        assert row["non_finite"] == 0
    size = rows["fp32"]["bytes"]
    assert size == sum(exported_bundle.path_of(n).stat().st_size for n in exported_bundle.graphs)
    assert 0.45 * size < rows["fp16"]["bytes"] < 0.55 * size
    assert 0.2 * size < rows["int8"]["bytes"] < 0.35 * size
    assert set(measured["ms"]) == {"encoder"}
    assert all(ms > 0 for ms in measured["ms"]["encoder"].values())


def test_what_an_object_needs_is_timed_too(
    run_script: RunScript, davis: Path, calibration: list[object], srnet_bundle: Bundle
) -> None:
    options = ["--root", davis, *calibration, "--frames", 3, "--runs", 1, "--size", 64]
    options += ["--sequences", "first", "--precisions", "fp32,int8"]
    found = run_script("precision.py", *options, model=srnet_bundle.folder)
    (measured,) = found["models"].values()
    graphs = {"query_encoder", "value_encoder", "feature_alignment", "mask_decoder"}
    assert set(measured["ms"]) == graphs
    assert set(measured["precisions"]) == {"fp32", "int8"}
