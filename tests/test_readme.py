from __future__ import annotations

import re
from pathlib import Path

import cv2
import pytest

from vcedge.cli import COMMANDS
from vcedge_runtime.demo.clip import render_demo_clip
from vcedge_runtime.model.bundle import DEFAULT_MODEL, MODELS
from vcedge_runtime.video.palette import write_label_png

README = Path(__file__).parent.parent / "README.md"


def test_the_python_example_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not (MODELS / DEFAULT_MODEL).is_dir():
        pytest.skip("the default bundle is not in this checkout")
    monkeypatch.chdir(tmp_path)
    writer = cv2.VideoWriter("video.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 24, (160, 96))
    for index, (image, labels) in enumerate(render_demo_clip(frames=4, frame_hw=(96, 160))):
        writer.write(image)
        if index == 0:
            write_label_png("first.png", labels)
    writer.release()
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["00001", "00002", "00003"]


def test_every_command_stands_in_the_readme() -> None:
    text = README.read_text()
    rows = " ".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE))
    missing = [name for name in COMMANDS if not re.search(rf"`(vcedge )?{name}\b", rows)]
    assert missing == []


def test_every_file_that_the_readme_points_to_is_there() -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", README.read_text())
    assert targets
    assert [target for target in targets if not (README.parent / target).exists()] == []
