"""The script of many videos: every part runs, and its JSON holds what it should; never how fast."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.conftest import SCRIPTS
from tests.vcedge.conftest import CHECKOUT
from vcedge_runtime.model.bundle import Bundle


def test_throughput_length_and_a_manifest_are_measured(
    davis: Path, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime", reason="the graphs run in it; install vcedge[cpu]")
    monkeypatch.setenv("PYTHONPATH", CHECKOUT)
    source, mask = (davis / part / "480p/first" for part in ("JPEGImages", "Annotations"))
    options = ["--source", source, "--mask", mask / "00000.png", "--model", tiny_bundle.folder]
    options += [
        "--clips",
        2,
        "--frames",
        3,
        "--rounds",
        1,
        "--short",
        3,
        "--long",
        6,
        "--lines",
        50,
    ]
    command = [sys.executable, SCRIPTS / "batch.py", *options, "--json", tmp_path / "report.json"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    found = json.loads((tmp_path / "report.json").read_text())
    throughput, length, manifest = (found[n] for n in ("throughput", "length", "manifest"))
    assert throughput["gain"] == pytest.approx(
        throughput["2 of 1, frames/s"] / throughput["loop, frames/s"]
    )
    assert length["long, frames/s"] > 0 < length["short, frames/s"]
    assert manifest["at the end, MB"] > 20
    assert done.returncode == int(not all(part["holds"] for part in (throughput, length, manifest)))
