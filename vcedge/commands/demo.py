"""``vcedge demo``: a clip that vcedge renders itself, tracked and scored; it needs nothing else."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from vcedge.commands.grouped import GroupedCommand, typed_options
from vcedge.commands.options import MODEL, open_tracker, opened, sized
from vcedge.commands.progress import session_bar
from vcedge.evaluation.davis import score_sequence
from vcedge_runtime.demo.clip import CAST, DemoClip, render_demo_clip
from vcedge_runtime.files import OnDone, write_whole
from vcedge_runtime.session import KEPT_TIMINGS, SessionReport, track_frames
from vcedge_runtime.video.outputs import OutputFolder, require_free
from vcedge_runtime.video.palette import write_label_png
from vcedge_runtime.video.points import INPUT_HEADER
from vcedge_runtime.video.sinks import OVERLAY_NAME, MaskList, OverlayVideo
from vcedge_runtime.video.sources import Frame

FPS = 24.0
CLIP_NAME = "clip.mp4"
MASK_NAME = "first.png"
FIRST_POINTS_NAME = "first.csv"
WRITTEN = (OVERLAY_NAME, CLIP_NAME, MASK_NAME, FIRST_POINTS_NAME)
GROUPS = {
    "What most people need": ("out", "model", "fast", "accurate", "size", "backend"),
    "The clip": ("frames", "objects", "seed", "overwrite"),
    "Engines": ("threads", "cuda_graphs"),
}
REPEATED = ("size", "fast", "accurate", "backend", "threads", "cuda_graphs", "overwrite")
"""Options that ``track`` has too, with the same meaning, whatever it follows."""


@click.command(name="demo", cls=GroupedCommand, groups=GROUPS)
@MODEL
@sized
@opened
@click.option("--frames", type=click.IntRange(min=3), default=60, show_default=True)
@click.option("--objects", type=click.IntRange(1, len(CAST)), default=2, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("vcedge-out/demo"),
    show_default=True,
    help="Folder of the overlay, the clip, and its first mask and points.",
)
@click.option("--overwrite", is_flag=True, help="Replace what an earlier run wrote to --out.")
def command(
    frames: int,
    objects: int,
    seed: int,
    out: Path,
    overwrite: bool,
    **chosen: Any,
) -> None:
    """Render a clip (textured objects, camera motion, an occlusion), track it, score it."""
    console = Console()
    clip = render_demo_clip(frames=frames, objects=objects, seed=seed)
    require_free(out, overwrite=overwrite, names=WRITTEN)
    with open_tracker(**chosen) as tracker, ExitStack() as stack:
        output = stack.enter_context(OutputFolder(out, overwrite=overwrite))
        folder = output.path
        first, truth = next(iter(clip))[1], list[NDArray[np.uint8]]()
        for name, write in ((MASK_NAME, write_label_png), (FIRST_POINTS_NAME, write_points)):
            path = folder / name
            output.claim(path)
            write(path, first, on_done=partial(output.note, path))
        tracked = MaskList()
        sinks = [tracked, stack.enter_context(OverlayVideo(folder / OVERLAY_NAME, FPS, output))]
        raw = stack.enter_context(OverlayVideo(folder / CLIP_NAME, FPS, output))
        report = SessionReport()
        on_frame = stack.enter_context(session_bar(console, frames))
        stream = _keep_clip(clip, truth, raw)
        track_frames(tracker, stream, first, sinks, report, on_frame)
    score = score_sequence(truth, tracked.masks)
    console.out(
        f"rendered and tracked {objects} object{'s' if objects > 1 else ''} through "
        f"{frames} frames of {clip.frame_hw[1]}x{clip.frame_hw[0]}: J&F {score.j_and_f:.3f}, "
        f"{tracking_fps(report):.1f} frames/s without the rendering",
        highlight=False,
    )
    for name in WRITTEN:
        console.out(f"wrote {folder / name}", highlight=False)
    for word, step in zip(("next:", "or:"), next_steps(folder), strict=True):
        console.out(word, shlex.join(step), highlight=False)


def next_steps(folder: Path) -> list[list[str]]:
    """Commands that track the clip from its mask and from its points, as they were typed here."""
    track = ["vcedge", "track", str(folder / CLIP_NAME)]
    by_mask = ["--mask", str(folder / MASK_NAME), "--out", str(folder / "tracked")]
    by_points = ["--points", str(folder / FIRST_POINTS_NAME), "--out", str(folder / "points")]
    # Points need a model of their own.
    return [
        [*track, *by_mask, *typed_options(("model", *REPEATED))],
        [*track, *by_points, *typed_options(REPEATED)],
    ]


def write_points(
    path: Path,
    labels: NDArray[np.uint8],
    *,
    on_done: OnDone = lambda place: None,
) -> None:
    """Write a point inside each object, as ``vcedge track --points`` reads it.

    Args:
        path: the CSV file.
        labels: (H, W) uint8 object ids, 0 the background.
        on_done: told where the whole file stands right before it gets its name.

    Raises:
        OutputError: it cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(INPUT_HEADER)
    for object_id in np.unique(labels[labels > 0]).tolist():
        depth = cv2.distanceTransform((labels == object_id).view(np.uint8), cv2.DIST_L2, 5)
        y, x = np.unravel_index(depth.argmax(), depth.shape)
        writer.writerow((f"object-{object_id}", int(x), int(y)))
    write_whole(path, text.getvalue().encode(), on_done=on_done)


def _keep_clip(
    clip: DemoClip, truth: list[NDArray[np.uint8]], video: OverlayVideo
) -> Iterator[Frame]:
    """Yield the clip's frames, and keep its masks and its video."""
    for index, (image, labels) in enumerate(clip):
        truth.append(labels)
        frame = Frame(index, f"{index:05d}", image)
        # An overlay without an object is the frame itself.
        video.write(frame, np.zeros_like(labels), {})
        yield frame


def tracking_fps(report: SessionReport) -> float:
    """Of the last frames: the timings of no more are kept."""
    stages = [times for stage, times in report.timings_ms.items() if stage != "decode"]
    return 1000 * min(report.frames, KEPT_TIMINGS) / sum(sum(times) for times in stages)
