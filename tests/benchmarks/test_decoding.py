"""The benchmark of decoding tells apart what differs and what does not."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.conftest import SCRIPTS
from tests.runtime.video.test_decoding import draw_level, spoil_packets, write_video


def test_a_video_that_opencv_reads_otherwise_has_a_row_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [draw_level(number) for number in range(12)]
    good = write_video(tmp_path / "good.mp4", images)
    options = {"bf": "0", "g": "1"}
    bad = write_video(tmp_path / "bad.mp4", images, codec="libx264", options=options)
    spoil_packets(bad, [7])
    report = tmp_path / "report.json"
    monkeypatch.setattr("sys.argv", ["decoding.py", str(good), str(bad), "--json", str(report)])
    runpy.run_path(str(SCRIPTS / "decoding.py"), run_name="__main__")
    found = json.loads(report.read_text())
    assert [each["frames"][0] for each in found["videos"]] == [12, 11]
    assert found["videos"][0]["differing"] == 0
    assert all(np.array(each["seconds"]).min() > 0 for each in found["videos"])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [("good.mp4" in row, "bad.mp4" in row) for row in rows[1:]] == [
        (False, True),
        (False, False),
    ]
