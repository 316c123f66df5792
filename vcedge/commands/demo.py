"""``vcedge demo``: a clip that vcedge renders itself, tracked and scored; it needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from vcedge.commands.options import MODEL, SIZE, open_tracker, opened
from vcedge.commands.progress import session_bar
from vcedge.evaluation.davis import score_sequence
from vcedge_runtime.demo.clip import CAST, DemoClip, render_demo_clip
from vcedge_runtime.session import SessionReport, track_frames
from vcedge_runtime.video.sinks import OVERLAY_NAME, MaskList, OverlayVideo, prepare_output
from vcedge_runtime.video.sources import Frame

FPS = 24.0


@click.command(name="demo")
@MODEL
@SIZE
@opened
@click.option("--frames", type=click.IntRange(min=3), default=60, show_default=True)
@click.option("--objects", type=click.IntRange(1, len(CAST)), default=2, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("vcedge-out/demo"))
@click.option("--overwrite", is_flag=True, help="Replace what an earlier run wrote to --out.")
def command(
    model: str,
    size: int | None,
    frames: int,
    objects: int,
    seed: int,
    out: Path,
    overwrite: bool,
    **backend: Any,
) -> None:
    """Render a clip (textured objects, camera motion, an occlusion), track it, score it."""
    console = Console()
    clip = render_demo_clip(frames=frames, objects=objects, seed=seed)
    with open_tracker(model, size=size, **backend) as tracker, ExitStack() as stack:
        folder = prepare_output(out, overwrite=overwrite)
        first, truth = next(iter(clip))[1], list[NDArray[np.uint8]]()
        tracked = MaskList()
        sinks = [tracked, stack.enter_context(OverlayVideo(folder / OVERLAY_NAME, FPS))]
        report = SessionReport()
        on_frame = stack.enter_context(session_bar(console, frames))
        stream = _remember_truth(clip, truth)
        track_frames(tracker, stream, first, sinks, report, on_frame)
    score = score_sequence(truth, tracked.masks)
    console.out(
        f"rendered and tracked {objects} object{'s' if objects > 1 else ''} through "
        f"{frames} frames of {clip.frame_hw[1]}x{clip.frame_hw[0]}: J&F {score.j_and_f:.3f}, "
        f"{_tracking_fps(report):.1f} frames/s without the rendering",
        highlight=False,
    )
    console.out(f"wrote {folder / OVERLAY_NAME}", highlight=False)
    console.out("next: vcedge track VIDEO --mask FIRST.png", highlight=False)


def _remember_truth(clip: DemoClip, truth: list[NDArray[np.uint8]]) -> Iterator[Frame]:
    for index, (image, labels) in enumerate(clip):
        truth.append(labels)
        yield Frame(index, f"{index:05d}", image)


def _tracking_fps(report: SessionReport) -> float:
    stages = [times for stage, times in report.timings_ms.items() if stage != "decode"]
    return 1000 * report.frames / sum(sum(times) for times in stages)
