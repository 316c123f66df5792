"""One tracker in several threads: each call is whole, whoever makes it."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Event
from time import sleep

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

from tests.runtime.tracker.made import HEIGHT, WIDTH, Frame, MakeFrame, square
from vcedge_runtime.buffers import Buffer
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vcedge_runtime.errors import TrackerError
from vcedge_runtime.followed import StepResult
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.tracker import Tracker


class SlowEngine:
    """An engine that waits in its run, and knows who else is in there and whether it is closed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.spec = engine.spec
        self.entered, self.go_on = Event(), Event()
        self.go_on.set()
        self.inside = self.most = 0
        self.closed_inside = False

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.entered.set()
        sleep(0.001)
        assert self.go_on.wait(30)
        self._engine.run(inputs, out)
        self.inside -= 1

    def close(self) -> None:
        self.closed_inside = self.inside > 0
        self._engine.close()


@pytest.fixture
def encoder(tiny_bundle: Bundle) -> SlowEngine:
    return SlowEngine(open_engine(tiny_bundle, "encoder"))


@pytest.fixture
def shared(tiny_bundle: Bundle, encoder: SlowEngine) -> Tracker:
    readout = open_engine(tiny_bundle, "label_readout")
    return Tracker(tiny_bundle, {"encoder": encoder, "label_readout": readout})


def open_engine(bundle: Bundle, name: str) -> Engine:
    return OnnxRuntimeEngine(bundle.read_graph(name), bundle.graphs[name].spec, threads=1)


def test_threads_that_step_one_tracker_come_one_after_the_other(
    shared: Tracker, encoder: SlowEngine, make_frame: MakeFrame, mask: Frame
) -> None:
    with shared, ThreadPoolExecutor(6) as threads:
        shared.start(make_frame(HEIGHT, WIDTH), mask)
        steps = [threads.submit(shared.step, make_frame(HEIGHT, WIDTH, s)) for s in range(18)]
        changes = [
            threads.submit(shared.add_object, 7, square(30, 60)),
            threads.submit(shared.remove_object, 3),
        ]
        wait([*steps, *changes])
        assert [change.result() for change in changes] == [None, None]
        for step in steps:
            assert set(np.unique(step.result().mask)) <= {0, 3, 7, 200}
        assert shared.object_ids == [200, 7]
    assert encoder.most == 1


def test_close_waits_for_the_step_that_runs(
    shared: Tracker, encoder: SlowEngine, make_frame: MakeFrame, mask: Frame
) -> None:
    shared.start(make_frame(HEIGHT, WIDTH), mask)
    encoder.entered.clear()
    encoder.go_on.clear()
    with ThreadPoolExecutor(3) as threads:
        step: Future[StepResult] = threads.submit(shared.step, make_frame(HEIGHT, WIDTH, 2))
        assert encoder.entered.wait(30)
        closing = threads.submit(shared.close)
        assert not wait([closing], timeout=0.05).done
        encoder.go_on.set()
        assert set(np.unique(step.result(30).mask)) <= {0, 3, 200}
        closing.result(30)
    assert not encoder.closed_inside
    with pytest.raises(TrackerError, match="closed; open another"):
        shared.step(make_frame(HEIGHT, WIDTH, 4))


def test_a_closed_tracker_tells_every_thread_that_it_is(
    shared: Tracker, make_frame: MakeFrame, mask: Frame
) -> None:
    shared.start(make_frame(HEIGHT, WIDTH), mask)
    with ThreadPoolExecutor(4) as threads:
        steps = [threads.submit(shared.step, make_frame(HEIGHT, WIDTH, s)) for s in range(12)]
        wait(steps[:2])
        shared.close()
        wait(steps)
    errors = [step.exception() for step in steps]
    assert errors[:2] == [None, None]
    told = [error for error in errors if error is not None]
    assert all(isinstance(error, TrackerError) and "closed" in str(error) for error in told)


def test_numpy_takes_one_thread_for_its_products_within_a_call_alone(
    tiny_bundle: Bundle, make_frame: MakeFrame, mask: Frame
) -> None:
    libraries = ThreadpoolController().select(internal_api="openblas")

    def count() -> list[int]:
        # Others, such as SciPy's, may have been loaded since the first tracker of this process.
        found = [each for each in libraries.info() if "numpy" in each["filepath"]]
        return [each["num_threads"] for each in found if each["threading_layer"] == "pthreads"]

    within: list[list[int]] = []

    class CountingEngine(SlowEngine):
        def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
            within.append(count())
            super().run(inputs, out)

    readout = open_engine(tiny_bundle, "label_readout")
    encoder = CountingEngine(open_engine(tiny_bundle, "encoder"))
    with libraries.limit(limits=2):
        before = count()
        if before != [2]:
            pytest.skip("numpy has no OpenBLAS of its own here")
        with Tracker(tiny_bundle, {"encoder": encoder, "label_readout": readout}) as tracker:
            tracker.start(make_frame(HEIGHT, WIDTH), mask)
            tracker.step(make_frame(HEIGHT, WIDTH, 1))
            assert count() == before
    assert within == [[1], [1]]
