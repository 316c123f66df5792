"""The script that kills commands: it runs, and it notices what is lost."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.benchmarks.conftest import SCRIPTS
from vcedge_runtime.errors import MaskError, SourceError
from vcedge_runtime.video.palette import write_label_png
from vcedge_runtime.video.sinks import OverlayVideo
from vcedge_runtime.video.sources import Frame

LABELS = np.ones((16, 16), np.uint8)


@pytest.fixture(scope="module")
def losses() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPTS / "losses.py"))


def write_results(out: Path, masks: int = 3, lines: int = 3, frames: int = 3) -> None:
    """Write what ``track`` writes."""
    (out / "masks").mkdir(parents=True)
    for index in range(masks):
        write_label_png(out / "masks" / f"{index:05d}.png", LABELS)
    (out / "objects.ndjson").write_text("".join(f'{{"frame":{n}}}\n' for n in range(lines)))
    with OverlayVideo(out / "overlay.mp4") as video:
        for index in range(frames):
            video.write(Frame(index, "", np.zeros((16, 16, 3), np.uint8)), LABELS, {})


def test_track_is_killed_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    report = tmp_path / "report.json"
    options = ["--kills", 2, "--fills", 0, "--only", "track", "--json", report]
    monkeypatch.setattr("sys.argv", ["losses.py", *map(str, options)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(SCRIPTS / "losses.py"), run_name="__main__")
    assert stop.value.code == 0
    found = json.loads(report.read_text())["track"]
    assert sum(found["kills"].values()) == 2
    assert set(found["kills"]) <= {"whole", "ended before"}


@pytest.mark.parametrize("whole", [{}, {"masks": 4, "lines": 3}])
def test_what_a_kill_may_leave_is_whole(
    losses: dict[str, Any], tmp_path: Path, whole: dict[str, int]
) -> None:
    write_results(tmp_path / "out", **whole)
    (tmp_path / "out" / "masks" / ".00004.0123456789abcdef.part.png").touch()
    with (tmp_path / "out" / "objects.ndjson").open("a") as log:
        log.write('{"frame":')  # the line's end does not stand
    losses["check_track"](tmp_path / "out")


@pytest.mark.parametrize(
    "lost", [{"masks": 2}, {"masks": 5}, {"frames": 2}, {"masks": 5, "lines": 5}], ids=str
)
def test_what_is_missing_is_noticed(
    losses: dict[str, Any], tmp_path: Path, lost: dict[str, int]
) -> None:
    write_results(tmp_path / "out", **lost)
    with pytest.raises(ValueError, match=r"masks and|lacks frames"):
        losses["check_track"](tmp_path / "out")


@pytest.mark.parametrize("name", ["masks/00001.png", "objects.ndjson", "overlay.mp4"])
def test_what_is_half_is_noticed(losses: dict[str, Any], tmp_path: Path, name: str) -> None:
    write_results(tmp_path / "out")
    path = tmp_path / "out" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    expected = {".png": MaskError, ".ndjson": ValueError, ".mp4": SourceError}[path.suffix]
    with pytest.raises(expected):
        losses["check_track"](tmp_path / "out")
