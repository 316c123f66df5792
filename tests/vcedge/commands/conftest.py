"""Clips on disk, as a user has them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.video.palette import write_label_png

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Clip:
    """A source and the mask of its first frame.

    Attributes:
        source: what ``vcedge track`` takes.
        mask: a palette PNG.
        labels: what it holds.
        arguments: the command line that tracks it with the tiny model.
    """

    source: Path
    mask: Path
    labels: Image
    model: Path

    @property
    def arguments(self) -> list[object]:
        model = ("--model", self.model, "--threads", 1, "--backend", "cpu")
        return ["track", self.source, "--mask", self.mask, *model]


@pytest.fixture
def make_clip(
    make_frame: Callable[..., Image],
    make_mask: Callable[..., Image],
    tiny_bundle: Bundle,
    tmp_path: Path,
) -> Callable[..., Clip]:
    """Make a clip of a moving texture in ``tmp_path``: a folder, or a video by its suffix."""
    pytest.importorskip("onnxruntime", reason="the graphs run in it; install vcedge[cpu]")

    def make(
        name: str = "clip",
        frames: int = 5,
        frame_hw: tuple[int, int] = (48, 64),
        ids: tuple[int, ...] = (3, 200),
    ) -> Clip:
        source, mask, labels = tmp_path / name, tmp_path / "first.png", make_mask(*frame_hw, *ids)
        images = [make_frame(*frame_hw, 2 * (index % 32)) for index in range(frames)]
        (write_video if source.suffix else write_images)(source, images)
        write_label_png(mask, labels)
        return Clip(source, mask, labels, tiny_bundle.folder)

    return make


def write_images(folder: Path, images: list[Image]) -> None:
    """Write frames as a camera would name them: numbers that do not start at 0."""
    folder.mkdir()
    for index, image in enumerate(images):
        assert cv2.imwrite(str(folder / f"shot{index + 8}.png"), image)


def write_video(path: Path, images: list[Image]) -> None:
    """Write frames as MPEG-4 or, in an AVI, as JPEG."""
    code = cv2.VideoWriter.fourcc(*("MJPG" if path.suffix == ".avi" else "mp4v"))
    writer = cv2.VideoWriter(str(path), code, 20.0, images[0].shape[1::-1])
    for image in images:
        writer.write(image)
    writer.release()


def read_steps(out: Path) -> list[int]:
    """Steps at which a training run reported."""
    return [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.fixture
def shell(tmp_path: Path) -> Callable[..., CompletedProcess[bytes]]:
    """Run a command line in a shell, in ``tmp_path``, as a user does."""
    script = tmp_path / "bin" / "vcedge"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\nfrom vcedge.cli import main\nmain()\n")
    script.chmod(0o755)
    given = {
        "PATH": os.pathsep.join((str(script.parent), os.environ["PATH"])),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }

    def shell(command: str, **more: str) -> CompletedProcess[bytes]:
        words = ["bash", "-c", command.encode("utf-8", "surrogateescape")]
        environment = {**os.environ, **given, **more}
        return subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, timeout=300, check=False
        )

    return shell


@pytest.fixture
def _in_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Load clips without a process of their own, sum in one order, and put all back afterwards."""
    import torch

    from vcedge.training.settings import RunSettings

    def in_process(*arguments: Any, **given: Any) -> RunSettings:
        return RunSettings(*arguments, **{**given, "workers": 0})

    monkeypatch.setattr("vcedge.commands.train_options.RunSettings", in_process)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        yield
    torch.set_num_threads(threads)
