"""What the tests of the scripts share: a way to run them, and a small DAVIS folder."""

from __future__ import annotations

import contextlib
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge_runtime.model.bundle import Bundle

SCRIPTS = Path(__file__).parents[2] / "benchmarks"
MakeImage = Callable[..., NDArray[np.uint8]]
RunScript = Callable[..., dict[str, Any]]


@pytest.fixture
def run_script(tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunScript:
    """Run a script, on the tiny model unless another is given; returns its JSON."""
    pytest.importorskip("onnxruntime")

    def run(
        name: str, *options: object, model: object = tiny_bundle.folder, exit_code: int = 0
    ) -> dict[str, Any]:
        report = tmp_path / "report.json"
        arguments = [*options, "--model", model, "--json", report]
        monkeypatch.setattr("sys.argv", [name, *map(str, arguments)])
        with pytest.raises(SystemExit) if exit_code else contextlib.suppress(SystemExit) as stop:
            runpy.run_path(str(SCRIPTS / name), run_name="__main__")
        assert stop is None or stop.value.code == exit_code
        return dict(json.loads(report.read_text()))

    return run


@pytest.fixture
def davis(make_frame: MakeImage, make_mask: MakeImage, tmp_path: Path) -> Path:
    """A DAVIS folder of two sequences of five frames."""
    for name in ("first", "second"):
        images, masks = (
            tmp_path / "davis" / f / "480p" / name for f in ("JPEGImages", "Annotations")
        )
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        for index in range(5):
            cv2.imwrite(str(images / f"{index:05d}.png"), make_frame(66, 98, 2 * index))
            mask = np.roll(make_mask(66, 98, 1), 2 * index, axis=1)
            cv2.imwrite(str(masks / f"{index:05d}.png"), 255 * mask)
    return tmp_path / "davis"
