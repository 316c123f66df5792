"""Options that several commands share: what a part's text, a size or a distance may be."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import cv2
import numpy as np
import pytest

Run = Callable[..., CompletedProcess[str]]
Refuse = Callable[..., str]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--memory=dynamic:short=3.5", "received short='3.5' for DynamicPolicy; expected a whole"),
        (
            "--memory=dynamic:adaptive=maybe",
            "received adaptive='maybe' for Dyn",
        ),
        ("--memory=local_global:every=2.5", "received every='2.5' for LocalGlobalPolicy; expected"),
        ("--memory=references:long=0", "expected a list of 1 to 32, each a whole number"),
        ("--memory=endless", "received memory 'endless'; expected one of references"),
        ("--sampler=clusters:theta=nan", "expected a number, -0.999 to 0.999"),
        ("--fusion=joint:weight=1", "received 'weight=1' for fusion joint; expected setting=value"),
        ("--alignment=objects:reach=1000000", "expected a whole number, 1 to 256"),
        ("--alignment=objects:spread=1e308", "expected a number, 0.1 to 10000"),
        ("--size=100000", "100000 is not in the range 16<=x<=4096"),
        ("--size=15", "15 is not in the range 16<=x<=4096"),
    ],
)
def test_a_value_that_cannot_be_is_refused_before_a_model_is_opened(
    run: Run, option: str, message: str
) -> None:
    done = run("track", "none.mp4", "--mask", "none.png", "--model", "none", option)
    *_, line = done.stderr.splitlines()
    assert done.returncode == 2
    assert line.startswith(f"Error: Invalid value for '{option.partition('=')[0]}': ")
    assert message in line


@pytest.mark.parametrize("interval", [0, 65, 10**30])
def test_a_distance_that_cannot_be_is_refused_before_a_graph_is_loaded(
    refuse: Refuse, tmp_path: Path, interval: int
) -> None:
    image = tmp_path / "frames" / "0.png"
    image.parent.mkdir()
    cv2.imwrite(str(image), np.full((48, 64, 3), 255, np.uint8))
    mask = shutil.copy(image, tmp_path / "mask.png")
    options = ("--mask", mask, "--interval", interval)
    line = refuse("track", image.parent, *options)
    assert f"received interval={interval} for ObjectComposition; expected a whole number" in line
