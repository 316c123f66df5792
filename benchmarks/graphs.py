"""What SRNet's graphs cost: parameters and multiply-accumulates counted, milliseconds measured."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vcedge.commands.tables import make_table, open_console
from vcedge.doctor.machine import describe_machine
from vcedge.models.srnet import SRNet
from vcedge.models.weights import load_weights
from vcedge_export.plan import ExportedModel, ExportOptions
from vcedge_export.planning import plan_export
from vcedge_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vcedge_runtime.errors import VcedgeError
from vcedge_runtime.files import write_json
from vcedge_runtime.frames.resizing import working_size
from vcedge_runtime.model.bundle import DEFAULT_MODEL, Bundle
from vcedge_runtime.model.spec import GraphSpec, TensorSpec

LOCAL = "memory_read (local)"
"""The memory readout's second run of a frame: it reads the local memory alone."""


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="weights, by name or file")
    parser.add_argument("--bundle", help="the same, exported; the model's own name otherwise")
    parser.add_argument("--frame", default="480x864", help="height x width of the frames")
    parser.add_argument("--sizes", default="480,240", help="working sizes, short side")
    parser.add_argument("--objects", default="1,2,4")
    parser.add_argument("--runs", type=int, default=15, help="of each graph; the median counts")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("graphs.json"))
    return parser.parse_args()


def name_lengths(work_hw: tuple[int, int], model: ExportedModel, objects: int) -> dict[str, int]:
    """Every length of the graphs at a working size, with memory full."""
    parts = model.composition
    lengths = {
        "objects": objects,
        "labels": objects + 1,
        "references": parts.memory.references,
        "slots": parts.slots + parts.spare,
    }
    for axis, length in zip("hw", work_hw, strict=True):
        lengths |= {axis.upper(): length, axis: length // parts.stride}
        lengths |= {f"{axis}8": length // 8, f"{axis}4": length // 4}
    return lengths | {"channels": parts.to_json()["value_dim"]}


def runs_of(model: ExportedModel, lengths: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """The lengths of every run of a graph that a frame takes."""
    runs = {name: dict(lengths) for name in model.modules}
    runs[LOCAL] = {**lengths, "references": 1, "slots": 1}
    return runs


def fill(tensor: TensorSpec, lengths: Mapping[str, int], rng: np.random.Generator) -> Any:
    """Make an input; slots are numbered, all of them valid."""
    shape = [lengths[dim] if isinstance(dim, str) else dim for dim in tensor.shape]
    if tensor.dtype == "int64":
        return np.arange(shape[0])
    return np.ascontiguousarray(rng.uniform(0.1, 1, shape).astype(np.float32))


def time_graph(
    path: Path, spec: GraphSpec, lengths: Mapping[str, int], arguments: argparse.Namespace
) -> float:
    """Median milliseconds of a graph in ONNX Runtime."""
    rng = np.random.default_rng(0)
    engine = OnnxRuntimeEngine(path.read_bytes(), spec, threads=arguments.threads)
    inputs = {tensor.name: fill(tensor, lengths, rng) for tensor in spec.inputs}
    out = {tensor.name: np.empty_like(fill(tensor, lengths, rng)) for tensor in spec.outputs}
    times = []
    for _ in range(arguments.runs + 2):
        began = time.perf_counter()
        engine.run(inputs, out)
        times.append(1000 * (time.perf_counter() - began))
    engine.close()
    return float(np.median(times[2:]))


def measure(
    model: ExportedModel, bundle: Bundle, work_hw: tuple[int, int], arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """One row a graph: GMAC and milliseconds of each number of objects."""
    rows: dict[str, dict[str, Any]] = {}
    for objects in map(int, arguments.objects.split(",")):
        lengths = name_lengths(work_hw, model, objects)
        for name, own in runs_of(model, lengths).items():
            graph = "memory_read" if name == LOCAL else name
            module = model.modules[graph]
            row = rows.setdefault(name, {"graph": name, "gmac": {}, "ms": {}})
            weights = sum(p.numel() for p in module.parameters()) if name == graph else 0
            row["parameters"] = weights
            row["gmac"][objects] = module.count_macs(own) / 1e9
            path = bundle.path_of(graph)
            row["ms"][objects] = time_graph(path, module.spec, own, arguments)
    return list(rows.values())


def table_rows(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Cells of the table, with the sum of all graphs as its last row."""
    objects = list(rows[0]["gmac"])
    total = {
        "graph": "all",
        "parameters": sum(row["parameters"] for row in rows),
        **{
            kind: {k: sum(row[kind][k] for row in rows) for k in objects} for kind in ("gmac", "ms")
        },
    }
    return [
        (
            row["graph"],
            f"{row['parameters'] / 1e6:.2f}",
            *(f"{row['gmac'][k]:.2f}" for k in objects),
            *(f"{row['ms'][k]:.1f}" for k in objects),
        )
        for row in (*rows, total)
    ]


def main() -> None:
    """Run the benchmark."""
    arguments = parse_arguments()
    weights = load_weights(arguments.model)
    if not isinstance(weights.network, SRNet):
        raise VcedgeError(f"received {arguments.model}, which is no SRNet; pass {DEFAULT_MODEL}")
    model, bundle = (
        plan_export(weights, ExportOptions()),
        Bundle.open(arguments.bundle or arguments.model),
    )
    height, width = map(int, arguments.frame.split("x"))
    report, console = [], open_console(markdown=True)
    for size in map(int, arguments.sizes.split(",")):
        work_hw = working_size((height, width), size, model.composition.stride)
        rows = measure(model, bundle, work_hw, arguments)
        report.append({"size": size, "work_hw": work_hw, "graphs": rows})
        objects = list(rows[0]["gmac"])
        columns = [f"{what}, {k} obj." for what in ("GMAC", "ms") for k in objects]
        table = make_table(
            ("graph", "M weights", *columns), table_rows(rows), left=1, markdown=True
        )
        console.print(f"\n{work_hw[0]}x{work_hw[1]}\n")
        console.print(table)
    value = {"model": bundle.name, "machine": describe_machine().to_json(), "sizes": report}
    write_json(arguments.json, value)


if __name__ == "__main__":
    try:
        main()
    except VcedgeError as exc:
        sys.exit(f"graphs.py: {exc}")
