"""``vcedge export``: ONNX graphs, and the proof that they are the model."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from vcedge.commands.inspect_bundle import difference_table, island_table
from vcedge.commands.models import megabytes_of
from vcedge.commands.options import (
    ALIGNMENT,
    FUSION,
    INTERVAL,
    LOCAL,
    MEMORY,
    MOTION,
    PROTOTYPES,
    SAMPLER,
    VALUES,
)
from vcedge.models.weights import load_weights
from vcedge_calibration.samples import load_samples
from vcedge_export.bundle import export_bundle
from vcedge_export.int8 import METHODS, Int8Settings
from vcedge_export.label_model import RADIUS, TEMPERATURE
from vcedge_export.plan import ExportOptions
from vcedge_export.verify import TruthClip
from vcedge_runtime.bundle import DEFAULT_MODEL, Bundle
from vcedge_runtime.composition import Part
from vcedge_runtime.demo_clip import render_demo_clip
from vcedge_runtime.errors import ExportError, MissingExtraError
from vcedge_runtime.video.palette import read_label_png
from vcedge_runtime.video.sources import open_source


@click.command(name="export")
@click.argument("weights", default=DEFAULT_MODEL)
@click.option("--out", type=click.Path(path_type=Path), help="The bundle's folder.")
@click.option("--size", type=click.IntRange(min=16), help="Default working size of the bundle.")
@click.option(
    "--radius", type=click.IntRange(min=1), help=f"Window radius in key cells; {RADIUS} by default."
)
@click.option("--top-k", type=click.IntRange(min=1), help="Logits that take part in a readout.")
@click.option(
    "--temperature",
    type=click.FloatRange(min=0, min_open=True),
    help=f"Divides the logits of a readout; {TEMPERATURE} by default.",
)
@MEMORY
@SAMPLER
@FUSION
@ALIGNMENT
@MOTION
@VALUES
@LOCAL
@INTERVAL
@PROTOTYPES
@click.option(
    "--deform-conv",
    is_flag=True,
    help="Write SRNet's alignment with ONNX's DeformConv instead of grid samples: ONNX Runtime has "
    "it since 1.25, TensorRT since 10.1.",
)
@click.option(
    "--fp16",
    is_flag=True,
    help="Half precision, written into the graphs, with islands in FP32: for TensorRT and CUDA, "
    "and half the size everywhere.",
)
@click.option(
    "--int8",
    is_flag=True,
    help="Quantise convolutions of encoders and decoders: for a CPU; with --fp16, for TensorRT.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    help="With --int8: what vcedge calibrate recorded; the frames of the proof by default.",
)
@click.option(
    "--calibrate-by",
    type=click.Choice(METHODS),
    default="minmax",
    show_default=True,
    help="How the range of an activation follows from what was seen.",
)
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 100),
    default=1.0,
    show_default=True,
    help="Most points of J&F that INT8 may lose on the frames of the proof.",
)
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
    radius: int | None,
    top_k: int | None,
    temperature: float | None,
    memory: str | Part | None,
    sampler: str | Part | None,
    fusion: str | Part | None,
    alignment: str | Part | None,
    motion: bool | None,
    value_extraction: bool | None,
    local: str | None,
    interval: int | None,
    prototypes: bool | None,
    deform_conv: bool,
    fp16: bool,
    int8: bool,
    calibration: Path | None,
    calibrate_by: str,
    max_drop: float,
    clip: str | None,
    truth: Path | None,
    frames: int,
    overwrite: bool,
) -> None:
    """Export WEIGHTS (a shipped name or a .safetensors file) to a bundle, and verify it.

    A bundle that is not the model is written all the same, marked so, and the exit code is 1.
    """
    _require_exporter()
    if calibration is not None and not int8:
        raise ExportError("received --calibration without --int8; pass both, or neither")
    console = Console()
    name = Path(weights).stem + "-int8" * int8 + "-fp16" * fp16
    folder = out or Path("vcedge-out") / "bundles" / name
    began = time.monotonic()
    options = ExportOptions(
        size=size,
        radius=radius,
        top_k=top_k,
        temperature=temperature,
        memory=memory,
        sampler=sampler,
        fusion=fusion,
        alignment=alignment,
        motion=motion,
        value_extraction=value_extraction,
        local=local,
        interval=interval,
        prototypes=prototypes,
        deform_conv=deform_conv,
        fp16=fp16,
        int8=Int8Settings(calibrate_by) if int8 else None,
        samples=load_samples(calibration) if calibration else None,
        max_drop=max_drop / 100,
        overwrite=overwrite,
    )
    with console.status("export") as status:
        bundle = export_bundle(
            load_weights(weights),
            folder,
            _read_clip(clip, truth, frames),
            options,
            on_stage=lambda stage: status.update(f"export: {stage}"),
        )
    _print_proof(console, bundle)
    seconds = time.monotonic() - began
    what = f"{megabytes_of(bundle):.1f} MB, {bundle.precision}"
    console.out(f"wrote {folder} ({what}) in {seconds:.0f} s", highlight=False)
    if not bundle.verification["passes"]:
        console.print("[red]the exported graphs are NOT the model[/red]; the bundle is marked so")
        raise click.exceptions.Exit(1)
    model = shlex.quote(str(folder))
    console.out(f"next: vcedge track VIDEO --mask FIRST.png --model {model}", highlight=False)


def _require_exporter() -> None:
    """Look for what PyTorch's exporter imports when it is called, before minutes are spent."""
    if find_spec("onnxscript") is None:
        raise MissingExtraError(
            "`vcedge export` needs onnxscript, which is not installed; "
            'run: pip install "vcedge[export]"'
        )


def _read_clip(clip: str | None, truth: Path | None, frames: int) -> TruthClip:
    if (clip is None) != (truth is None):
        given, lacking = ("--clip", "--truth") if truth is None else ("--truth", "--clip")
        raise ExportError(
            f"received {given} without {lacking}; pass the frames and the folder of their masks"
        )
    if clip is None or truth is None:
        rendered = list(render_demo_clip(frames=frames, frame_hw=(240, 432)))
        images, masks = [list(column) for column in zip(*rendered, strict=True)]
        return TruthClip("demo clip", images, masks)
    with open_source(clip) as source:
        chosen = list(islice(source, frames))
        masks = [read_label_png(truth / f"{frame.name}.png") for frame in chosen]
    return TruthClip(Path(clip).name, [frame.image for frame in chosen], masks)


def _print_proof(console: Console, bundle: Bundle) -> None:
    found = bundle.verification
    if "unrounded" in found:
        console.out("as a GPU rounds it, " + _headline(found), highlight=False)
        console.out("as a CPU runs it, " + _headline(found["unrounded"]), highlight=False)
        console.print(island_table(bundle))
    else:
        console.out(_headline(found), highlight=False)
    console.print(difference_table(found))


def _headline(found: Mapping[str, Any]) -> str:
    mean, lowest = found["mask_iou"]
    return (
        f"exported against PyTorch, {found['clip']}, {found['frames']} frames: "
        f"J&F {found['score_exported']:.4f} and {found['score_model']:.4f}, "
        f"mask IoU {mean:.5f} (lowest {lowest:.5f})"
    )
