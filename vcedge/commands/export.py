"""``vcedge export``: ONNX graphs, and the proof that they are the model."""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from vcedge.models.weights import load_weights
from vcedge_export.bundle import ExportOptions, export_bundle
from vcedge_export.verify import TruthClip
from vcedge_runtime.bundle import Bundle
from vcedge_runtime.demo_clip import render_demo_clip
from vcedge_runtime.errors import ExportError
from vcedge_runtime.video.palette import read_label_png
from vcedge_runtime.video.sources import open_source


@click.command(name="export")
@click.argument("weights", default="base-edge")
@click.option("--out", type=click.Path(path_type=Path), help="The bundle's folder.")
@click.option("--size", type=click.IntRange(min=16), help="Default working size of the bundle.")
@click.option("--radius", type=click.IntRange(min=1), default=12, show_default=True)
@click.option("--top-k", type=click.IntRange(min=1), help="Logits that take part in a readout.")
@click.option("--clip", help="Real frames to verify on; the demo clip by default.")
@click.option(
    "--truth",
    type=click.Path(path_type=Path),
    help="With --clip: folder of the true masks, named as the frames are.",
)
@click.option("--frames", type=click.IntRange(min=3), default=30, show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace a bundle that --out holds.")
def command(
    weights: str,
    out: Path | None,
    size: int | None,
    radius: int,
    top_k: int | None,
    clip: str | None,
    truth: Path | None,
    frames: int,
    overwrite: bool,
) -> None:
    """Export WEIGHTS (a shipped name or a .safetensors file) to a bundle, and verify it.

    A bundle that is not the model is written all the same, marked so, and the exit code is 1.
    """
    console = Console()
    folder = out or Path("vcedge-out") / "bundles" / Path(weights).stem
    began = time.monotonic()
    options = ExportOptions(size=size, radius=radius, top_k=top_k, overwrite=overwrite)
    with console.status("export") as status:
        bundle = export_bundle(
            load_weights(weights),
            folder,
            _read_clip(clip, truth, frames),
            options,
            on_stage=lambda stage: status.update(f"export: {stage}"),
        )
    console.print(_differences(bundle))
    megabytes = sum(bundle.path_of(name).stat().st_size for name in bundle.graphs) / 1e6
    console.print(f"wrote {folder} ({megabytes:.1f} MB) in {time.monotonic() - began:.0f} s")
    if not bundle.verification["passes"]:
        console.print("[red]the exported graphs are NOT the model[/red]; the bundle is marked so")
        raise click.exceptions.Exit(1)
    console.print(f"next: vcedge track VIDEO --mask FIRST.png --model {folder}")


def _read_clip(clip: str | None, truth: Path | None, frames: int) -> TruthClip:
    if clip is None:
        rendered = list(render_demo_clip(frames=frames, frame_hw=(240, 432)))
        images, masks = [list(column) for column in zip(*rendered, strict=True)]
        return TruthClip("demo clip", images, masks)
    if truth is None:
        raise ExportError("received --clip without --truth; pass the folder of its true masks")
    with open_source(clip) as source:
        chosen = list(islice(source, frames))
        masks = [read_label_png(truth / f"{frame.name}.png") for frame in chosen]
    return TruthClip(Path(clip).name, [frame.image for frame in chosen], masks)


def _differences(bundle: Bundle) -> Table:
    found = bundle.verification
    table = Table(
        title=f"exported against PyTorch, {found['clip']}, {found['frames']} frames: "
        f"J&F {found['score_exported']:.4f} and {found['score_model']:.4f}, "
        f"mask IoU {found['mask_iou'][0]:.5f} (lowest {found['mask_iou'][1]:.5f})"
    )
    for name in ("output", "largest error", "mean error", "largest value", "cosine", "not finite"):
        table.add_column(name)
    for row in found["outputs"]:
        table.add_row(
            row["tensor"],
            f"{row['largest']:.2e}",
            f"{row['mean']:.2e}",
            f"{row['magnitude']:.2e}",
            f"{row['cosine']:.8f}",
            str(row["non_finite"]),
        )
    return table
