"""Numbers of a model that are none: the last mask stays, memory is not written, and it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from tests.runtime.tracker.made import HEIGHT, WIDTH, Frame, MakeFrame, same
from tests.runtime.tracker.made_srnet import make_engines, open_hand_made
from tests.runtime.tracker.test_srnet import draw
from vcedge_runtime.buffers import Buffer
from vcedge_runtime.engines.base import Engine, ForwardingEngine
from vcedge_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vcedge_runtime.errors import EngineError
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.tracker import Tracker

BAD = [np.nan, np.inf, -np.inf]


class PoisonedEngine(ForwardingEngine):
    """Puts a value in the middle of every output, where it is told to."""

    value: float | None = None

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        super().run(inputs, out)
        for array in out.values() if self.value is not None else ():
            assert isinstance(array, np.ndarray)
            array[tuple(length // 2 for length in array.shape)] = self.value


def open_poisoned(bundle: Bundle, graph: str) -> tuple[Tracker, PoisonedEngine]:
    engines: dict[str, Engine] = {
        name: OnnxRuntimeEngine(bundle.path_of(name), each.spec, threads=1)
        for name, each in bundle.graphs.items()
    }
    engines[graph] = poisoned = PoisonedEngine(engines[graph])
    return Tracker(bundle, engines), poisoned


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize(
    ("graph", "parts"),
    [
        ("encoder", {}),
        ("encoder", {"memory": "dynamic", "fusion": "bidirectional"}),
        ("encoder", {"sampler": "clusters", "alignment": "objects"}),
        ("joint_readout", {}),
        ("label_readout", {"fusion": "vote"}),
        ("label_readout", {"fusion": "bidirectional"}),
        ("cluster_readout", {"sampler": "clusters", "fusion": "mean"}),
        ("column_total", {"fusion": "bidirectional"}),
    ],
    ids=str,
)
def test_a_frame_of_labels_is_held_and_the_next_is_tracked_as_if_it_had_not_been(
    tiny_bundle: Bundle,
    make_frame: MakeFrame,
    mask: Frame,
    graph: str,
    parts: dict[str, str],
    value: float,
) -> None:
    bundle = replace(tiny_bundle, composition=tiny_bundle.composition.exchange(**parts))
    tracker, poisoned = open_poisoned(bundle, graph)
    with tracker, Tracker.open(bundle, threads=1, backend="cpu") as whole:
        last = mask
        for each in (tracker, whole):
            each.start(make_frame(HEIGHT, WIDTH), mask)
        for step in range(1, 6):
            poisoned.value = value
            held = tracker.step(make_frame(HEIGHT, WIDTH, 40))
            poisoned.value = None
            assert held.held
            np.testing.assert_array_equal(held.mask, last)
            assert held.scores == {3: 0.0, 200: 0.0}
            result = tracker.step(make_frame(HEIGHT, WIDTH, 2 * step))
            assert not result.held
            assert same(result, whole.step(make_frame(HEIGHT, WIDTH, 2 * step)))
            last = result.mask


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("graph", ["query_encoder", "memory_read", "mask_decoder", "value_encoder"])
def test_a_frame_of_objects_is_held_and_the_next_is_tracked_as_if_it_had_not_been(
    graph: str, value: float
) -> None:
    engines = make_engines()
    engines[graph] = poisoned = PoisonedEngine(engines[graph])
    with open_hand_made(engines) as tracker, open_hand_made() as whole:
        for each in (tracker, whole):
            each.start(*draw(0, 1, 2))
        last = draw(0, 1, 2)[1]
        for step in range(1, 6):
            poisoned.value = value
            held = tracker.step(draw(40 - step, 1, 2)[0])
            poisoned.value = None
            assert held.held
            np.testing.assert_array_equal(held.mask, last)
            result = tracker.step(draw(step, 1, 2)[0])
            assert same(result, whole.step(draw(step, 1, 2)[0]))
            last = result.mask


def test_a_held_mask_is_the_callers_own_and_knows_what_was_drawn(
    tiny_bundle: Bundle, make_frame: MakeFrame, mask: Frame
) -> None:
    tracker, poisoned = open_poisoned(tiny_bundle, "encoder")
    with tracker:
        tracker.start(make_frame(HEIGHT, WIDTH), mask)
        last = tracker.step(make_frame(HEIGHT, WIDTH, 2)).mask
        expected = last.copy()
        last[:] = 9
        drawn = np.zeros_like(mask)
        drawn[:8, :8] = 1
        tracker.add_object(7, drawn)
        tracker.remove_object(3)
        expected[drawn > 0] = 7
        expected[expected == 3] = 0
        poisoned.value = np.nan
        for _ in range(2):
            held = tracker.step(make_frame(HEIGHT, WIDTH, 4))
            np.testing.assert_array_equal(held.mask, expected)
            assert held.scores == {200: 0.0, 7: 0.0}
            held.mask[:] = 5


def test_a_held_point_stays_where_it_was_and_is_not_visible(
    tiny_bundle: Bundle, make_frame: MakeFrame
) -> None:
    tracker, poisoned = open_poisoned(tiny_bundle, "encoder")
    with tracker:
        tracker.start_points(make_frame(HEIGHT, WIDTH), {"nose": (30.0, 36.0)})
        last = tracker.step(make_frame(HEIGHT, WIDTH, 3)).points["nose"]
        poisoned.value = np.nan
        held = tracker.step(make_frame(HEIGHT, WIDTH, 6))
        assert held.held
        assert held.points == {"nose": replace(last, visible=False, score=0.0)}
        poisoned.value = None
        assert tracker.step(make_frame(HEIGHT, WIDTH, 6)).points["nose"].visible


@pytest.mark.parametrize("value", BAD)
def test_a_first_frame_that_cannot_be_remembered_is_an_error(
    tiny_bundle: Bundle, frame: Frame, mask: Frame, value: float
) -> None:
    tracker, poisoned = open_poisoned(tiny_bundle, "encoder")
    with tracker:
        poisoned.value = value
        with pytest.raises(EngineError, match=r"keys of the model that are not finite.*verify"):
            tracker.start(frame, mask)
        with pytest.raises(EngineError, match="keys of the model"):
            tracker.start_points(frame, {"nose": (30.0, 36.0)})
        poisoned.value = None
        tracker.start(frame, mask)
        assert not tracker.step(frame).held
    engines = make_engines()
    for graph in ("query_encoder", "value_encoder"):
        engines[graph] = bad = PoisonedEngine(engines[graph])
        bad.value = value
        with open_hand_made(engines) as srnet, pytest.raises(EngineError, match="not finite"):
            srnet.start(*draw(0, 1, 2))
        bad.value = None
