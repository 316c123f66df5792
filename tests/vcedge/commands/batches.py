"""Batches of small videos, and what is read of their results."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from pathlib import Path

from tests.conftest import make_frame, make_mask
from tests.vcedge.commands.conftest import write_video
from vcedge_runtime.video.palette import write_label_png

KEPT = ("masks", "overlay.mp4", "objects.ndjson")
"""What a run leaves; its record has times in it."""


def make_clips(folder: Path, *lengths: int) -> Path:
    """Make a folder of small videos that differ, of so many frames each, with their masks."""
    folder.mkdir()
    digits = len(str(len(lengths) - 1))
    for number, length in enumerate(lengths):
        images = [make_frame(48, 64, (number + 2 * k) % 64) for k in range(length)]
        path = folder / f"clip{number:0{digits}d}.mp4"
        write_video(path, images)
        write_label_png(path.with_suffix(".png"), make_mask(48, 64, 3, 200))
    return folder


def read_table(out: Path) -> dict[str, dict[str, str]]:
    """Rows of the table by the folder of their results; the last one counts."""
    with (out / "results.csv").open(newline="") as file:
        return {row["results"]: row for row in csv.DictReader(file)}


def states(out: Path) -> dict[str, str]:
    return {name: row["state"] for name, row in read_table(out).items()}


def read_results(folder: Path) -> dict[str, bytes]:
    """Every result of a video, byte for byte."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if path.relative_to(folder).parts[0] in KEPT
    }


def times_of(out: Path) -> dict[str, int]:
    """When each result was written: what is done again is newer."""
    found = (path for name in KEPT for path in out.glob(f"*/{name}"))
    files = (file for path in found for file in (path.iterdir() if path.is_dir() else [path]))
    return {str(path): path.stat().st_mtime_ns for path in files}


def wait_for(condition: Callable[[], bool], seconds: float = 240) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)
