"""Inputs and outputs of graphs in files that Polygraphy loads, and the command that bisects."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

import onnx
from polygraphy.comparator import RunResults
from polygraphy.comparator.struct import IterationResult
from polygraphy.json import save_json

from vcedge_export.differences import OutputDifference, bounds_of
from vcedge_export.onnx_files import run_onnx
from vcedge_runtime.buffers import HostArray
from vcedge_runtime.files import make_folder, writing_whole
from vcedge_runtime.model.bundle import Bundle

RUNS = 2
"""Runs of each graph that are kept: the first ones, in which memory is new and then is not."""
RUNNER = "the-model"


class Dump:
    """Keeps the first runs of each graph.

    Args:
        folder: where ``GRAPH.inputs.json`` and ``GRAPH.outputs.json`` go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._runs: dict[str, list[tuple[dict[str, HostArray], dict[str, HostArray]]]] = {}

    def add(
        self, graph: str, inputs: Mapping[str, HostArray], outputs: Mapping[str, HostArray]
    ) -> None:
        """Keep a run of the model, unless there are enough.

        Args:
            graph: its name.
            inputs: what both the exported graph and the model were given; copied.
            outputs: what the model gave; copied.
        """
        runs = self._runs.setdefault(graph, [])
        if len(runs) < RUNS:
            runs.append(
                (
                    {name: array.copy() for name, array in inputs.items()},
                    {name: array.copy() for name, array in outputs.items()},
                )
            )

    def write(self) -> list[Path]:
        """Write all that was kept.

        Raises:
            OutputError: the folder cannot be written.
        """
        make_folder(self.folder)
        written = []
        for graph, runs in self._runs.items():
            inputs, outputs = (self.path_of(graph, side) for side in ("inputs", "outputs"))
            _save_inputs([given for given, _ in runs], inputs)
            _save_outputs([out for _, out in runs], outputs)
            written += [inputs, outputs]
        return written

    def path_of(self, graph: str, side: str) -> Path:
        """File of a graph's ``inputs`` or ``outputs``."""
        return self.folder / f"{graph}.{side}.json"

    def command_for(self, bundle: Bundle, worst: OutputDifference, source: Bundle | None) -> str:
        """Write every tensor of a graph, and return the command that finds what makes it wrong.

        Polygraphy cuts the graph smaller and smaller while what is left still differs.

        Args:
            bundle: whose graph.
            worst: the output to look at.
            source: the same model in FP32; where there is none, the bundle itself, which TensorRT
                is held against.

        Raises:
            OutputError: the folder cannot be written.
            BundleError: the graph's file is not what it was when the bundle was opened.
        """
        graph = worst.tensor.partition(".")[0]
        path = bundle.path_of(graph)
        given, golden = self._write_every_tensor(graph, source or bundle)
        allowed = bounds_of(worst.tensor, worst.precision).largest * worst.magnitude
        command = ["polygraphy", "debug", "reduce", path, "--mode", "bisect"]
        command += ["--load-inputs", given, "--output", self.folder / f"{graph}.reduced.onnx"]
        command += ["--check", "polygraphy", "run", "polygraphy_debug.onnx"]
        command += ["--trt" if source is None else "--onnxrt", "--load-inputs", given]
        command += ["--load-outputs", golden, "--atol", f"{allowed:.3g}", "--rtol", "0"]
        return shlex.join(map(str, command))

    def _write_every_tensor(self, graph: str, source: Bundle) -> tuple[Path, Path]:
        """Run the source on what was kept: every tensor as an input, and as an output."""
        model = onnx.shape_inference.infer_shapes(source.read_graph(graph))
        known = {value.name for value in model.graph.output}
        model.graph.output.extend(v for v in model.graph.value_info if v.name not in known)
        inputs = [given for given, _ in self._runs[graph]]
        outputs = run_onnx(model, inputs)
        paths = self.path_of(graph, "every-input"), self.path_of(graph, "every-output")
        _save_inputs([{**a, **b} for a, b in zip(inputs, outputs, strict=True)], paths[0])
        _save_outputs(outputs, paths[1])
        return paths


def _save_inputs(runs: list[dict[str, HostArray]], path: Path) -> None:
    with writing_whole(path) as place:
        save_json(runs, str(place))


def _save_outputs(runs: list[dict[str, HostArray]], path: Path) -> None:
    found = [IterationResult(outputs, runner_name=RUNNER) for outputs in runs]
    with writing_whole(path) as place:
        save_json(RunResults([(RUNNER, found)]), str(place))
