"""TensorRT's engine, on a TensorRT made of ONNX Runtime and memory that stands for a GPU's."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.runtime.engines import tensorrt_double as double
from tests.runtime.engines.fake_cuda import FakeCuda
from vcedge_runtime.buffers import share_array, to_host, zeros_for
from vcedge_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vcedge_runtime.engines.plans import PlanCache
from vcedge_runtime.errors import EngineError
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.predictors.ranges import OBJECTS, find_spans

if TYPE_CHECKING:
    pass


@pytest.fixture
def open_engine(
    engines: ModuleType, tiny_bundle: Bundle, cuda: FakeCuda, cache: PlanCache, told: list[str]
) -> Callable[..., Any]:
    """Open the tiny bundle's encoder, or another graph of it."""

    def open_engine(name: str = "encoder", **settings: Any) -> Any:
        return engines.TensorRTEngine(
            tiny_bundle,
            name,
            partial(find_spans, tiny_bundle.composition),
            cuda,
            cache,
            settings=engines.BuildSettings(**settings),
            tell=told.append,
        )

    return open_engine


def make_run(height: int = 64, width: int = 96, seed: int = 0) -> tuple[dict[str, Any], ...]:
    """Inputs and outputs of the encoder."""
    image = np.random.default_rng(seed).standard_normal((1, 3, height, width)).astype(np.float32)
    return {"image": image}, {"key": np.zeros((height // 8, width // 8, 64), np.float32)}


def run_encoder(engine: Any, **sizes: int) -> NDArray[np.float32]:
    inputs, out = make_run(**sizes)
    engine.run(inputs, out)
    found: NDArray[np.float32] = out["key"]
    return found


def expected_key(bundle: Bundle, **sizes: int) -> NDArray[np.float32]:
    engine = OnnxRuntimeEngine(
        bundle.read_graph("encoder"), bundle.graphs["encoder"].spec, threads=1
    )
    return run_encoder(engine, **sizes)


def test_an_engine_gives_what_the_graph_gives(
    open_engine: Callable[..., Any], tiny_bundle: Bundle, cuda: FakeCuda, told: list[str]
) -> None:
    engine = open_engine()
    inputs, _ = make_run()
    # Run by run at first, then recorded in a context of its own.
    for count in range(1, 6):
        np.testing.assert_array_equal(
            run_encoder(engine, seed=count), expected_key(tiny_bundle, seed=count)
        )
        assert cuda.launches == max(0, count - 2)
    assert cuda.copied_in == 5 * [inputs["image"].nbytes]
    assert cuda.copied_out == 5 * [8 * 12 * 64 * 4]
    assert len(double.behaviour.builds) == 1
    assert cuda.graphs == 1
    assert told[0] == ("building an engine of encoder (there is none yet); it takes minutes")
    assert told[1].startswith("wrote ")
    assert len(told) == 2
    assert engine.layers == {"fp32": 2, "other": 1}


def test_without_cuda_graphs_every_run_is_queued(
    open_engine: Callable[..., Any], cuda: FakeCuda
) -> None:
    engine = open_engine(cuda_graphs=False)
    for _ in range(5):
        run_encoder(engine)
    assert cuda.launches == 0


def test_a_build_is_strongly_typed_without_tf32_for_its_own_sizes(
    open_engine: Callable[..., Any],
) -> None:
    run_encoder(open_engine(workspace_mb=64, level=2))
    build = double.behaviour.builds[0]
    size = (1, 3, 64, 96)
    assert build["shapes"] == {"image": (size, size, size)}
    assert (build["tf32"], build["workspace"], build["level"]) == (False, 64 << 20, 2)


def test_everything_is_given_back(open_engine: Callable[..., Any], cuda: FakeCuda) -> None:
    engine = open_engine()
    for _ in range(5):
        run_encoder(engine)
    assert cuda.held
    assert cuda.graphs
    engine.close()
    assert not cuda.held
    assert not cuda.graphs
    assert cuda.users == 1


def test_a_plan_is_found_again(
    open_engine: Callable[..., Any], tiny_bundle: Bundle, cache: PlanCache, told: list[str]
) -> None:
    run_encoder(open_engine())
    told.clear()
    np.testing.assert_array_equal(run_encoder(open_engine()), expected_key(tiny_bundle))
    assert len(double.behaviour.builds) == 1
    assert not told
    assert {path.suffix for path in cache.folder.iterdir()} == {".plan", ".json", ".cache"}
    facts = json.loads(next(cache.folder.glob("*.json")).read_text())
    assert facts["layers"] == {"fp32": 2, "other": 1}
    assert facts["facts"]["compute_capability"] == [8, 7]


def test_another_video_size_is_another_engine_and_both_are_kept(
    open_engine: Callable[..., Any], tiny_bundle: Bundle, cuda: FakeCuda
) -> None:
    engine = open_engine()
    for height in (64, 80, 64):
        found = run_encoder(engine, height=height)
        np.testing.assert_array_equal(found, expected_key(tiny_bundle, height=height))
    assert [build["shapes"]["image"][0][2] for build in double.behaviour.builds] == [64, 80]
    # The image, the key, and scratch memory, at one size at a time.
    assert len(cuda.held) == 3


def test_timings_are_kept_for_the_next_build(open_engine: Callable[..., Any]) -> None:
    run_encoder(open_engine())
    run_encoder(open_engine(level=2))
    assert [build["timing"] for build in double.behaviour.builds] == [b"", b"."]


def test_timings_of_another_device_are_left_out(open_engine: Callable[..., Any]) -> None:
    run_encoder(open_engine())
    double.behaviour.refuses_timings = True
    run_encoder(open_engine(level=2))
    assert [build["timing"] for build in double.behaviour.builds] == [b"", b""]


def test_what_cannot_be_recorded_is_queued_run_by_run_and_told_once(
    open_engine: Callable[..., Any], tiny_bundle: Bundle, cuda: FakeCuda, told: list[str]
) -> None:
    double.behaviour.refuses_recording = True
    engine = open_engine()
    for count in range(6):
        found = run_encoder(engine, seed=count)
        np.testing.assert_array_equal(found, expected_key(tiny_bundle, seed=count))
    assert cuda.launches == 0
    without = [line for line in told if "runs without a CUDA graph" in line]
    assert len(without) == 1
    assert "operation not permitted when capturing" in without[0]


def test_shapes_that_come_again_are_recorded_each_in_a_context_of_its_own(
    engines: ModuleType, srnet_bundle: Bundle, cuda: FakeCuda, cache: PlanCache
) -> None:
    # The double refuses to play what was recorded at other shapes than its context has since.
    engine = run_mix(engines, srnet_bundle, cuda, cache, *(3, 2, 1) * 6)
    assert cuda.graphs == 3
    # Of six runs of each shape, two come before it is known.
    assert cuda.launches == 3 * 4
    engine.close()
    assert not cuda.graphs


def test_the_shapes_that_are_longest_ago_make_room_for_others(
    engines: ModuleType,
    srnet_bundle: Bundle,
    cuda: FakeCuda,
    cache: PlanCache,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = importlib.import_module("vcedge_runtime.engines.tensorrt_plan")
    monkeypatch.setattr(plan, "KINDS", 2)
    run_mix(engines, srnet_bundle, cuda, cache, *[3] * 4, *[2] * 4, *[1] * 4, *[1, 2] * 2)
    assert cuda.graphs == 2
    assert cuda.launches == 3 * 2 + 4


def test_a_part_of_memory_is_copied_within_the_device_whichever_it_is(
    open_engine: Callable[..., Any], tiny_bundle: Bundle, cuda: FakeCuda
) -> None:
    engine = open_engine()
    images = share_array(np.stack([make_run(seed=seed)[0]["image"] for seed in range(3)]), cuda)
    keys = zeros_for((2, 8, 12, 64), cuda)
    # Three of the same part, then others: that the first stay says nothing of the next.
    for run in [0, 0, 0, *range(12)]:
        engine.run({"image": images[run % 3]}, {"key": keys[run % 2]})
        found, expected = to_host(keys[run % 2]), expected_key(tiny_bundle, seed=run % 3)
        np.testing.assert_array_equal(found, expected)
    assert (cuda.graphs, cuda.recorded) == (1, 1)
    assert cuda.launches == 15 - 2
    # Nothing but what this test itself shared and read.
    assert len(cuda.copied_in) == 2
    assert len(cuda.copied_out) == 15


def test_whole_arrays_that_take_turns_are_bound_where_they_lie_each_in_its_own_recording(
    open_engine: Callable[..., Any], tiny_bundle: Bundle, cuda: FakeCuda
) -> None:
    engine, key = open_engine(), zeros_for((8, 12, 64), cuda)
    images = [share_array(make_run(seed=seed)[0]["image"], cuda) for seed in range(2)]
    # As frames do: what was before, and what comes, with several runs of each.
    for run in range(12):
        image = run // 3 % 2
        engine.run({"image": images[image]}, {"key": key})
        np.testing.assert_array_equal(to_host(key), expected_key(tiny_bundle, seed=image))
    assert (cuda.graphs, cuda.recorded) == (2, 2)
    assert cuda.launches == 12 - 2 * 2


def test_another_videos_arrays_are_learned_anew_and_the_former_ones_forgotten(
    open_engine: Callable[..., Any], tiny_bundle: Bundle, cuda: FakeCuda
) -> None:
    engine = open_engine()
    for video in range(5):
        image = share_array(make_run(seed=video)[0]["image"], cuda)
        key = zeros_for((8, 12, 64), cuda)
        before = cuda.launches
        for _ in range(5):
            engine.run({"image": image}, {"key": key})
        np.testing.assert_array_equal(to_host(key), expected_key(tiny_bundle, seed=video))
        assert cuda.launches - before == 3
        assert cuda.graphs == 1


def test_a_context_that_cannot_be_made_leaves_the_one_that_is(
    open_engine: Callable[..., Any],
    tiny_bundle: Bundle,
    cuda: FakeCuda,
    told: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = open_engine()
    run_encoder(engine)
    monkeypatch.setattr(double.ICudaEngine, "create_execution_context", lambda self, how: None)
    for count in range(4):
        found = run_encoder(engine, seed=count)
        np.testing.assert_array_equal(found, expected_key(tiny_bundle, seed=count))
    assert cuda.launches == 0
    assert "runs without a CUDA graph: TensorRT 10.3.0 cannot run the engine" in told[-1]


def test_memory_that_is_short_for_a_known_plan_builds_no_other(
    open_engine: Callable[..., Any], cuda: FakeCuda
) -> None:
    run_encoder(open_engine())
    cuda.room = cuda.bytes_held
    with pytest.raises(EngineError, match="out of memory"):
        run_encoder(open_engine())
    assert len(double.behaviour.builds) == 1


@pytest.mark.parametrize("changed", ["version", "gpu", "board", "settings", "graph"])
def test_what_was_built_for_something_else_is_built_anew_and_the_reason_told(
    open_engine: Callable[..., Any],
    cuda: FakeCuda,
    told: list[str],
    monkeypatch: pytest.MonkeyPatch,
    changed: str,
) -> None:
    run_encoder(open_engine())
    told.clear()
    engine, reason = open_engine(), ""
    if changed == "version":
        monkeypatch.setattr(double, "__version__", "10.16.1.11")
        reason = "tensorrt 10.3.0 instead of 10.16.1.11"
    if changed == "gpu":
        cuda.compute_capability = (8, 6)
        reason = "compute_capability [8, 7] instead of [8, 6]"
    if changed == "board":
        cuda.multiprocessors, reason = 16, "multiprocessors 8 instead of 16"
    if changed == "settings":
        engine, reason = open_engine(tf32=True), "settings {'workspace_mb': 1024"
    if changed == "graph":
        engine._graph = replace(engine._graph, sha256="ab")
        reason = " instead of ab"
    run_encoder(engine)
    assert len(double.behaviour.builds) == 2
    assert told[0].startswith("building an engine of encoder (the nearest was built for ")
    assert reason in told[0]


def test_a_plan_that_was_damaged_is_built_anew(
    open_engine: Callable[..., Any], cache: PlanCache, told: list[str]
) -> None:
    run_encoder(open_engine())
    plan = next(cache.folder.glob("*.plan"))
    whole = plan.read_bytes()
    plan.write_bytes(whole[:-1])
    told.clear()
    run_encoder(open_engine())
    assert f"{plan} is damaged" in told[0]
    assert plan.read_bytes() == whole


def test_a_plan_without_its_facts_is_built_anew(
    open_engine: Callable[..., Any], cache: PlanCache
) -> None:
    run_encoder(open_engine())
    next(cache.folder.glob("*.json")).unlink()
    run_encoder(open_engine())
    assert len(double.behaviour.builds) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_build_that_is_stopped_ends_and_leaves_no_plan(
    open_engine: Callable[..., Any], cache: PlanCache, error: type[BaseException]
) -> None:
    """The builder swallows what its callbacks raise, as one in C++ does."""
    engine, steps = open_engine(), []

    def stop(progress: Any) -> None:
        steps.append(progress)
        raise error

    engine._on_progress = stop
    with pytest.raises(error):
        run_encoder(engine)
    assert len(steps) == 1
    assert not cache.folder.exists()
    engine._on_progress = steps.append
    run_encoder(engine)
    assert len(steps) == 4


def test_a_write_that_is_stopped_leaves_no_plan_under_its_name(
    open_engine: Callable[..., Any], cache: PlanCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_file = os.replace

    def stop(path: str, target: str) -> None:
        if target.endswith(".plan"):
            raise KeyboardInterrupt
        replace_file(path, target)

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        run_encoder(open_engine())
    monkeypatch.undo()
    assert not list(cache.folder.glob("*.plan"))


def test_progress_is_told(engines: ModuleType, open_engine: Callable[..., Any]) -> None:
    steps: list[Any] = []
    engine = open_engine()
    engine._on_progress = steps.append
    run_encoder(engine)
    assert [(step.graph, step.phase, step.done, step.steps) for step in steps] == [
        ("encoder", "Building Engine", done, 3) for done in (1, 2, 3)
    ]


def one_line(error: pytest.ExceptionInfo[EngineError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_an_operator_that_is_not_known_is_named(open_engine: Callable[..., Any]) -> None:
    double.behaviour.refuses = "Conv"
    with pytest.raises(EngineError, match="cannot parse") as error:
        run_encoder(open_engine())
    assert "Conv node_" in one_line(error)
    assert "Plugin not found" in one_line(error)


def test_too_little_memory_for_a_build_is_told_with_its_mend(
    open_engine: Callable[..., Any], cache: PlanCache
) -> None:
    double.behaviour.out_of_memory = True
    with pytest.raises(EngineError, match="cannot build encoder") as error:
        run_encoder(open_engine())
    assert "Requested size was 4 GiB, out of memory" in one_line(error)
    assert "a lower --size" in one_line(error)
    assert not list(cache.folder.glob("*.plan"))


def test_too_little_memory_for_buffers_gives_back_what_was_taken(
    open_engine: Callable[..., Any], cuda: FakeCuda
) -> None:
    cuda.room = 64 * 96 * 3 * 4 + 1
    with pytest.raises(EngineError, match="out of memory"):
        run_encoder(open_engine())
    assert not cuda.held


def test_a_plan_that_cannot_be_loaded_is_built_anew(
    open_engine: Callable[..., Any], cache: PlanCache, told: list[str]
) -> None:
    run_encoder(open_engine())
    facts = json.loads(next(cache.folder.glob("*.json")).read_text())
    plan = cache.store("encoder", facts["facts"], b"not a plan", {})
    told.clear()
    run_encoder(open_engine())
    assert "cannot load the engine of encoder: magicTag does not match" in told[0]
    assert plan.read_bytes().startswith(double.MAGIC)


def test_a_run_that_fails_is_told(open_engine: Callable[..., Any]) -> None:
    engine = open_engine()
    double.behaviour.fails = True
    with pytest.raises(EngineError, match="failed in graph encoder") as error:
        run_encoder(engine)
    assert "an illegal memory access" in one_line(error)


def run_mix(
    engines: ModuleType,
    bundle: Bundle,
    cuda: FakeCuda,
    cache: PlanCache,
    *counts: int,
    told: list[str] | None = None,
) -> Any:
    """Run a graph whose objects have a range, for each of these numbers of objects."""
    graph = bundle.graphs["readout_mix"]
    tell = (told if told is not None else []).append
    spans = partial(find_spans, bundle.composition)
    engine = engines.TensorRTEngine(bundle, "readout_mix", spans, cuda, cache, tell=tell)
    for objects in counts:
        lengths = {"objects": objects, "h": 4, "w": 6}
        arrays = {
            tensor.name: np.ones([lengths.get(d, d) for d in tensor.shape], np.float32)
            for tensor in graph.spec.tensors
        }
        mixed = arrays.pop("mixed")
        engine.run(arrays, {"mixed": mixed})
        assert np.ptp(mixed, axis=0).max() < 1e-6
        assert not (mixed == 1).all()
    return engine


def test_a_length_beyond_the_range_makes_another_engine(
    engines: ModuleType, srnet_bundle: Bundle, cuda: FakeCuda, cache: PlanCache, told: list[str]
) -> None:
    run_mix(engines, srnet_bundle, cuda, cache, 1, OBJECTS, OBJECTS + 1, 3, told=told)
    sizes = [build["shapes"]["readout"] for build in double.behaviour.builds]
    ends = [[shape[0] for shape in size] for size in sizes]
    assert ends == [[1, 1, OBJECTS], [1, OBJECTS + 1, OBJECTS + 1]]
    assert "'objects': [1, 1, 8]" in told[2]


def test_every_graphs_own_errors_are_told_though_tensorrt_keeps_the_first_logger(
    open_engine: Callable[..., Any],
) -> None:
    run_encoder(open_engine())
    double.behaviour.fails = True
    with pytest.raises(EngineError, match="an illegal memory access"):
        run_encoder(open_engine(level=1))
    double.behaviour.out_of_memory = True
    with pytest.raises(EngineError, match="Requested size was 4 GiB") as error:
        run_encoder(open_engine(level=2))
    assert "illegal" not in one_line(error)


def test_an_array_of_another_shape_than_the_output_is_refused(
    open_engine: Callable[..., Any],
) -> None:
    inputs, _ = make_run()
    with pytest.raises(EngineError, match=r"gives key\(8, 12, 64\); received an array of \(7, 12"):
        open_engine().run(inputs, {"key": np.zeros((7, 12, 64), np.float32)})


def test_a_shape_that_tensorrt_refuses_is_told(
    open_engine: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine()
    run_encoder(engine)
    engine._loaded._wandering._engine.shapes["image"] = [(1, 3, 8, 8)] * 3
    with pytest.raises(EngineError, match=r"refuses image\(1, 3, 64, 96\) for encoder") as error:
        run_encoder(engine)
    assert "is outside the profile" in one_line(error)


def test_an_array_that_does_not_fit_the_spec_is_refused(open_engine: Callable[..., Any]) -> None:
    inputs, out = make_run()
    with pytest.raises(EngineError, match="expected image float32"):
        open_engine().run({"image": inputs["image"].astype(np.float16)}, out)


def test_an_engine_in_another_precision_than_its_graph_is_warned_of(
    open_engine: Callable[..., Any], told: list[str]
) -> None:
    engine = open_engine()
    engine._graph = replace(engine._graph, precision="fp16")
    run_encoder(engine)
    assert told[-1] == (
        "WARNING: graph encoder is in fp16, and no layer of its engine is: {'fp32': 2, 'other': 1}"
    )
    double.behaviour.precision = "Half"
    told.clear()
    other = open_engine(level=1)
    other._graph = replace(other._graph, precision="fp16")
    run_encoder(other)
    assert "WARNING" not in told[-1]
    assert other.layers == {"fp16": 2, "other": 1}


def test_a_folder_that_cannot_be_written_is_warned_of(
    open_engine: Callable[..., Any], cache: PlanCache, tiny_bundle: Bundle, told: list[str]
) -> None:
    cache.folder.write_text("a file")
    np.testing.assert_array_equal(run_encoder(open_engine()), expected_key(tiny_bundle))
    assert told[1].startswith(f"WARNING: {cache.folder} cannot be written")
    assert told[1].endswith("; it will be built again")
