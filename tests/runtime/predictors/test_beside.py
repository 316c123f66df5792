"""Global memory is read while local memory is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event, current_thread
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from vcedge_runtime.engines.base import Engine, HostEngine, runs_beside
from vcedge_runtime.engines.onnxruntime import engine_from_bundle
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.model.spec import GraphSpec
from vcedge_runtime.predictors.beside import done_beside, find_beside
from vcedge_runtime.tracker import Tracker

if TYPE_CHECKING:
    from vcedge_export.verify import TruthClip

SOON = 20.0
"""Seconds within which another thread comes to run, on any machine."""
HALVED = {"memory_read", "feature_alignment"}


class BesideEngine(HostEngine):
    beside = True

    def __init__(self) -> None:
        super().__init__(GraphSpec("none", (), ()))


@pytest.mark.parametrize(
    ("parts", "reads_local"),
    [({}, True), ({"local": "raw"}, True), ({"local": "off"}, False)],
    ids=str,
)
def test_local_memory_is_what_global_memory_is_read_beside(
    srnet_bundle: Bundle, parts: dict[str, Any], reads_local: bool
) -> None:
    found = find_beside(srnet_bundle.tracking.exchange(**parts))
    assert found == (HALVED if reads_local else set())


def test_models_that_have_no_local_memory_run_nothing_beside(
    tiny_bundle: Bundle, xmem_bundle: Bundle
) -> None:
    assert find_beside(tiny_bundle.tracking) == find_beside(xmem_bundle.tracking) == set()


def test_work_goes_on_while_the_block_does() -> None:
    begun, met = Event(), Event()

    def work() -> None:
        begun.set()
        assert met.wait(SOON)

    with done_beside(BesideEngine(), work):
        assert begun.wait(SOON)
        met.set()


def test_the_block_ends_when_the_work_does() -> None:
    done: list[int] = []
    go_on = Event()

    def work() -> None:
        assert go_on.wait(SOON)
        done.append(1)

    with done_beside(BesideEngine(), work):
        go_on.set()
    assert done == [1]


@pytest.mark.parametrize("engine", [BesideEngine(), HostEngine(GraphSpec("none", (), ()))])
def test_a_failure_of_the_work_is_raised(engine: Engine) -> None:
    def work() -> None:
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"), done_beside(engine, work):
        pass


def test_a_block_that_fails_waits_for_the_work_which_writes_the_callers_arrays() -> None:
    go_on, done = Event(), Event()

    def work() -> None:
        assert go_on.wait(SOON)
        done.set()

    def fail() -> None:
        with done_beside(BesideEngine(), work):
            go_on.set()
            raise ValueError("the block")

    with pytest.raises(ValueError, match="the block"):
        fail()
    assert done.is_set()


def test_an_engine_that_has_all_cores_works_before_the_block_in_the_callers_thread() -> None:
    threads = []
    with done_beside(
        HostEngine(GraphSpec("none", (), ())), lambda: threads.append(current_thread())
    ):
        assert threads == [current_thread()]


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_half_of_the_threads_are_what_graphs_beside_each_other_get(
    srnet_bundle: Bundle, threads: int
) -> None:
    with Tracker.open(srnet_bundle, threads=threads, backend="cpu") as tracker:
        found = {name for name, engine in tracker.engines.items() if runs_beside(engine)}
        assert found == (HALVED if threads > 1 else set())
        own = {
            name: engine._session.get_session_options().intra_op_num_threads
            for name, engine in tracker.engines.items()
        }
        assert own == {n: threads // 2 if n in found else threads for n in own}


def test_masks_and_scores_are_those_of_one_after_the_other(
    srnet_bundle: Bundle, tiny_clip: TruthClip
) -> None:
    found = []
    for threads in (1, 2):
        with Tracker.open(srnet_bundle, threads=threads, backend="cpu") as tracker:
            tracker.start(tiny_clip.frames[0], tiny_clip.masks[0])
            results = [tracker.step(f) for f in (*tiny_clip.frames[1:], *tiny_clip.frames[::-1])]
            found.append(([result.mask for result in results], [r.scores for r in results]))
            assert all(r.timings_ms["readout"] > 0 and r.timings_ms["align"] > 0 for r in results)
            macs = tracker.video.predictor.readout_macs
            found[-1] += (macs,)
    np.testing.assert_array_equal(found[0][0], found[1][0])
    # Sums of another order in graphs of two threads.
    for one, other in zip(found[0][1], found[1][1], strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    assert found[0][2] == found[1][2]


def test_one_engine_runs_in_two_threads_at_once(srnet_bundle: Bundle) -> None:
    rng = np.random.default_rng(0)
    engine = engine_from_bundle(srnet_bundle, "memory_read", threads=1, beside=True)
    runs = []
    for slots in (5, 1, 3, 2) * 6:
        keys = rng.standard_normal((6, 8, 12, 64)).astype(np.float32)
        values = rng.standard_normal((6, 8, 12, 2, 128)).astype(np.float32)
        inputs = {"query": keys[5], "keys": keys, "values": values}
        inputs |= {"slot_index": np.arange(slots), "slot_valid": np.ones(slots, np.float32)}
        runs.append((inputs, np.zeros((2, 128, 8, 12), np.float32)))
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda run: engine.run(run[0], {"readout": run[1]}), runs))
    for inputs, found in runs:
        alone = np.zeros_like(found)
        engine.run(inputs, {"readout": alone})
        np.testing.assert_array_equal(found, alone)
    engine.close()
