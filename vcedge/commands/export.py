"""``vcedge export``: a bundle of ONNX graphs, and the proof that they are the model."""

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

from vcedge.commands.inspect_bundle import difference_table, island_table
from vcedge.commands.models import megabytes_of
from vcedge.commands.options import composed
from vcedge.commands.progress import Stages
from vcedge.commands.proof_clip import describe_proof, proven_on
from vcedge.commands.tables import open_console
from vcedge_calibration.samples import load_samples
from vcedge_export.plan import METHODS, RADIUS, TEMPERATURE, ExportOptions, Int8Settings
from vcedge_export.tensorrt import open_whole
from vcedge_export.verify import TruthClip
from vcedge_runtime.buffers import Device
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.engines.choosing import require_tensorrt
from vcedge_runtime.errors import ExportError, MissingExtraError, VcedgeError
from vcedge_runtime.installing import how_to_install
from vcedge_runtime.model.bundle import DEFAULT_MODEL, MANIFEST, Bundle, shipped_models
from vcedge_runtime.model.prompt_composition import PromptComposition


@click.command(name="export")
@click.argument("source", default=DEFAULT_MODEL)
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
@composed
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
    help="Quantise convolutions of encoders, alignment and decoders: for a CPU; with --fp16, for "
    "TensorRT.",
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
    source: str,
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
    """Export SOURCE to a bundle, and verify it.

    SOURCE is a shipped name or a .safetensors file, which PyTorch exports; or the folder of a
    bundle in FP32, which --fp16 and --int8 rewrite without PyTorch. Where PyTorch is missing, they
    take a shipped name's bundle.

    A bundle that is not the model is written all the same, marked so, and the exit code is 1.
    """
    given = _find_bundle(source, rewritten=fp16 or int8)
    if given is None:
        require_exporter()
    builds = _builds_engines(engines)
    if calibration is not None and not int8:
        raise ExportError("received --calibration without --int8; pass both, or neither")
    console = open_console()
    name = Path(source).stem + "-int8" * int8 + "-fp16" * fp16
    folder = out or Path("vcedge-out") / "bundles" / name
    began = time.monotonic()
    with Stages(console, "export").shown() as stages:
        options = ExportOptions(
            **chosen,
            fp16=fp16,
            int8=Int8Settings(calibrate_by, kept=kept) if int8 else None,
            samples=load_samples(calibration) if calibration else None,
            max_drop=max_drop / 100,
            engines=partial(_open_engines, console, stages) if builds else None,
        )
        bundle = _export(source, given, folder, clip, options, stages)
    _report(console, bundle, "PyTorch" if given is None else f"{given.name} in FP32")
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
    asks = isinstance(bundle.composition, PromptComposition)
    use = "mask PICTURE --box X,Y,W,H" if asks else "track VIDEO --mask FIRST.png"
    console.out(f"next: vcedge {use} --model {model}", highlight=False)


def _export(
    source: str,
    given: Bundle | None,
    folder: Path,
    clip: Callable[[], TruthClip],
    options: ExportOptions,
    stages: Stages,
) -> Bundle:
    """Rewrite the bundle that was given, or export weights."""
    if given is not None:
        from vcedge_export.rewriting import rewrite_bundle

        return rewrite_bundle(given, folder, clip(), options, stages)
    from vcedge.models.weights import load_weights
    from vcedge_export.bundle import export_bundle

    return export_bundle(load_weights(source), folder, clip(), options, stages)


def _find_bundle(source: str, *, rewritten: bool) -> Bundle | None:
    """The bundle that is named; None where weights are, which PyTorch exports."""
    stands_in = rewritten and find_spec("torch") is None and source in shipped_models()
    if stands_in or (Path(source) / MANIFEST).is_file():
        return Bundle.open(source)
    return None


def _report(console: Console, bundle: Bundle, source: str) -> None:
    describe_proof(console, bundle.verification, source)
    if bundle.precision != "fp32":
        console.print(island_table(bundle))
    console.print(difference_table(bundle.verification))
    if "tensorrt" in bundle.verification:
        describe_proof(console, bundle.verification["tensorrt"], source, "in TensorRT")
        console.print(difference_table(bundle.verification["tensorrt"]))


def _open_engines(
    console: Console, stages: Stages, bundle: Bundle
) -> tuple[Mapping[str, Engine], Device | None]:
    tell = partial(console.out, highlight=False)
    return open_whole(bundle, "tensorrt", tell=tell, on_progress=stages.advance)


def _builds_engines(wanted: bool | None) -> bool:
    """Whether TensorRT's engines are built: where they are wanted, or nobody said and they can."""
    if wanted is False:
        return False
    try:
        require_tensorrt()
    except VcedgeError as exc:
        if wanted:
            raise MissingExtraError(
                f"received --engines, but {exc}; `vcedge doctor` tells what is missing"
            ) from exc
        return False
    return True


def require_exporter() -> None:
    """Look for what PyTorch's exporter imports when it is called, before minutes are spent."""
    for package in ("torch", "onnx", "onnxscript"):
        if find_spec(package) is None:
            raise MissingExtraError(
                f"`vcedge export` of weights needs {package}, which is not installed; "
                f"run: {how_to_install('export')}; a bundle in FP32, or a shipped name, with "
                "--fp16 or --int8 needs no PyTorch"
            )
