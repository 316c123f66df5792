"""``vcedge export``: ONNX graphs, and the proof that they are the model."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.status import Status

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
from vcedge.commands.proof_clip import describe_proof, proven_on
from vcedge.models.weights import load_weights
from vcedge_calibration.samples import load_samples
from vcedge_export.bundle import export_bundle
from vcedge_export.int8 import METHODS, Int8Settings
from vcedge_export.label_model import RADIUS, TEMPERATURE
from vcedge_export.plan import ExportOptions
from vcedge_export.tensorrt import can_build, open_whole
from vcedge_export.verify import TruthClip
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.engines.plans import BuildProgress
from vcedge_runtime.errors import ExportError, MissingExtraError
from vcedge_runtime.model.bundle import DEFAULT_MODEL, Bundle


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
    default="percentile",
    show_default=True,
    help="How the range of an activation follows from what was seen.",
)
@click.option(
    "--keep-layer",
    "kept",
    multiple=True,
    metavar="GRAPH.LAYER",
    help="A layer that INT8 leaves as it is, as a refusal names it; may be given again.",
)
@proven_on
@click.option(
    "--engines/--no-engines",
    default=None,
    help="Build TensorRT's engines for frames like those of the proof, and prove them too; by "
    "default where TensorRT and a GPU are.",
)
@click.option("--overwrite", is_flag=True, help="Replace a bundle that --out holds.")
def command(
    weights: str,
    out: Path | None,
    fp16: bool,
    int8: bool,
    calibration: Path | None,
    calibrate_by: str,
    kept: tuple[str, ...],
    engines: bool | None,
    max_drop: float,
    clip: Callable[[], TruthClip],
    **chosen: Any,
) -> None:
    """Export WEIGHTS (a shipped name or a .safetensors file) to a bundle, and verify it.

    A bundle that is not the model is written all the same, marked so, and the exit code is 1.
    """
    _require_exporter()
    if engines and not can_build():
        raise MissingExtraError(
            "received --engines where TensorRT or a GPU is missing; `vcedge doctor` tells which"
        )
    if calibration is not None and not int8:
        raise ExportError("received --calibration without --int8; pass both, or neither")
    console = Console()
    name = Path(weights).stem + "-int8" * int8 + "-fp16" * fp16
    folder = out or Path("vcedge-out") / "bundles" / name
    began = time.monotonic()
    with console.status("export") as status:
        builds = engines or (engines is None and can_build())
        options = ExportOptions(
            **chosen,
            fp16=fp16,
            int8=Int8Settings(calibrate_by, kept=kept) if int8 else None,
            samples=load_samples(calibration) if calibration else None,
            max_drop=max_drop / 100,
            engines=partial(_open_engines, console, status) if builds else None,
        )
        bundle = export_bundle(
            load_weights(weights),
            folder,
            clip(),
            options,
            on_stage=lambda stage: status.update(f"export: {stage}"),
        )
    describe_proof(console, bundle.verification, "PyTorch")
    if bundle.precision != "fp32":
        console.print(island_table(bundle))
    console.print(difference_table(bundle.verification))
    if "tensorrt" in bundle.verification:
        describe_proof(console, bundle.verification["tensorrt"], "PyTorch", "in TensorRT")
        console.print(difference_table(bundle.verification["tensorrt"]))
    seconds = time.monotonic() - began
    what = f"{megabytes_of(bundle):.1f} MB, {bundle.precision}"
    console.out(f"wrote {folder} ({what}) in {seconds:.0f} s", highlight=False)
    engines_pass = bundle.verification.get("tensorrt", {"passes": True})["passes"]
    if not engines_pass:
        console.print("[red]the engines are NOT the model[/red]; track --backend cuda or cpu")
    if not bundle.verification["passes"]:
        console.print("[red]the exported graphs are NOT the model[/red]; the bundle is marked so")
    if not (bundle.verification["passes"] and engines_pass):
        raise click.exceptions.Exit(1)
    model = shlex.quote(str(folder))
    console.out(f"next: vcedge track VIDEO --mask FIRST.png --model {model}", highlight=False)


def _open_engines(console: Console, status: Status, bundle: Bundle) -> Mapping[str, Engine]:
    def show(progress: BuildProgress) -> None:
        status.update(f"{progress.graph}: {progress.phase} {progress.done}/{progress.steps}")

    tell = partial(console.out, highlight=False)
    return open_whole(bundle, "tensorrt", tell=tell, on_progress=show)


def _require_exporter() -> None:
    """Look for what PyTorch's exporter imports when it is called, before minutes are spent."""
    if find_spec("onnxscript") is None:
        raise MissingExtraError(
            "`vcedge export` needs onnxscript, which is not installed; "
            'run: pip install "vcedge[export]"'
        )
