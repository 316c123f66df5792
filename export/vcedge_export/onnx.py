"""From a torch module with a spec to an ONNX file with the same tensors."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import onnx
import torch

from vcedge.models.graph import GraphModule
from vcedge_export.onnx_files import save_onnx
from vcedge_runtime.errors import ExportError
from vcedge_runtime.model.spec import GraphSpec

OPSET = 19
"""Opset 20 renames GridSample's modes, and TensorRT then silently samples nearest."""


def export_onnx(module: GraphModule, lengths: Mapping[str, int], path: Path) -> None:
    """Write a module as ONNX, every named length of its spec dynamic.

    Args:
        module: the graph.
        lengths: an example of each named length; all should differ, so that the exporter ties none
            of them together.
        path: the file; replaced as a whole.

    Raises:
        ExportError: the module cannot be exported, or its graph is not what the spec says.
    """
    spec = module.spec
    shapes = tuple(
        {axis: torch.export.Dim.DYNAMIC for axis, dim in enumerate(t.shape) if isinstance(dim, str)}
        for t in spec.inputs
    )
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module.eval(),
                module.make_examples(lengths),
                input_names=[t.name for t in spec.inputs],
                output_names=[t.name for t in spec.outputs],
                dynamic_shapes=shapes,
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as exc:
        # The exporter's own message is a page of advice; its cause says what failed.
        cause = exc.__cause__ or exc
        reason = f"{type(cause).__name__}: {cause}".splitlines()[0]
        raise ExportError(f"graph {spec.name} cannot be exported: {reason}") from exc
    model = program.model_proto if program is not None else onnx.ModelProto()
    for node in model.graph.node:
        # Where in the source it comes from: a file would change with every line above.
        del node.metadata_props[:]
    _check_model(model, spec)
    save_onnx(model, path)


def _check_model(model: onnx.ModelProto, spec: GraphSpec) -> None:
    onnx.checker.check_model(model, full_check=True)
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets.get("") != OPSET:
        raise ExportError(f"graph {spec.name} came out with opsets {opsets}; expected {OPSET}")
    for tensor, value in zip(spec.tensors, [*model.graph.input, *model.graph.output], strict=True):
        dims: list[Any] = [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        fixed = all(
            isinstance(found, str) == isinstance(want, str)
            and (isinstance(want, str) or found == want)
            for found, want in zip(dims, tensor.shape, strict=True)
        )
        if value.name != tensor.name or not fixed:
            raise ExportError(
                f"graph {spec.name} came out with {value.name}{dims}; expected {tensor.describe()}"
            )
