"""INT8 as Q/DQ pairs around convolutions, by ONNX Runtime's quantiser.

Those of encoders, alignment and decoders. Keys and final logits keep their layer: what is compared
and what decides. ONNX Runtime fuses a ReLU into a quantisation whose zero point is the least
number, TensorRT takes zero points of 0 alone: so there is a graph for each.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, numpy_helper
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from vcedge_calibration.recording import Sample
from vcedge_export.onnx_files import run_onnx
from vcedge_export.plan import Int8Settings
from vcedge_runtime.errors import ExportError

KEPT_OUTPUTS = ("key", "logits")
"""Outputs whose last layer is not quantised."""
OPERATORS = ("Conv",)
"""What is quantised. The sums between the layers of a residual network are not: with them, J&F on
bmx-bumps falls by 9 points, without, the encoder is as fast (mer-edge)."""
ACTIVATIONS = ("Relu", "Clip")
"""What a convolution's sums go through before they are rounded: what they cut off takes no part of
the range. Before a ReLU6 lie sums ten times as large as behind it."""
RANKED_SAMPLES = 2
"""Samples on which the cost of a layer is measured."""
CORRECTED_SAMPLES = 4
"""Samples over which the mean of a channel is taken (our choice)."""


class Quantiser:
    """Quantises one graph, after samples of what it is given.

    Args:
        path: the graph, in FP32.
        samples: inputs of single runs.
        settings: how.

    Raises:
        ExportError: there is no sample, or no layer of a name in the settings.
    """

    def __init__(self, path: Path, samples: Sequence[Sample], settings: Int8Settings) -> None:
        if not samples:
            raise ExportError(f"no sample of what {path.stem} is given; calibrate on a longer clip")
        self._path = path
        self._samples = samples
        self._settings = settings
        self._model = onnx.load(path)
        self._kept = _find_kept(self._model)
        names = (name.partition(".") for name in settings.kept)
        wanted = {layer for graph, _, layer in names if graph == path.stem}
        unknown = wanted - {node.name for node in self._model.graph.node}
        if unknown:
            raise ExportError(f"{path.stem} has no layer {sorted(unknown)}; it has {self.layers}")
        self._kept |= wanted
        with _quiet():
            self._ranges = self._find_ranges()

    @property
    def layers(self) -> list[str]:
        """Names of the convolutions that may be quantised, in order."""
        nodes = self._model.graph.node
        return [n.name for n in nodes if n.op_type == "Conv" and n.name not in self._kept]

    def quantise(self, layers: Sequence[str] | None = None) -> onnx.ModelProto:
        """Insert Q/DQ pairs, and correct what all layers together are off on the mean.

        Args:
            layers: only these convolutions, uncorrected; all of ``self.layers`` when None.
        """
        symmetric = self._settings.symmetric
        model = onnx.ModelProto()
        model.CopyFrom(onnx.shape_inference.infer_shapes(self._model))
        with _quiet():
            quantizer = QDQQuantizer(
                model,
                per_channel=True,
                reduce_range=False,
                weight_qType=QuantType.QInt8,
                activation_qType=QuantType.QInt8 if symmetric else QuantType.QUInt8,
                tensors_range=self._ranges,
                nodes_to_quantize=list(layers or ()),
                nodes_to_exclude=sorted(self._kept),
                op_types_to_quantize=list(OPERATORS),
                # TensorRT wants biases as they are; ONNX Runtime quantises them when it loads.
                extra_options={"ActivationSymmetric": symmetric, "QuantizeBias": False},
            )
            quantizer.quantize_model()
            quantizer.model.topological_sort()
        quantised: onnx.ModelProto = quantizer.model.model
        _round_behind_activations(quantised.graph)
        if layers is None:
            self._correct_biases(quantised)
        onnx.checker.check_model(quantised, full_check=True)
        return quantised

    def _correct_biases(self, model: onnx.ModelProto) -> None:
        """Give each channel of each quantised layer the mean that it has in FP32.

        Rounded weights shift it, and shifts add up from layer to layer: one layer after the other
        is mended (empirical bias correction; Nagel et al. 2019).
        """
        producers = {name: node for node in model.graph.node for name in node.output}
        quantised = [
            node
            for node in model.graph.node
            if node.op_type == "Conv"
            and node.input[1] in producers
            and producers[node.input[1]].op_type == "DequantizeLinear"
        ]
        exact = self._channel_means(self._model, [node.name for node in quantised])
        for node in quantised:
            found = self._channel_means(model, [node.name])
            _add_to_bias(model.graph, node, exact[node.name] - found[node.name])

    def _channel_means(
        self, model: onnx.ModelProto, layers: Sequence[str]
    ) -> dict[str, NDArray[np.float32]]:
        """Mean of each channel of what some layers give, over a few samples, by the layer."""
        # The quantiser gives another name to what is an output of the graph.
        outputs = {node.name: node.output[0] for node in model.graph.node}
        asked = onnx.ModelProto()
        asked.CopyFrom(model)
        del asked.graph.output[:]
        asked.graph.output.extend(onnx.ValueInfoProto(name=outputs[layer]) for layer in layers)
        step = max(1, len(self._samples) // CORRECTED_SAMPLES)
        means: dict[str, list[NDArray[np.float32]]] = {layer: [] for layer in layers}
        for sample in self._samples[::step][:CORRECTED_SAMPLES]:
            given = run_onnx(asked, [sample])[0]
            for layer in layers:
                means[layer].append(given[outputs[layer]].mean(axis=(0, 2, 3)))
        return {layer: np.asarray(np.mean(found, axis=0)) for layer, found in means.items()}

    def rank_layers(self) -> list[tuple[str, float]]:
        """Cost of each layer when it alone is quantised, the dearest first.

        Returns:
            Names, each with the mean error of the outputs as a share of their mean magnitude.
        """
        exact = self._outputs(self._model)
        costs = []
        for layer in self.layers:
            found = self._outputs(self.quantise([layer]))
            shares = [
                np.abs(a - b).mean() / max(float(np.abs(a).mean()), 1e-12)
                for a, b in zip(exact, found, strict=True)
            ]
            costs.append((layer, float(np.mean(shares))))
        return sorted(costs, key=lambda pair: -pair[1])

    def _outputs(self, model: onnx.ModelProto) -> list[NDArray[Any]]:
        """Every output of the first samples."""
        runs = run_onnx(model, self._samples[:RANKED_SAMPLES])
        return [output for run in runs for output in run.values()]

    def _find_ranges(self) -> Any:
        methods = {
            "minmax": CalibrationMethod.MinMax,
            "percentile": CalibrationMethod.Percentile,
            "entropy": CalibrationMethod.Entropy,
        }
        options = {"percentile": self._settings.percentile, "symmetric": self._settings.symmetric}
        with TemporaryDirectory() as folder:
            calibrator = create_calibrator(
                self._path,
                OPERATORS,
                augmented_model_path=str(Path(folder) / "augmented.onnx"),
                calibrate_method=methods[self._settings.method],
                extra_options=options,
            )
            # One after the other: what is collected holds every activation.
            for sample in self._samples:
                calibrator.collect_data(_Reader(sample))
            return calibrator.compute_data()


class _Reader:
    """Hands ONNX Runtime's calibration one sample."""

    def __init__(self, sample: Sample) -> None:
        self._waiting = [dict(sample)]

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return self._waiting.pop() if self._waiting else None


def _round_behind_activations(graph: onnx.GraphProto) -> None:
    """Take away each Q/DQ pair between a convolution and what cuts its sums off.

    The pair behind stays. ONNX Runtime and TensorRT make one layer of all three.
    """
    users: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    for conv in [node for node in graph.node if node.op_type == "Conv"]:
        rounded = users.get(conv.output[0], [])
        if [node.op_type for node in rounded] != ["QuantizeLinear"]:
            continue
        [back] = users[rounded[0].output[0]]
        activations = users.get(back.output[0], [])
        if activations and all(node.op_type in ACTIVATIONS for node in activations):
            for node in activations:
                node.input[0] = conv.output[0]
            graph.node.remove(rounded[0])
            graph.node.remove(back)
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)


def _add_to_bias(graph: onnx.GraphProto, node: NodeProto, shift: NDArray[np.float32]) -> None:
    """Add to the bias of a convolution, which is a constant of its own, or none."""
    given = {tensor.name: tensor for tensor in graph.initializer}
    if len(node.input) == 3:
        bias = given[node.input[2]]
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + shift, bias.name))
    else:
        node.input.append(f"{node.name}.shift")
        graph.initializer.append(numpy_helper.from_array(shift, node.input[2]))


def _find_kept(model: onnx.ModelProto) -> set[str]:
    """Names of the layers, and of what follows them, that give ``KEPT_OUTPUTS``."""
    producers: dict[str, NodeProto] = {o: node for node in model.graph.node for o in node.output}
    kept: set[str] = set()
    waiting = [output.name for output in model.graph.output if output.name in KEPT_OUTPUTS]
    while waiting:
        node = producers.get(waiting.pop())
        if node is None or node.name in kept:
            continue
        kept.add(node.name)
        if node.op_type != "Conv":
            waiting += node.input
    return kept


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser prints, and advises through the root logger on what was done already."""
    logger = logging.getLogger()
    before = logger.disabled
    logger.disabled = True
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.disabled = before
