"""A change of a tracker's objects that fails: everything is as if it had not been tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.runtime.tracker.made import (
    HEIGHT,
    WIDTH,
    FailingEngine,
    Frame,
    MakeFrame,
    bytes_of_arrays,
    same,
    square,
)
from tests.runtime.tracker.made_srnet import open_hand_made
from vcedge_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vcedge_runtime.errors import EngineError
from vcedge_runtime.memory.dynamic import DynamicMemory, DynamicPolicy
from vcedge_runtime.memory.references import ReferenceMemory, ReferencePolicy
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.tracker import Tracker

Change = Callable[[Tracker], None]
CHANGES: dict[str, Change] = {
    "new": lambda tracker: tracker.add_object(9, square(30, 60)),
    "known": lambda tracker: tracker.add_object(2, square(30, 60)),
    "gone": lambda tracker: tracker.remove_object(2),
}
MEMORIES = {"references": ReferenceMemory, "dynamic": DynamicMemory}
MODELS: dict[str, dict[str, Any]] = {
    "joint": {},
    "enhanced": {"sampler": "regions", "fusion": "bidirectional"},
}


def fail_in(
    monkeypatch: pytest.MonkeyPatch, kind: type, method: str, at: int, error: type[BaseException]
) -> None:
    """Make a method of a memory raise when it is called for the ``at``-th time."""
    calls, plain = [0], getattr(kind, method)

    def failing(self: Any, *given: Any) -> None:
        calls[0] += 1
        if calls[0] == at:
            raise error
        plain(self, *given)

    monkeypatch.setattr(kind, method, failing)


def open_pair(
    bundle: Bundle, model: str, memory: str
) -> tuple[Tracker, Tracker, list[FailingEngine]]:
    """Two trackers of one model, and the graphs of the first, which can be told to fail."""
    if model == "srnet":
        policies = {"references": ReferencePolicy(), "dynamic": DynamicPolicy(short=2, long=2)}
        one, other = (open_hand_made(memory=policies[memory]) for _ in range(2))
        return one, other, []
    parts = bundle.composition.exchange(edges=False, memory=memory, **MODELS[model])
    bundle = replace(bundle, composition=parts)
    failing = {
        name: FailingEngine(OnnxRuntimeEngine(bundle.read_graph(name), graph.spec, threads=1))
        for name, graph in bundle.graphs.items()
    }
    return Tracker(bundle, failing), Tracker.open(bundle, threads=1), [*failing.values()]


def expect_the_same_from_now_on(one: Tracker, other: Tracker, make_frame: MakeFrame) -> None:
    """Lead both trackers on, through further changes."""
    assert one.object_ids == other.object_ids == [1, 2, 3]
    assert one.memory_bytes == other.memory_bytes
    for step in range(8, 14):
        if step == 10:
            for each in (one, other):
                each.remove_object(2)
                each.add_object(7, square(4, 4))
        found = [each.step(make_frame(HEIGHT, WIDTH, step)) for each in (one, other)]
        assert same(*found)


@pytest.mark.parametrize("model", ["joint", "enhanced", "srnet"])
@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize(
    ("change", "method", "at"),
    [
        ("new", "store", 2),
        ("new", "annotate", 1),
        ("known", "store", 1),
        ("known", "annotate", 1),
        ("gone", "store", 2),
    ],
)
def test_a_change_that_breaks_off_changes_nothing(
    tiny_bundle: Bundle,
    make_frame: MakeFrame,
    make_mask: MakeFrame,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    memory: str,
    change: str,
    method: str,
    at: int,
) -> None:
    one, other, _ = open_pair(tiny_bundle, model, memory)
    with one, other:
        for each in (one, other):
            each.start(make_frame(HEIGHT, WIDTH), make_mask(HEIGHT, WIDTH, 1, 2, 3))
            for step in range(1, 8):
                each.step(make_frame(HEIGHT, WIDTH, step))
        with monkeypatch.context() as patched:
            fail_in(patched, MEMORIES[memory], method, at, KeyboardInterrupt)
            with pytest.raises(KeyboardInterrupt):
                CHANGES[change](one)
        expect_the_same_from_now_on(one, other, make_frame)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("change", ["new", "known"])
def test_a_graph_that_fails_while_a_mask_is_read_back_changes_nothing(
    tiny_bundle: Bundle, make_frame: MakeFrame, make_mask: MakeFrame, model: str, change: str
) -> None:
    one, other, engines = open_pair(tiny_bundle, model, "references")
    with one, other:
        for each in (one, other):
            each.start(make_frame(HEIGHT, WIDTH), make_mask(HEIGHT, WIDTH, 1, 2, 3))
            for step in range(1, 8):
                each.step(make_frame(HEIGHT, WIDTH, step))
        for engine in engines:
            engine.broken = True
        with pytest.raises(EngineError, match="the engine broke"):
            CHANGES[change](one)
        for engine in engines:
            engine.broken = False
        expect_the_same_from_now_on(one, other, make_frame)


def test_a_step_and_then_a_change_that_fail_leave_dynamic_memory_as_it_was(
    tiny_bundle: Bundle, make_frame: MakeFrame, mask: Frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other, _ = open_pair(tiny_bundle, "joint", "dynamic")
    with one, other:
        for each in (one, other):
            each.start(make_frame(HEIGHT, WIDTH), mask)
            for step in range(1, 8):
                each.step(make_frame(HEIGHT, WIDTH, step))
        with monkeypatch.context() as patched:
            fail_in(patched, DynamicMemory, "store", 1, MemoryError)
            with pytest.raises(MemoryError):
                one.step(make_frame(HEIGHT, WIDTH, 40))
        with monkeypatch.context() as patched:
            fail_in(patched, DynamicMemory, "annotate", 1, MemoryError)
            with pytest.raises(MemoryError):
                one.add_object(5, square(4, 4))
        assert bytes_of_arrays(one.video.predictor.bank, set()) == bytes_of_arrays(
            other.video.predictor.bank, set()
        )
        for step in range(8, 14):
            found = [each.step(make_frame(HEIGHT, WIDTH, step)) for each in (one, other)]
            assert same(*found)
            memories = [each.video.predictor.memory for each in (one, other)]
            assert memories[0].short == memories[1].short
            assert memories[0].long == memories[1].long
    assert np.any(found[0].mask)
