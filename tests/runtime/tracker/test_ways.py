"""What flow is measured in and whose value map refines a reference, as the bundle says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import make_frame, make_mask
from vcedge_runtime.buffers import Buffer, to_host
from vcedge_runtime.engines.base import Engine, ForwardingEngine
from vcedge_runtime.engines.onnxruntime import engine_from_bundle
from vcedge_runtime.frames.motion import flow_from_lab
from vcedge_runtime.memory.references import ReferencePolicy
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.model.spec import GraphSpec, TensorSpec
from vcedge_runtime.tracker import Tracker

if TYPE_CHECKING:
    from vcedge.models.value_extraction import ValueExtraction

HEIGHT, WIDTH = 64, 96
"""What the tiny bundle works on as it is, in key cells of 8 pixels."""
SHIFTS = (0, 3, 5, 9)
"""Pixels by which each frame's texture lies further to the right than the first one's."""


class NotingEngine(ForwardingEngine):
    """Notes what it is given, without flow where the graph takes none."""

    def __init__(self, engine: Engine, *, flow: bool = False) -> None:
        super().__init__(engine)
        self._flow = (TensorSpec("flow", "float32", (1, 3, "H", "W")),) if flow else ()
        self.given: list[dict[str, NDArray[Any]]] = []

    @property
    def spec(self) -> GraphSpec:
        own = self._engine.spec
        return replace(own, inputs=(*own.inputs, *self._flow))

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        self.given.append({name: to_host(array).copy() for name, array in inputs.items()})
        known = {tensor.name for tensor in self._engine.spec.inputs}
        super().run({name: array for name, array in inputs.items() if name in known}, out)


def open_engines(bundle: Bundle) -> dict[str, Engine]:
    return {
        name: engine_from_bundle(bundle, name, threads=1) for name in ("encoder", "joint_readout")
    }


def track(tracker: Tracker, frames: int) -> None:
    tracker.start(make_frame(HEIGHT, WIDTH), make_mask(HEIGHT, WIDTH, 1, 2))
    for shift in SHIFTS[1:frames]:
        tracker.step(make_frame(HEIGHT, WIDTH, shift))


@pytest.mark.parametrize("scale", ["cell", "side", "largest"])
def test_the_encoder_is_given_flow_in_what_the_bundle_measures_it(
    tiny_bundle: Bundle, scale: str
) -> None:
    engines = open_engines(tiny_bundle)
    engines["encoder"] = encoder = NotingEngine(engines["encoder"], flow=True)
    parts = replace(tiny_bundle.composition, motion=True, flow_scale=scale)
    with Tracker(replace(tiny_bundle, composition=parts), engines) as tracker:
        track(tracker, 3)
    assert not encoder.given[0]["flow"].any()
    for before, now in zip(encoder.given, encoder.given[1:], strict=False):
        labs = [given["image"][0].transpose(1, 2, 0) for given in (now, before)]
        moved = flow_from_lab(labs[0], labs[1])
        pixels = np.stack([*moved.transpose(2, 0, 1), np.hypot(moved[..., 0], moved[..., 1])])
        assert 1 < np.median(pixels[2]) < 4
        # What is encoded as 1: 2.5 cells of 8; 20 at a short side of 256, which is 64 here.
        unit = {"cell": 20, "side": 5, "largest": pixels[2].max()}[scale]
        np.testing.assert_allclose(now["flow"][0], np.clip(pixels / unit, -1, 1), atol=1e-6)


@pytest.fixture
def values() -> ValueExtraction:
    """A network that changes keys, at random."""
    torch = pytest.importorskip("torch", reason="PyTorch makes the value extraction")
    from vcedge.models.value_extraction import ValueExtraction

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ValueExtraction(64).eval().requires_grad_(False)
        network.to_out.reset_parameters()
        network.position.normal_()
    return network


def read_keys(
    bundle: Bundle, values: ValueExtraction, value_frames: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Keys of frames 0 to 3 before they are refined, and as the last of them reads them."""
    from vcedge.models.value_extraction import FrameValues
    from vcedge_export.torch_engine import TorchEngine

    engines, frame_values = open_engines(bundle), FrameValues(values, 5)
    engines["joint_readout"] = readout = NotingEngine(engines["joint_readout"])
    engines["value_extraction"] = TorchEngine(frame_values, frame_values.spec)
    # Frame 3 reads 0, 1 and 2.
    parts = replace(
        bundle.composition,
        memory=ReferencePolicy(short=(2, 1)),
        value_extraction=True,
        value_frames=value_frames,
    )
    with Tracker(replace(bundle, composition=parts), engines) as tracker:
        track(tracker, 4)
        bank = tracker.video.predictor.bank
        slots = [bank.slot_of(frame) for frame in range(4)]
        raw: NDArray[np.float32] = bank.raw_keys[slots]
    return raw, readout.given[-1]["keys"][slots]


def refine(
    values: ValueExtraction, raw: NDArray[np.float32], frame: int, target: int
) -> NDArray[np.float32]:
    """The network's own key of a frame by the value map of a target among frames 0 to 3."""
    import torch

    from vcedge.models.value_extraction import Grid
    from vcedge_runtime.sampling.tokens import token_grid

    # Value maps have MER's references, whatever is read: 0, and those 1 and 3 before.
    seen = {0: [0], 1: [0], 2: [0, 1], 3: [0, 2]}[target]
    planes = torch.from_numpy(raw).permute(0, 3, 1, 2)
    grid = Grid.of(token_grid(raw.shape[1:3]))
    value_map = values(planes[[target]], planes[seen][None], torch.ones(1, len(seen)), grid)[1]
    place = grid.spread(values.position)
    tokens = values.map_tokens(planes[[target]], value_map, place, grid)
    return values.refine(planes[[frame]], tokens, place, grid)[0].permute(1, 2, 0).numpy()


def test_a_reference_is_read_as_its_readers_value_map_refines_it_or_as_its_own_does(
    tiny_bundle: Bundle, values: ValueExtraction
) -> None:
    raw, by_target = read_keys(tiny_bundle, values, "target")
    same, by_own = read_keys(tiny_bundle, values, "own")
    np.testing.assert_array_equal(same, raw)
    for frame in range(4):
        # FP32 sums in another order.
        np.testing.assert_allclose(by_target[frame], refine(values, raw, frame, 3), atol=1e-4)
        np.testing.assert_allclose(by_own[frame], refine(values, raw, frame, frame), atol=1e-4)
    differences = np.abs(by_target - by_own).max(axis=(1, 2, 3))
    assert (differences[:3] > 1e-2).all()
    assert differences[3] == 0
