from __future__ import annotations

import re
from pathlib import Path

import cv2
import pytest

from vcedge.cli import COMMANDS
from vcedge_runtime.demo.clip import render_demo_clip
from vcedge_runtime.model.bundle import DEFAULT_MODEL, MODELS
from vcedge_runtime.video.palette import write_label_png

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
EXAMPLES = [
    (page, index)
    for page in (README, ROOT / "docs" / "python.md")
    for index, _ in enumerate(re.findall(r"^```python$", page.read_text(), re.MULTILINE))
]


@pytest.fixture
def own_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the examples find beside them: a video, its first mask, its first points."""
    monkeypatch.chdir(tmp_path)
    writer = cv2.VideoWriter("video.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 24, (160, 96))
    for index, (image, labels) in enumerate(render_demo_clip(frames=4, frame_hw=(96, 160))):
        writer.write(image)
        if index == 0:
            write_label_png("first.png", labels)
    writer.release()
    Path("first.csv").write_text("name,x,y\nnose,80,48\n")


@pytest.mark.usefixtures("own_video")
@pytest.mark.parametrize(
    ("page", "index"), EXAMPLES, ids=lambda given: getattr(given, "stem", None)
)
@pytest.mark.slow
def test_the_python_examples_run_as_they_stand(
    page: Path, index: int, capsys: pytest.CaptureFixture[str]
) -> None:
    if not (MODELS / DEFAULT_MODEL).is_dir():
        pytest.skip("the default bundle is not in this checkout")
    code = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)[index]
    exec(compile(code, page.name, "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["00001", "00002", "00003"]


def test_every_command_stands_in_the_readme() -> None:
    text = README.read_text()
    rows = " ".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE))
    missing = [name for name in COMMANDS if not re.search(rf"`(vcedge )?{name}\b", rows)]
    assert missing == []


def test_the_first_screen_is_short() -> None:
    assert len(README.read_text().split()) <= 900
