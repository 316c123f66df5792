"""TensorRT-RTX: NVIDIA's parser and builder, which need no GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from vcedge_runtime.model.spec import GraphSpec

TARGETS = ("SM86", "SM89")
"""Compute capabilities to build for: Ampere and Ada. Orin's, SM87, is none of TensorRT-RTX's."""
Shape = tuple[int, ...]


def choose_shapes(spec: GraphSpec, stride: int) -> dict[str, Shape]:
    """Choose a small length for every dynamic axis of a graph's inputs; each shape is its name's.

    Raises:
        KeyError: an axis that this function does not know.
    """
    lengths = {"slots": 8, "references": 2, "objects": 2, "channels": 4, "tiles": 3}
    lengths |= {"queries": 12, "columns": 12, "patch": 40}
    for axis, cells in (("h", 7), ("w", 9)):
        at8, at4 = cells * stride // 8, cells * stride // 4
        lengths |= {axis: cells, f"{axis}8": at8, f"{axis}4": at4, axis.upper(): cells * stride}
    return {
        tensor.name: tuple(lengths[dim] if isinstance(dim, str) else dim for dim in tensor.shape)
        for tensor in spec.inputs
    }


def build_with_rtx(
    onnx: Path, shapes: Mapping[str, Shape], targets: Sequence[str] = TARGETS
) -> bytes:
    """Parse a graph and build it for fixed shapes, strongly typed.

    Args:
        onnx: the graph, which stands alone in its file.
        shapes: of every input.
        targets: names of ``ComputeCapability``, all in one plan.

    Returns: the plan, which runs on a GPU only.

    Raises:
        ValueError: the graph is not parsed or not built; the message is TensorRT's.
    """
    import tensorrt_rtx as trt

    class Log(trt.ILogger):  # type: ignore[misc]
        def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                errors.append(msg)

    errors: list[str] = []
    logger = Log()
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx.read_bytes()):
        raise ValueError(f"{onnx} was not parsed: {errors}")
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    for name, shape in shapes.items():
        profile.set_shape(name, shape, shape, shape)
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        config.set_compute_capability(trt.ComputeCapability.__members__[target], index)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ValueError(f"{onnx} was not built for {dict(shapes)}: {errors}")
    return bytes(plan)
