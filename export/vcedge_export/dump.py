"""Inputs and outputs of graphs in files that Polygraphy loads, and the command that bisects."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from polygraphy.comparator import RunResults
from polygraphy.comparator.struct import IterationResult
from polygraphy.json import save_json

from vcedge_export.verify import OutputDifference, bounds_of
from vcedge_runtime.bundle import Bundle
from vcedge_runtime.engines.base import Buffer
from vcedge_runtime.errors import OutputError

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
        self._runs: dict[str, list[tuple[dict[str, Buffer], dict[str, Buffer]]]] = {}

    def add(self, graph: str, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> None:
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
        written = []
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for graph, runs in self._runs.items():
                inputs, outputs = (self.path_of(graph, side) for side in ("inputs", "outputs"))
                save_json([given for given, _ in runs], str(inputs))
                found = [IterationResult(dict(out), runner_name=RUNNER) for _, out in runs]
                RunResults([(RUNNER, found)]).save(str(outputs))
                written += [inputs, outputs]
        except OSError as exc:
            raise OutputError(f"{self.folder} cannot be written: {exc}") from exc
        return written

    def path_of(self, graph: str, side: str) -> Path:
        """File of a graph's ``inputs`` or ``outputs``."""
        return self.folder / f"{graph}.{side}.json"

    def command_for(self, bundle: Bundle, worst: OutputDifference, source: Path | None) -> str:
        """The command that finds the nodes which make an output wrong.

        Polygraphy runs the source with every tensor as an output, then cuts the graph smaller and
        smaller while what is left still differs from it.

        Args:
            bundle: whose graph.
            worst: the output to look at.
            source: the same graph in FP32; where there is none, the graph itself, which TensorRT is
                held against.
        """
        graph = worst.tensor.partition(".")[0]
        path, inputs = bundle.path_of(graph), self.path_of(graph, "inputs")
        golden, given = self.path_of(graph, "every-output"), self.path_of(graph, "every-input")
        allowed = bounds_of(worst.tensor, worst.precision).largest * worst.magnitude
        run = ["polygraphy", "run"]
        backend = "--trt" if source is None else "--onnxrt"
        golden_run = [*run, source or path, "--onnxrt", "--load-inputs", inputs]
        golden_run += ["--onnx-outputs", "mark", "all", "--save-outputs", golden]
        check = ["--check", *run, "polygraphy_debug.onnx", backend, "--load-inputs", given]
        check += ["--load-outputs", golden, "--atol", f"{allowed:.3g}", "--rtol", "0"]
        search = ["polygraphy", "debug", "reduce", path, "--mode", "bisect"]
        search += ["--load-inputs", given, "--output", self.folder / f"{graph}.reduced.onnx"]
        steps = [
            golden_run,
            ["polygraphy", "data", "to-input", inputs, golden, "-o", given],
            [*search, *check],
        ]
        return " && ".join(shlex.join(map(str, step)) for step in steps)
