"""ONNX files: written whole, and run as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from numpy.typing import NDArray

from vcedge_runtime.engines.processor import take_exact_products
from vcedge_runtime.files import write_whole


def save_onnx(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph; the file is replaced as a whole.

    Raises:
        OutputError: it cannot be written.
    """
    write_whole(path, model.SerializeToString(), synced=True)


def run_onnx(
    model: onnx.ModelProto, runs: Sequence[Mapping[str, NDArray[Any]]]
) -> list[dict[str, NDArray[Any]]]:
    """Run a graph on the CPU, whatever the shapes of its outputs.

    Args:
        model: the graph.
        runs: inputs of each run, by name.

    Returns:
        Outputs of each run, by name.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    take_exact_products(options)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in model.graph.output]
    return [dict(zip(names, session.run(names, dict(run)), strict=True)) for run in runs]
