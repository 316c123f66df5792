"""Verification: it passes the model, and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.runtime.engines.fake_cuda import FakeCuda
from vcedge.models.encoder import FrameEncoder
from vcedge.models.readout import ColumnTotal, JointReadout, LabelReadout
from vcedge.models.weights import Weights
from vcedge_export.differences import OutputDifference
from vcedge_export.torch_engine import TorchEngine
from vcedge_export.verify import OTHER_FRAMES, TruthClip, Verification, verify_bundle
from vcedge_runtime.buffers import Buffer, DeviceArray, to_host
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vcedge_runtime.errors import ExportError
from vcedge_runtime.model.bundle import Bundle

OUTPUTS = [
    "encoder.key",
    "label_readout.peak",
    "label_readout.total",
    "label_readout.values",
    "cluster_readout.peak",
    "cluster_readout.total",
    "cluster_readout.values",
    "column_total.log_total",
    "joint_readout.values",
]
"""What this model runs, and what it would with other parts."""


def exported_engines(bundle: Bundle) -> dict[str, Engine]:
    return {
        name: OnnxRuntimeEngine(bundle.read_graph(name), graph.spec, threads=1)
        for name, graph in bundle.graphs.items()
    }


def model_engines(weights: Weights) -> dict[str, Engine]:
    modules = {
        "encoder": FrameEncoder(weights.network.encoder),
        "label_readout": LabelReadout(64, None, 0.5),
        "cluster_readout": LabelReadout(64, None, 0.5, second_window=True),
        "column_total": ColumnTotal(64, 0.5),
        "joint_readout": JointReadout(64, None, 0.5),
    }
    return {name: TorchEngine(module, module.spec) for name, module in modules.items()}


def test_a_bundle_is_the_model_that_it_was_made_from(
    exported_bundle: Bundle, tiny_weights: Weights, tiny_clip: TruthClip
) -> None:
    [found] = verify_bundle(
        exported_bundle, [exported_engines(exported_bundle)], model_engines(tiny_weights), tiny_clip
    )
    assert found.passes
    assert found.clip == "moving texture"
    assert found.frames == 4
    assert [output.tensor for output in found.outputs] == OUTPUTS
    for output in found.outputs:
        # FP32 against FP32: convolutions and sums in another order.
        assert 0 <= output.mean <= output.largest < 1e-4 * output.magnitude
        assert output.cosine == pytest.approx(1, abs=1e-6)
        assert output.non_finite == 0
    assert found.mask_iou == (1, 1)
    assert found.unreached == ()
    assert found.score_exported == pytest.approx(found.score_model, abs=1e-3)
    # The texture is easy: a model that lost its objects would prove nothing.
    assert found.score_model > 0.5


@pytest.mark.parametrize("share", [0.05, 1.0])
def test_weights_that_were_changed_do_not_pass(
    exported_bundle: Bundle, tiny_weights: Weights, tiny_clip: TruthClip, share: float
) -> None:
    other = copy.deepcopy(tiny_weights.network)
    torch.manual_seed(0)
    with torch.no_grad():
        weight = other.encoder.head.weight
        weight += share * weight.std() * torch.randn_like(weight)
    [found] = verify_bundle(
        exported_bundle,
        [exported_engines(exported_bundle)],
        model_engines(replace(tiny_weights, network=other)),
        tiny_clip,
    )
    assert not found.passes
    assert not found.outputs[0].passes
    # Given the same inputs, the readout is still the readout.
    assert all(output.passes for output in found.outputs[1:])
    assert found.to_json()["passes"] is False


class CountingEngine:
    """An engine that counts its runs."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.runs, self.closed = engine, 0, 0
        self.spec = engine.spec

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        self.runs += 1
        self._engine.run(inputs, out)

    def close(self) -> None:
        self.closed += 1
        self._engine.close()


def test_the_model_encodes_each_frame_once_for_several_ways_to_run_it(
    exported_bundle: Bundle, tiny_weights: Weights, tiny_clip: TruthClip
) -> None:
    ways = [exported_engines(exported_bundle) for _ in range(2)]
    model = {name: CountingEngine(e) for name, e in model_engines(tiny_weights).items()}
    done: list[tuple[int, int]] = []
    first, second = verify_bundle(
        exported_bundle,
        ways,
        model,
        tiny_clip,
        on_frame=lambda frame, frames: done.append((frame, frames)),
    )
    assert first == second
    assert first.passes
    frames = len(tiny_clip.frames)
    # Once over the clip, and once for what other parts of each way run over the first frames.
    assert model["encoder"].runs == frames + 2 * OTHER_FRAMES
    assert all(engine.closed == 1 for engine in model.values())
    assert done == [(frame, frames) for frame in range(1, frames + 1)]


class DeviceEngine(CountingEngine):
    """Runs a graph on arrays of a device, and gives what it is worth there."""

    def __init__(self, engine: Engine, worth: float) -> None:
        super().__init__(engine)
        self._worth = worth

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        given, written = ({n: to_host(each) for n, each in a.items()} for a in (inputs, out))
        super().run(given, written)
        for name, each in out.items():
            if isinstance(each, DeviceArray):
                each.write(self._worth * written[name])


@pytest.mark.parametrize(("worth", "passes"), [(1.0, True), (0.0, False)])
def test_memory_on_the_device_is_proven_in_a_loop_of_its_own(
    exported_bundle: Bundle,
    tiny_weights: Weights,
    tiny_clip: TruthClip,
    worth: float,
    passes: bool,
) -> None:
    cuda = FakeCuda()
    engines = {n: DeviceEngine(e, worth) for n, e in exported_engines(exported_bundle).items()}
    [found] = verify_bundle(
        exported_bundle, [engines], model_engines(tiny_weights), tiny_clip, device=cuda
    )
    assert all(output.passes for output in found.outputs)
    assert found.score_exported == pytest.approx(found.score_model, abs=1e-3)
    assert found.passes is passes
    assert found.score_device is not None
    assert (found.score_device == pytest.approx(found.score_model, abs=1e-3)) is passes
    assert found.to_json()["score_device"] == found.score_device
    assert cuda.held == {}
    assert all(engine.closed == 1 for engine in engines.values())


def test_without_a_device_there_is_no_such_loop(exported_bundle: Bundle) -> None:
    assert "score_device" not in exported_bundle.verification


class SpoilingEngine:
    """An engine that writes one wrong value into its output."""

    def __init__(self, engine: Engine, value: float) -> None:
        self._engine, self._value = engine, value
        self.spec = engine.spec

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        self._engine.run(inputs, out)
        next(iter(out.values())).reshape(-1)[7] = self._value

    def close(self) -> None:
        self._engine.close()


@pytest.mark.parametrize(
    ("side", "value"),
    [("exported", np.nan), ("exported", np.inf), ("exported", 1e6), ("model", np.nan)],
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_single_wrong_value_does_not_pass(
    exported_bundle: Bundle, tiny_weights: Weights, tiny_clip: TruthClip, side: str, value: float
) -> None:
    engines = {"exported": exported_engines(exported_bundle), "model": model_engines(tiny_weights)}
    engines[side]["encoder"] = SpoilingEngine(engines[side]["encoder"], value)
    [found] = verify_bundle(exported_bundle, [engines["exported"]], engines["model"], tiny_clip)
    assert not found.outputs[0].passes
    assert not found.passes


def test_a_score_that_differs_does_not_pass() -> None:
    output = OutputDifference("encoder.key", "fp32", 1e-6, 1e-7, 1e-8, 1.0, 1.0, 0)
    good = Verification("clip", 4, (output,), (1.0, 1.0), 0.7, 0.7015)
    assert good.passes
    assert not replace(good, score_exported=0.697).passes
    assert not replace(good, outputs=(output, replace(output, largest=2e-3))).passes
    assert not replace(good, outputs=(replace(output, non_finite=1),)).passes


def test_a_lower_precision_may_differ_further() -> None:
    output = OutputDifference("encoder.key", "fp16", 1e-2, 1e-3, 1e-4, 1.0, 1.0, 0)
    assert output.passes
    assert not replace(output, precision="fp32").passes
    assert not replace(output, largest=3e-2).passes
    assert not replace(output, mean=3e-3).passes
    exact = replace(output, precision="fp32", largest=1e-6, mean=1e-7)
    good = Verification("clip", 4, (exact, output), (1.0, 1.0), 0.7, 0.7025)
    assert good.passes
    assert not replace(good, score_exported=0.7035).passes
    assert not replace(good, outputs=(exact,)).passes


def test_what_selects_cells_may_take_another_now_and_then() -> None:
    read = OutputDifference("memory_read.readout", "fp32", 0.05, 1e-6, 0.0, 1.0, 1.0, 0)
    assert read.passes
    assert not replace(read, largest=0.11).passes
    assert not replace(read, mean=2e-5).passes
    assert not replace(read, tensor="mask_decoder.logits").passes


def test_the_report_is_plain_values(exported_bundle: Bundle) -> None:
    report: Mapping[str, Any] = exported_bundle.verification
    assert report["passes"] is True
    assert [output["tensor"] for output in report["outputs"]] == OUTPUTS


def test_a_clip_of_two_frames_proves_nothing(
    exported_bundle: Bundle, tiny_weights: Weights, tiny_clip: TruthClip
) -> None:
    short = TruthClip("short", tiny_clip.frames[:2], tiny_clip.masks[:2])
    with pytest.raises(ExportError, match="a clip of 2 frames; expected at least 3"):
        verify_bundle(
            exported_bundle, [exported_engines(exported_bundle)], model_engines(tiny_weights), short
        )
