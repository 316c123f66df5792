"""``vcedge calibrate``: run a tracker over video and keep what its graphs are given, for INT8."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress, TaskID

from vcedge.commands.progress import progress_bar
from vcedge.commands.tables import open_console
from vcedge.fleet.contents import digest_facts, digest_source
from vcedge_calibration.recording import CalibrationClip, record_inputs
from vcedge_calibration.samples import Recording, find_recording, graphs_of, save_samples
from vcedge_runtime.errors import BundleError, MaskError, OutputError, SourceError
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.telling import make_printable
from vcedge_runtime.video.masks import read_mask
from vcedge_runtime.video.pictures import list_masks
from vcedge_runtime.video.sources import Source, open_source

ELLIPSE = 0.25
"""Half axes of the object that stands in for an unknown one, as a share of the frame's sides."""


@click.command(name="calibrate")
@click.argument("bundle")
@click.argument("videos", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--masks",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of first masks: NAME.png of each video, or a folder NAME whose first PNG it is. "
    "Without, an ellipse in the middle stands in for the object.",
)
@click.option("--frames", type=click.IntRange(min=2), default=60, show_default=True)
@click.option(
    "--samples", type=click.IntRange(min=1), default=24, show_default=True, help="Of each graph."
)
@click.option("--size", type=click.IntRange(min=16), help="Working size; the bundle's by default.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of what is kept."
)
@click.option("--out", type=click.Path(path_type=Path), help="The recording's folder.")
def command(
    bundle: str,
    videos: Sequence[Path],
    masks: Path | None,
    frames: int,
    samples: int,
    size: int | None,
    seed: int,
    out: Path | None,
) -> None:
    """Record what the graphs of BUNDLE (FP32) are given while it tracks VIDEOS.

    The tracker runs in a closed loop: what is recorded holds its own masks and memory. The same
    videos and options give the same recording, which is then not made again.
    """
    opened = Bundle.open(bundle)
    if opened.precision != "fp32":
        raise BundleError(
            f"received {opened.folder}, a bundle in {opened.precision}; expected one in FP32"
        )
    recording = Recording(
        model=opened.name,
        graphs=graphs_of(opened),
        clips=[(path.stem, _fingerprint(path, masks)) for path in videos],
        frames=frames,
        samples=samples,
        size=size or opened.composition.size,
        seed=seed,
    )
    folder = out or Path("vcedge-out") / "calibration" / f"{opened.name}-{recording.key}"
    step = ["vcedge", "export", str(bundle), "--int8", "--calibration", str(folder)]
    next_step = f"next: {shlex.join(step)}"
    console = open_console()
    if find_recording(folder) == recording.key:
        console.out(f"{folder} holds this recording already", highlight=False)
        console.out(next_step, highlight=False)
        return
    if folder.exists() and find_recording(folder) is None:
        raise OutputError(f"{folder} exists and is no recording; remove it or choose another --out")
    began = time.monotonic()
    for path in videos:  # What cannot be read is told before any is tracked.
        with open_source(path) as video:
            _read_mask(video, path, masks)
    with progress_bar(console, "frames/s") as bar:
        clips = _open_clips(videos, masks, frames, bar)
        found = record_inputs(opened, clips, samples=samples, seed=seed, size=recording.size)
    save_samples(folder, recording, found)
    kept = ", ".join(f"{name} {len(runs)}" for name, runs in found.items())
    size_mb = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    seconds = time.monotonic() - began
    console.out(f"samples: {kept}", highlight=False)
    console.out(f"wrote {folder} ({size_mb:.1f} MB) in {seconds:.0f} s", highlight=False)
    console.out(next_step, highlight=False)


def find_first_mask(masks: Path, name: str) -> Path:
    """The mask of a video's first frame.

    Args:
        masks: holds ``name.png``, or a folder ``name`` whose first PNG it is.
        name: of the video, without its ending.

    Raises:
        MaskError: there is none.
    """
    single = masks / f"{name}.png"
    if single.is_file():
        return single
    found = list_masks(masks / name)
    if not found:
        raise MaskError(
            f"{masks} holds no mask of {name}; expected {name}.png, or a folder {name} with PNGs"
        )
    return found[0]


def _fingerprint(path: Path, masks: Path | None) -> str:
    """sha256 of what a video, or a folder's files, and its first mask hold."""
    if not path.exists():
        raise SourceError(f"{path} does not exist; expected a video or a folder of images")
    mask = None if masks is None else digest_source(find_first_mask(masks, path.stem))
    return digest_facts({"video": digest_source(path), "mask": mask})


def _open_clips(
    videos: Iterable[Path], masks: Path | None, frames: int, bar: Progress
) -> Iterator[CalibrationClip]:
    """Open one video after the other: a thousand are no more than one."""
    for path in videos:
        with open_source(path) as video:
            length = None if video.length is None else min(frames, video.length)
            task = bar.add_task(make_printable(path.stem), total=length, speed=0.0)
            mask = _read_mask(video, path, masks)
            yield CalibrationClip(video.label, _watch(video, frames, bar, task), mask)


def _read_mask(video: Source, path: Path, masks: Path | None) -> NDArray[np.uint8]:
    if masks is None:
        return _draw_ellipse(video.frame_hw)
    return read_mask(find_first_mask(masks, path.stem), frame_hw=video.frame_hw)


def _watch(video: Source, frames: int, bar: Progress, task: TaskID) -> Iterator[NDArray[np.uint8]]:
    """The first frames of a video, while the bar moves."""
    began = time.monotonic()
    for count, frame in enumerate(islice(video, frames), start=1):
        yield frame.image
        bar.update(task, completed=count, speed=count / (time.monotonic() - began))


def _draw_ellipse(frame_hw: tuple[int, int]) -> NDArray[np.uint8]:
    height, width = frame_hw
    mask = np.zeros(frame_hw, np.uint8)
    axes = (round(ELLIPSE * width), round(ELLIPSE * height))
    cv2.ellipse(mask, (width // 2, height // 2), axes, 0, 0, 360, 1, -1)
    return mask
