"""Parts of a tracker in any combination."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.runtime.tracker.made import (
    HEIGHT,
    WIDTH,
    FailingEngine,
    Frame,
    MakeFrame,
    bytes_of_arrays,
    iou,
    same,
    square,
)
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vcedge_runtime.errors import BundleError, EngineError, TrackerError
from vcedge_runtime.followed import StepResult
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.tracker import Tracker


@pytest.mark.parametrize(
    ("memory", "sampler", "fusion"),
    [
        ("dynamic", "window", "joint"),
        ("references", "clusters", "vote"),
        ("references", "window", "mean"),
        ("dynamic", "regions", "bidirectional"),
        ("references", "clusters", "bidirectional"),
        ("references", "regions", "joint"),
    ],
)
def test_any_memory_goes_with_any_sampler_and_fusion(
    tiny_bundle: Bundle, frame: Frame, mask: Frame, memory: str, sampler: str, fusion: str
) -> None:
    parts = {"memory": memory, "sampler": sampler, "fusion": fusion}
    with Tracker.open(tiny_bundle, threads=1, overrides={"edges": False, **parts}) as tracker:
        tracker.start(frame, mask)
        before = tracker.memory_bytes
        for _ in range(9):
            result = tracker.step(frame)
        for object_id in (3, 200):
            assert iou(result.mask == object_id, mask == object_id) > 0.8
        tracker.add_object(5, square(24, 4))
        for _ in range(3):
            result = tracker.step(frame)
        assert iou(result.mask == 5, square(24, 4) > 0) > 0.6
        assert tracker.memory_bytes == before
        # Dynamic memory says what it will hold at most.
        held = bytes_of_arrays(tracker, set())
        assert held <= before if memory == "dynamic" else held == before
        tracker.remove_object(5)
        assert 5 not in tracker.step(frame).mask


def test_mer_whole_tracks_with_flow_and_value_extraction(
    mer_bundle: Bundle, make_frame: MakeFrame, make_mask: MakeFrame
) -> None:
    mask = make_mask(HEIGHT, WIDTH, 1, 2)
    with Tracker.open(mer_bundle, overrides={"edges": False}, threads=1) as tracker:
        tracker.start(make_frame(HEIGHT, WIDTH), mask)
        before = tracker.memory_bytes
        for shift in range(3, 19, 3):
            result = tracker.step(make_frame(HEIGHT, WIDTH, shift))
        moved = np.roll(mask, shift, axis=1)
        moved[:, :shift] = 0
        assert iou(result.mask == 1, moved == 1) > 0.5
        assert tracker.memory_bytes == before == bytes_of_arrays(tracker, set())
        assert result.timings_ms["flow"] > 0
        assert result.timings_ms["values"] > 0


def test_keys_in_memory_are_those_of_the_value_extraction(
    mer_bundle: Bundle, frame: Frame, mask: Frame
) -> None:
    with Tracker.open(mer_bundle, threads=1) as tracker:
        tracker.start(frame, mask)
        bank = tracker.video.predictor.bank
        first = bank.keys[0].copy()
        assert np.abs(bank.keys[0] - bank.raw_keys[0]).max() > 1e-3
        tracker.step(frame)
        # Frozen at write: what was read for a frame is read for all later ones.
        np.testing.assert_array_equal(bank.keys[0], first)
        assert np.abs(bank.keys[1] - bank.raw_keys[1]).max() > 1e-3


def test_motion_and_value_extraction_can_be_switched_off(
    mer_bundle: Bundle, make_frame: MakeFrame, mask: Frame
) -> None:
    frames = [make_frame(HEIGHT, WIDTH, shift) for shift in (0, 6, 12)]
    keys, held = {}, {}
    for motion, values in ((True, True), (True, False), (False, False)):
        switches = {"motion": motion, "value_extraction": values}
        with Tracker.open(mer_bundle, threads=1, overrides=switches) as tracker:
            tracker.start(frames[0], mask)
            for moved in frames[1:]:
                tracker.step(moved)
            bank = tracker.video.predictor.bank
            keys[motion, values] = bank.raw_keys[2].copy()
            assert bool(np.abs(bank.keys[2] - bank.raw_keys[2]).max() > 1e-3) is values
            held[motion, values] = tracker.memory_bytes
            assert tracker.memory_bytes == bytes_of_arrays(tracker, set())
    assert held[True, True] > held[True, False] > held[False, False]
    np.testing.assert_array_equal(keys[True, True], keys[True, False])
    # Without flow the encoder gets zeros: rest.
    assert np.abs(keys[True, False] - keys[False, False]).max() > 1e-3
    with Tracker.open(mer_bundle, threads=1, overrides={"motion": False}) as tracker:
        tracker.start(frames[2], mask)
        rest = tracker.video.predictor.bank.raw_keys[0]
        np.testing.assert_array_equal(rest, keys[False, False])


def test_a_switch_that_the_model_lacks_is_refused(tiny_bundle: Bundle) -> None:
    with pytest.raises(TrackerError, match="takes no optical flow; leave --motion out"):
        Tracker.open(tiny_bundle, overrides={"motion": True})
    with pytest.raises(TrackerError, match="has no value extraction; leave --values out"):
        Tracker.open(tiny_bundle, overrides={"value_extraction": True})


@pytest.mark.parametrize("graph", ["encoder", "value_extraction", "cluster_readout"])
@pytest.mark.parametrize("memory", ["references", "dynamic"])
def test_a_step_that_fails_is_as_if_it_had_not_been(
    mer_bundle: Bundle, make_frame: MakeFrame, mask: Frame, graph: str, memory: str
) -> None:
    frames = [make_frame(HEIGHT, WIDTH, 2 * step) for step in range(6)]
    parts = mer_bundle.composition.exchange(memory=memory)
    bundle = replace(mer_bundle, composition=parts)
    expected: list[StepResult] = []
    for fails in (False, True):
        engines: dict[str, Engine] = {
            name: OnnxRuntimeEngine(bundle.read_graph(name), each.spec, threads=1)
            for name, each in bundle.graphs.items()
        }
        engines[graph] = failing = FailingEngine(engines[graph])
        with Tracker(bundle, engines) as tracker:
            tracker.start(frames[0], mask)
            for step, frame in enumerate(frames[1:]):
                if fails and step in (0, 2):
                    failing.broken = True
                    with pytest.raises(EngineError, match="the engine broke"):
                        tracker.step(make_frame(HEIGHT, WIDTH, 40))
                    failing.broken = False
                result = tracker.step(frame)
                if fails:
                    assert same(result, expected[step])
                else:
                    expected.append(result)


def test_an_unknown_part_is_refused_before_a_graph_is_loaded(tiny_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="received memory 'endless'; expected one of references"):
        Tracker.open(tiny_bundle, overrides={"memory": "endless"})
