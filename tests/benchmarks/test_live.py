"""The benchmark of live streams reads a log as it should, and finds what is in it."""

from __future__ import annotations

import json
import runpy
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.conftest import SCRIPTS


@pytest.fixture
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPTS / "live.py"))


def test_a_log_is_read_over_all_its_files_in_the_order_of_the_frames(
    script: dict[str, Any], tmp_path: Path
) -> None:
    lines = [{"frame": number, "time": number / 10, "dropped": 0} for number in range(5)]
    for name, part in (("objects.ndjson", lines[3:]), ("objects.00001.ndjson", lines[:3])):
        text = [json.dumps({**line, "objects": []}) + "\n" for line in part]
        (tmp_path / name).write_text("".join(text))
    assert script["read_log"](tmp_path) == lines


def test_ages_returns_and_growth_are_found(script: dict[str, Any]) -> None:
    lines = [{"frame": 0, "time": 0.0, "dropped": 0}]
    for number, time_s in enumerate((0.3, 0.6, 8.0, 8.3, 16.0), start=1):
        lines.append({"frame": number, "time": time_s, "dropped": 8, "age_ms": 250.0 + number})
    samples = [script["Sample"](60, 200), script["Sample"](900, 202)]
    found = script["find"](Namespace(away=4), lines, [240.0] * 5, [0.0, 0.04, 0.08], samples)
    assert (found.frames, found.dropped, found.returns) == (6, 40, 2)
    assert found.age_ms == pytest.approx((253, 254.8))
    assert found.bound_ms == pytest.approx(280)
    assert found.growth == pytest.approx(0.01)
