"""What a bundle is proven on: options that export and verify share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, wraps
from itertools import islice
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from vcedge_export.differences import find_worst, read_outputs
from vcedge_export.verify import TruthClip
from vcedge_runtime.demo.clip import render_demo_clip
from vcedge_runtime.errors import ExportError
from vcedge_runtime.telling import hide_secrets, make_printable
from vcedge_runtime.video.palette import read_label_png
from vcedge_runtime.video.sources import open_source


def proven_on(command: Callable[..., None]) -> Callable[..., None]:
    """Add what a proof hangs on; the command takes ``max_drop`` and ``clip``, which reads it."""

    @wraps(command)
    def read(clip: str | None, truth: Path | None, frames: int, **others: Any) -> None:
        if (clip is None) != (truth is None):
            given, lacking = ("--clip", "--truth") if truth is None else ("--truth", "--clip")
            raise ExportError(
                f"received {given} without {lacking}; pass the frames and the folder of their masks"
            )
        command(clip=partial(_read_clip, clip, truth, frames), **others)

    options = (
        click.option("--clip", help="Real frames to verify on; the demo clip by default."),
        click.option(
            "--truth",
            type=click.Path(path_type=Path),
            help="With --clip: folder of the true masks, named as the frames are.",
        ),
        click.option("--frames", type=click.IntRange(min=3), default=30, show_default=True),
        click.option(
            "--max-drop",
            type=click.FloatRange(0, 100),
            default=1.0,
            show_default=True,
            help="Most points of J&F that INT8 may lose on these frames.",
        ),
    )
    for option in reversed(options):
        read = option(read)
    return read


def describe_proof(
    console: Console, found: Mapping[str, Any], source: str, what: str = "exported"
) -> None:
    """Print what a proof found, in a few lines.

    Args:
        console: where.
        found: as ``prove`` gives it.
        source: what it was held against.
        what: what was proven.
    """
    if found.get("unreached"):
        names = ", ".join(found["unreached"])
        console.out(f"not run by this composition, so not compared: {names}", highlight=False)
    if "unrounded" not in found:
        console.out(_headline(what, source, found), highlight=False)
        return
    console.out(_headline("as a GPU rounds it", source, found), highlight=False)
    console.out(_headline("as a CPU runs it", source, found["unrounded"]), highlight=False)


def describe_verdict(found: Mapping[str, Any], what: str) -> str:
    """Say in a line whether something is the model, and by which numbers.

    Args:
        found: as ``prove`` gives it.
        what: what was proven.
    """
    outputs = read_outputs(found)
    worst = find_worst(outputs)
    numbers = [
        f"{sum(row.passes for row in outputs)} of {len(outputs)} outputs within their bounds",
        f"{worst.tensor} at {worst.share_of_bound:.1%} of its own",
        f"J&F {found['score_exported']:.4f} for {found['score_model']:.4f}",
    ]
    if "score_device" in found:
        numbers.append(f"{found['score_device']:.4f} with memory on the device")
    verdict = "proven: {} is the model" if found["passes"] else "NOT proven: {} is NOT the model"
    return f"{verdict.format(what)} ({', '.join(numbers)})"


def _headline(what: str, source: str, found: Mapping[str, Any]) -> str:
    mean, lowest = found["mask_iou"]
    return (
        f"{what} against {source}, {found['clip']}, {found['frames']} frames: "
        f"J&F {found['score_exported']:.4f} and {found['score_model']:.4f}, "
        f"mask IoU {mean:.5f} (lowest {lowest:.5f})"
    )


def _read_clip(clip: str | None, truth: Path | None, frames: int) -> TruthClip:
    if clip is None or truth is None:
        rendered = list(render_demo_clip(frames=frames, frame_hw=(240, 432)))
        images, masks = [list(column) for column in zip(*rendered, strict=True)]
        return TruthClip("demo clip", images, masks)
    with open_source(clip) as source:
        chosen = list(islice(source, frames))
        masks = [read_label_png(truth / f"{frame.name}.png") for frame in chosen]
    label = make_printable(Path(hide_secrets(clip)).name)
    return TruthClip(label, [frame.image for frame in chosen], masks)
