"""XMem's parts as a bundle: states, long-term memory, and what changes of objects do to them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.published import make_small
from tests.runtime.tracker.made import FailingEngine, bytes_beside_engines, same
from vcedge_export.plan import ExportOptions
from vcedge_export.planning import plan_export
from vcedge_export.verify import TruthClip
from vcedge_runtime.demo.clip import render_demo_clip
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.engines.onnxruntime import engine_from_bundle
from vcedge_runtime.errors import EngineError, ExportError
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.predictors.long_term import LongTerm
from vcedge_runtime.predictors.objects import ObjectPredictor
from vcedge_runtime.tracker import Tracker


def run_bundle(bundle: Bundle) -> dict[str, Engine]:
    return {name: engine_from_bundle(bundle, name, threads=1) for name in bundle.graphs}


def state_of(tracker: Tracker) -> tuple[ObjectPredictor, LongTerm]:
    predictor = tracker.video.predictor
    assert isinstance(predictor, ObjectPredictor)
    assert predictor._long_term is not None
    return predictor, predictor._long_term


def test_it_is_proven_and_which_cells_were_near_is_not_compared(xmem_bundle: Bundle) -> None:
    found = xmem_bundle.verification
    assert found["passes"] is True
    outputs = {row["tensor"] for row in found["outputs"]}
    assert {"memory_read.readout", "memory_read.weights", "mask_decoder.next_hidden"} <= outputs
    assert "memory_read.cells" not in outputs


def test_over_a_thousand_frames_memory_is_what_was_declared(
    xmem_bundle: Bundle, tiny_clip: TruthClip
) -> None:
    with Tracker(xmem_bundle, run_bundle(xmem_bundle)) as tracker:
        tracker.start(tiny_clip.frames[0], tiny_clip.masks[0])
        declared = tracker.memory_bytes
        sizes = []
        for step in range(1, 1000):
            tracker.step(tiny_clip.frames[step % 4])
            long_term = state_of(tracker)[1]
            sizes.append(long_term.size)
        assert tracker.memory_bytes == declared
        assert bytes_beside_engines(tracker.video) == declared
    # It was full, and forgot, again and again.
    assert max(sizes) <= 30
    assert sizes.count(max(sizes)) > 100
    assert len(set(sizes[500:])) > 1 or max(sizes) == 30


@pytest.mark.parametrize("graph", ["query_encoder", "memory_read", "mask_decoder", "value_encoder"])
def test_a_step_that_fails_leaves_states_and_counters_as_they_were(
    xmem_bundle: Bundle, tiny_clip: TruthClip, graph: str
) -> None:
    engines = run_bundle(xmem_bundle)
    failing = FailingEngine(engines[graph])
    with (
        Tracker(xmem_bundle, {**engines, graph: failing}) as tracker,
        Tracker(xmem_bundle, run_bundle(xmem_bundle)) as whole,
    ):
        for each in (tracker, whole):
            each.start(tiny_clip.frames[0], tiny_clip.masks[0])
        for step in range(1, 12):
            failing.broken = True
            with pytest.raises(EngineError, match="the engine broke"):
                tracker.step(tiny_clip.frames[(step + 2) % 4])
            failing.broken = False
            if step == 6:
                for each in (tracker, whole):
                    each.add_object(2, tiny_clip.masks[step % 4] == 2)  # type: ignore[arg-type]
            frame = tiny_clip.frames[step % 4]
            assert same(tracker.step(frame), whole.step(frame))
        (ours, our_cells), (theirs, their_cells) = state_of(tracker), state_of(whole)
        np.testing.assert_array_equal(ours._hidden.last, theirs._hidden.last)
        np.testing.assert_array_equal(our_cells.use, their_cells.use)
        np.testing.assert_array_equal(our_cells.life, their_cells.life)


def test_a_new_object_is_read_back_into_long_term_memory_and_begins_without_a_state(
    xmem_bundle: Bundle, tiny_clip: TruthClip
) -> None:
    with Tracker(xmem_bundle, run_bundle(xmem_bundle)) as tracker:
        tracker.start(tiny_clip.frames[0], np.where(tiny_clip.masks[0] == 1, 1, 0).astype(np.uint8))
        for step in range(1, 8):
            tracker.step(tiny_clip.frames[step % 4])
        predictor, long_term = state_of(tracker)
        assert long_term.size > 0
        before = predictor._hidden.before.copy()  # type: ignore[union-attr]
        tracker.add_object(9, tiny_clip.masks[3] == 2)  # type: ignore[arg-type]
        np.testing.assert_array_equal(predictor._hidden.before[:1], before)  # type: ignore[index]
        assert not predictor._hidden.before[1].any()  # type: ignore[index, union-attr]
        assert predictor._hidden.last[1].any()  # type: ignore[index, union-attr]
        values = predictor.values.values[long_term.slots[0]]
        assert np.asarray(values)[..., 1, :].any()
        tracker.step(tiny_clip.frames[0])
        tracker.remove_object(1)
        assert predictor._hidden.last.shape[0] == 1
        tracker.step(tiny_clip.frames[1])


def test_a_mask_that_is_drawn_twice_leaves_what_drawing_it_once_does(
    xmem_bundle: Bundle, tiny_clip: TruthClip
) -> None:
    states = []
    for times in (1, 2):
        with Tracker(xmem_bundle, run_bundle(xmem_bundle)) as tracker:
            tracker.start(tiny_clip.frames[0], tiny_clip.masks[0])
            for step in (1, 2):
                tracker.step(tiny_clip.frames[step])
            for _ in range(times):
                tracker.add_object(1, tiny_clip.masks[2] == 1)  # type: ignore[arg-type]
            states.append(np.array(state_of(tracker)[0]._hidden.last))
    np.testing.assert_array_equal(states[0], states[1])


@pytest.mark.parametrize("memory", ["local_global:capacity=3", "dynamic", "references"])
def test_other_memories_can_be_chosen(
    xmem_bundle: Bundle, tiny_clip: TruthClip, memory: str
) -> None:
    parts = xmem_bundle.composition.exchange(memory=memory)
    with Tracker(replace(xmem_bundle, composition=parts), run_bundle(xmem_bundle)) as tracker:
        tracker.start(tiny_clip.frames[0], tiny_clip.masks[0])
        held = tracker.memory_bytes
        for step in range(1, 20):
            tracker.step(tiny_clip.frames[step % 4])
        assert tracker.memory_bytes == held


def test_a_window_may_follow_the_objects_and_states_move_with_it(xmem_bundle: Bundle) -> None:
    parts = xmem_bundle.composition.exchange(window="follow")
    bundle = replace(xmem_bundle, composition=parts)
    clip = list(render_demo_clip(frames=14, frame_hw=(256, 384)))
    with Tracker(bundle, run_bundle(bundle)) as tracker:
        tracker.start(*clip[0])
        held, boxes = tracker.memory_bytes, set()
        for step, (frame, ids) in enumerate(clip[1:]):
            tracker.step(frame)
            boxes.add(tracker.video.windows.last.box)
            if step in (4, 8):
                # It may lie outside of the window, which is then chosen anew.
                tracker.add_object(1, ids == 1)  # type: ignore[arg-type]
        assert tracker.memory_bytes == held
        assert bytes_beside_engines(tracker.video) == held
    assert len(boxes) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 65}, "received top_k=65 for XMem; expected 1 to 64"),
        ({"deform_conv": True}, "received deform_conv for a model without one"),
        ({"radius": 3}, "received a radius or a temperature for"),
    ],
)
def test_what_xmem_has_not_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        plan_export(make_small("xmem"), ExportOptions(**options))
