"""What a lower precision costs in accuracy and saves in size and time, against FP32 in one run."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from vcedge.commands.calibrate import find_first_mask
from vcedge.commands.tables import make_table, open_console
from vcedge.doctor.machine import describe_machine
from vcedge.evaluation.davis import list_sequences
from vcedge.evaluation.davis_run import track_and_score
from vcedge_calibration.recording import CalibrationClip, Sample, record_inputs
from vcedge_export.plan import METHODS, ExportOptions, Int8Settings
from vcedge_export.precision import lower_precision, open_engines
from vcedge_runtime.buffers import Buffer
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.engines.onnxruntime import engine_from_bundle
from vcedge_runtime.errors import VcedgeError
from vcedge_runtime.files import write_json
from vcedge_runtime.model.bundle import PRECISIONS, QUANTISED, Bundle
from vcedge_runtime.model.spec import GraphSpec
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.masks import read_mask
from vcedge_runtime.video.sources import open_source

SAMPLES = 24


@dataclass
class CountingEngine:
    """Counts what is not finite in the outputs of a graph.

    Attributes:
        engine: the graph.
        non_finite: values so far.
    """

    engine: Engine
    non_finite: int = 0

    @property
    def spec(self) -> GraphSpec:
        """Names, dtypes and shapes of the graph."""
        return self.engine.spec

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        """Run once; see ``Engine.run``."""
        self.engine.run(inputs, out)
        self.non_finite += sum(int((~np.isfinite(array)).sum()) for array in out.values())

    def close(self) -> None:
        """Release the graph."""
        self.engine.close()


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="JPEGImages and Annotations")
    parser.add_argument("--models", default="mer-lite,dmp-lite,mer-edge,srnet-lite")
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    parser.add_argument("--sequences", help="names, separated by commas; all otherwise")
    parser.add_argument("--size", type=int, help="working size; the model's own otherwise")
    parser.add_argument("--videos", type=Path, nargs="*", default=[], help="to calibrate INT8 on")
    parser.add_argument("--masks", type=Path, help="their first masks, as vcedge calibrate reads")
    parser.add_argument("--calibrate-by", choices=METHODS, default="percentile")
    parser.add_argument("--frames", type=int, default=30, help="of each of these videos")
    parser.add_argument("--runs", type=int, default=9, help="of each graph that is timed")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("precision.json"))
    return parser.parse_args()


def record(bundle: Bundle, arguments: argparse.Namespace) -> dict[str, list[Sample]]:
    """What the graphs are given while the videos are tracked."""
    clips = []
    for path in arguments.videos:
        with open_source(path) as video:
            mask = read_mask(find_first_mask(arguments.masks, path.stem), frame_hw=video.frame_hw)
            frames = [frame.image for frame in islice(video, arguments.frames)]
        clips.append(CalibrationClip(path.stem, frames, mask))
    return record_inputs(bundle, clips, samples=SAMPLES, size=arguments.size)


def lower(
    bundle: Bundle, precision: str, samples: Mapping[str, list[Sample]], folder: Path, method: str
) -> Bundle:
    """A copy of a bundle in another precision."""
    shutil.copytree(bundle.folder, folder)
    copied = replace(bundle, folder=folder)
    options = ExportOptions(
        fp16=precision == "fp16",
        int8=Int8Settings(method) if precision == "int8" else None,
        samples=samples,
    )
    nothing = CalibrationClip("none", [], np.zeros((1, 1), np.uint8))
    lowered, _ = lower_precision(copied, options, nothing)
    lowered.save()
    return Bundle.open(folder)


def score(
    bundle: Bundle, names: list[str], arguments: argparse.Namespace
) -> tuple[dict[str, float], int]:
    """J&F of each sequence, and how many values were not finite; FP16 is rounded as on a GPU."""
    graphs = bundle.composition.graphs
    opened = open_engines(bundle, graphs, rounded=bundle.precision == "fp16")
    counting = {name: CountingEngine(engine) for name, engine in opened.items()}
    with Tracker(bundle, counting, size=arguments.size) as tracker:
        found = track_and_score(arguments.root, names, tracker, lambda score: None)
    sequences = {sequence.name: sequence.j_and_f for sequence in found.score.sequences}
    return sequences, sum(engine.non_finite for engine in counting.values())


def time_graphs(
    bundles: Mapping[str, Bundle],
    samples: Mapping[str, list[Sample]],
    arguments: argparse.Namespace,
) -> dict[str, dict[str, float]]:
    """Median milliseconds of the quantised graphs in each precision, taking turns."""
    found: dict[str, dict[str, float]] = {}
    for graph in QUANTISED:
        if graph not in samples:
            continue
        engines = {
            precision: engine_from_bundle(bundle, graph, threads=arguments.threads)
            for precision, bundle in bundles.items()
        }
        inputs, out = samples[graph][0], _outputs(bundles["fp32"], graph, samples[graph][0])
        times: dict[str, list[float]] = {precision: [] for precision in engines}
        for _ in range(arguments.runs + 1):
            for precision, engine in engines.items():
                began = time.perf_counter()
                engine.run(inputs, out)
                times[precision].append(1000 * (time.perf_counter() - began))
        found[graph] = {name: float(np.median(ms[1:])) for name, ms in times.items()}
        for engine in engines.values():
            engine.close()
    return found


def _outputs(bundle: Bundle, graph: str, inputs: Sample) -> dict[str, Buffer]:
    spec, stride = bundle.graphs[graph].spec, bundle.composition.stride
    lengths = {
        dim: length
        for tensor in spec.inputs
        for dim, length in zip(tensor.shape, inputs[tensor.name].shape, strict=True)
        if isinstance(dim, str)
    }
    height, width = (lengths.get(a.upper(), stride * lengths.get(a, 0)) for a in "hw")
    for cell, name in ((stride, ""), (8, "8"), (4, "4")):
        lengths |= {f"h{name}": height // cell, f"w{name}": width // cell}
    lengths |= {"H": height, "W": width}
    return {
        t.name: np.zeros([lengths[d] if isinstance(d, str) else d for d in t.shape], t.dtype)
        for t in spec.outputs
    }


def measure(model: str, names: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything about one model."""
    source = Bundle.open(model)
    wanted = arguments.precisions.split(",")
    if "int8" in wanted and not (arguments.videos and arguments.masks):
        raise VcedgeError("INT8 is calibrated on video; pass --videos and --masks")
    samples = record(source, arguments) if arguments.videos else {}
    with TemporaryDirectory() as scratch:
        bundles = {"fp32": source}
        for precision in wanted:
            if precision != "fp32":
                folder = Path(scratch) / precision
                bundles[precision] = lower(
                    source, precision, samples, folder, arguments.calibrate_by
                )
        rows = {}
        for precision in wanted:
            bundle = bundles[precision]
            sequences, non_finite = score(bundle, names, arguments)
            size = sum(bundle.path_of(name).stat().st_size for name in bundle.graphs)
            j_and_f = float(np.mean(list(sequences.values())))
            print(f"{model} {precision}: J&F {j_and_f:.4f}", file=sys.stderr)
            rows[precision] = {
                "j_and_f": j_and_f,
                "sequences": sequences,
                "non_finite": non_finite,
                "bytes": size,
            }
        return {"precisions": rows, "ms": time_graphs(bundles, samples, arguments)}


def lay_out(found: Mapping[str, Any], names: list[str]) -> list[tuple[str, ...]]:
    """Rows of the table of accuracy and size."""
    rows = []
    for model, measured in found.items():
        for precision, row in measured["precisions"].items():
            rows.append(
                (
                    model,
                    precision,
                    f"{100 * row['j_and_f']:.2f}",
                    str(row["non_finite"]),
                    f"{row['bytes'] / 1e6:.1f}",
                    *(f"{100 * row['sequences'][name]:.2f}" for name in names),
                )
            )
    return rows


def main() -> None:
    """Run the benchmark."""
    arguments = parse_arguments()
    names = list_sequences(
        arguments.root, arguments.sequences.split(",") if arguments.sequences else None
    )
    found = {model: measure(model, names, arguments) for model in arguments.models.split(",")}
    console = open_console(markdown=True)
    columns = ("model", "precision", "J&F", "NaN, inf", "MB", *names)
    console.print(make_table(columns, lay_out(found, names), left=2, markdown=True))
    times = [
        (model, graph, precision, f"{ms:.1f}", f"{row['fp32'] / ms:.2f}")
        for model, measured in found.items()
        for graph, row in measured["ms"].items()
        for precision, ms in row.items()
    ]
    headings = ("model", "graph", "precision", "ms", "times faster")
    console.print(make_table(headings, times, left=3, markdown=True))
    value = {"sequences": names, "machine": describe_machine().to_json(), "models": found}
    write_json(arguments.json, value)


if __name__ == "__main__":
    try:
        main()
    except VcedgeError as exc:
        sys.exit(f"precision.py: {exc}")
