"""A frame's time, stage by stage: how it is summed up, and what it is held against."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vcedge.bench.ceilings import Ceilings
from vcedge.bench.power import PolledSource, PowerMeter
from vcedge.bench.profiling import STAGES, Profile, StageProfile, Work, profile_tracker
from vcedge.bench.work import GraphWork
from vcedge_runtime.errors import SourceError
from vcedge_runtime.model.bundle import DEFAULT_MODEL, Bundle
from vcedge_runtime.predictors.requirements import choose_graphs
from vcedge_runtime.timing import STAGES as TRACKING
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.sources import Frame

CEILINGS = Ceilings(threads=2, matmul_gflops=100.0, copy_gbs=10.0)
HEIGHT, WIDTH = 66, 98
MakeImage = Callable[..., NDArray[np.uint8]]


def make_profile(**times_ms: list[float]) -> Profile:
    stages = [StageProfile(name, tuple(times_ms.get(name, [1.0, 1.0]))) for name in STAGES]
    return Profile((48, 80), (48, 80), (6, 10), 1, 1000, tuple(stages))


def test_work_takes_the_longer_of_arithmetic_and_copying() -> None:
    assert Work(flops=1e9, moved_bytes=1e6).least_ms(CEILINGS) == pytest.approx(10)
    assert Work(flops=1e6, moved_bytes=1e9).least_ms(CEILINGS) == pytest.approx(100)


def test_a_share_of_the_ceiling_is_least_time_over_median_time() -> None:
    stage = StageProfile("encode", (30.0, 20.0, 500.0), Work(flops=1.5e9))
    assert stage.share_of(CEILINGS) == pytest.approx(15 / 30)


def test_a_stage_whose_work_is_unknown_has_no_share() -> None:
    assert StageProfile("decode", (1.0,)).share_of(CEILINGS) is None


def test_tracking_is_the_sum_of_its_stages_frame_by_frame() -> None:
    profile = make_profile(encode=[10.0, 30.0], decode=[100.0, 100.0], write=[5.0, 6.0])
    others = len(TRACKING) - 1
    assert profile.tracking.times_ms == (others + 10.0, others + 30.0)
    assert profile.end_to_end.times_ms == (others + 115.0, others + 136.0)


def test_frames_a_second_are_all_frames_over_all_their_time() -> None:
    profile = make_profile(encode=[5.0, 27.0])
    assert profile.frames_per_second(profile.tracking) == pytest.approx(
        1000 * 2 / (32 + 2 * (len(TRACKING) - 1))
    )


def test_a_stage_is_heavy_that_takes_a_tenth_of_tracking() -> None:
    profile = make_profile(encode=[60.0, 60.0], readout=[30.0, 30.0], write=[99.0, 99.0])
    assert profile.heavy_stages == ["encode", "readout"]


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=30))
def test_percentiles_lie_between_the_fastest_and_the_slowest_frame(times: list[float]) -> None:
    stage = StageProfile("encode", tuple(times))
    found = [stage.percentile_ms(percent) for percent in (0, 50, 90, 99, 100)]
    # Interpolation between two frames rounds in the last bits.
    assert found == sorted(found) or np.allclose(found, sorted(found), rtol=1e-12)
    assert found[0] == pytest.approx(min(times))
    assert found[-1] == pytest.approx(max(times))


@pytest.fixture
def clip(make_frame: MakeImage) -> list[Frame]:
    return [Frame(i, f"{i:05d}", make_frame(HEIGHT, WIDTH, 2 * i)) for i in range(8)]


@pytest.fixture
def tracker(tiny_bundle: Bundle) -> Iterator[Tracker]:
    pytest.importorskip("onnxruntime")
    with Tracker.open(tiny_bundle, threads=1) as opened:
        yield opened


def test_a_profile_holds_every_stage_of_the_frames_after_the_warm_up(
    tracker: Tracker, clip: list[Frame], make_mask: MakeImage, tmp_path: Path
) -> None:
    mask = make_mask(HEIGHT, WIDTH, 3, 9)
    found = profile_tracker(tracker, clip, mask, count=4, warm_up=2, out=tmp_path)
    assert [stage.name for stage in found.stages] == list(STAGES)
    assert {len(stage.times_ms) for stage in found.stages} == {4}
    assert (found.frames, found.objects) == (4, 2)
    tracker.start(clip[0].image, mask)
    assert found.memory_bytes == tracker.memory_bytes
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        f"{i:05d}.png" for i in range(7)
    ]


def test_a_tracker_that_is_profiled_stays_as_it_is(
    tracker: Tracker, clip: list[Frame], make_mask: MakeImage, tmp_path: Path
) -> None:
    tracker.start(clip[0].image, make_mask(HEIGHT, WIDTH, 5))
    engines = tracker.engines
    profile_tracker(tracker, clip, make_mask(HEIGHT, WIDTH, 3, 9), count=2, out=tmp_path)
    assert tracker.engines is engines
    assert tracker.object_ids == [5]
    assert tracker.video.predictor.frame == 0
    assert set(np.unique(tracker.step(clip[1].image).mask)) <= {0, 5}


def test_a_profile_knows_the_work_of_a_frame(
    tracker: Tracker, clip: list[Frame], make_mask: MakeImage, tmp_path: Path
) -> None:
    mask = make_mask(HEIGHT, WIDTH, 3, 9)
    found = profile_tracker(tracker, clip, mask, count=1, warm_up=0, out=tmp_path)
    work = {stage.name: stage.work for stage in found.stages}
    assert (found.frame_hw, found.work_hw, found.grid_hw) == ((66, 98), (64, 96), (8, 12))
    macs_per_pixel = tracker.bundle.graphs["encoder"].macs_per_pixel
    assert work["encode"].flops == 2 * 64 * 96 * macs_per_pixel
    # Two tiles of 8x6 queries see 16x14 cells of the first frame, 64 channels of a key, 4 labels.
    assert work["readout"].flops == 2 * (8 * 12) * (16 * 14) * (64 + 4)
    assert work["resize"].moved_bytes == 66 * 98 * 3 + 64 * 96 * 3 * 4
    assert work["upsample"].moved_bytes == 8 * 12 * 2 * 4 + 66 * 98 * (3 + 1)
    assert work["decode"] == work["write"] == Work()


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        ("mer-edge", {}),
        ("mer-edge", {"sampler": "clusters", "fusion": "vote"}),
        (DEFAULT_MODEL, {}),
    ],
)
def test_graphs_are_counted_over_the_frames_after_the_warm_up(
    model: str,
    parts: dict[str, str],
    clip: list[Frame],
    make_mask: MakeImage,
    tmp_path: Path,
) -> None:
    pytest.importorskip("onnxruntime")
    mask = make_mask(HEIGHT, WIDTH, 3, 9)
    with Tracker.open(model, size=96, threads=1, overrides=parts) as tracker:
        bundle = tracker.bundle
        found = profile_tracker(tracker, clip[:3], mask, count=2, warm_up=0, out=tmp_path)
        tracker.start(clip[0].image, mask)
        for frame in clip[1:3]:
            tracker.step(frame.image)
        counted = tracker.video.predictor.readout_macs
    graphs = {graph.name: graph for graph in found.graphs}
    # Where all cells have second windows, the plain readout is opened and does not run.
    idle = {"label_readout"} if "cluster_readout" in graphs else set()
    assert set(graphs) == choose_graphs(bundle.composition, bundle.graphs) - idle
    # Both count the readout: the tracker where it calls it, the meter from what it is called with.
    readers = {
        "label_readout",
        "joint_readout",
        "cluster_readout",
        "column_total",
        "memory_read",
    } & set(graphs)
    assert 2 * sum(graphs[name].macs or 0 for name in readers) == counted
    assert all(graph.values and graph.milliseconds for graph in found.graphs)
    assert {name for name, graph in graphs.items() if not graph.macs} <= {"soft_aggregation"}
    assert all(graph.macs is not None for graph in found.graphs)
    work = {stage.name: stage.work.flops for stage in found.stages}
    assert work["readout"] == counted
    if model == DEFAULT_MODEL:
        decoder, pixels = bundle.graphs["mask_decoder"], found.work_hw[0] * found.work_hw[1]
        cost = decoder.macs_per_pixel + 2 * decoder.macs_per_object
        assert work["segment"] == pytest.approx(2 * pixels * cost)
        assert graphs["memory_read"].runs == 2
    together = sum(graph.milliseconds for graph in found.graphs)
    assert 0 < found.busy_ms <= together * (1 + 1e-6)
    assert 0 < found.outside_graphs_ms < found.tracking.total_ms


def test_power_is_of_the_frames_after_the_warm_up(
    tracker: Tracker, clip: list[Frame], make_mask: MakeImage, tmp_path: Path
) -> None:
    mask = make_mask(HEIGHT, WIDTH, 1)
    with PowerMeter(PolledSource("a sensor", lambda: 7.0)) as power:
        began: list[bool] = []
        power.begin = lambda: began.append(True)  # type: ignore[method-assign]
        found = profile_tracker(
            tracker, clip, mask, count=4, warm_up=2, out=tmp_path, power=power
        ).power
    assert began == [True]
    assert found is not None
    assert (found.source, found.mean_watts, found.frames) == ("a sensor", 7.0, 4)


def test_what_no_graph_ran_is_the_rest_of_the_tracking() -> None:
    graphs = (GraphWork("encoder", 1.0, 1e9, 1e6, 20.0), GraphWork("other", 1.0, None, 1.0, 5.0))
    # Three of their milliseconds are of both.
    profile = replace(make_profile(encode=[40.0, 20.0]), graphs=graphs, busy_ms=22.0)
    assert profile.outside_graphs_ms == pytest.approx(30 + len(TRACKING) - 1 - 22)


def test_a_model_that_does_not_say_its_work_has_no_share(
    tracker: Tracker, clip: list[Frame], make_mask: MakeImage, tmp_path: Path
) -> None:
    graphs = dict(tracker.bundle.graphs)
    graphs["encoder"] = replace(graphs["encoder"], macs_per_pixel=0.0)
    tracker.bundle = replace(tracker.bundle, graphs=graphs)
    mask = make_mask(HEIGHT, WIDTH, 1)
    found = profile_tracker(tracker, clip, mask, count=1, warm_up=0, out=tmp_path)
    assert found.stages[STAGES.index("encode")].share_of(CEILINGS) is None


def test_a_clip_that_ends_early_gives_the_frames_there_are(
    tracker: Tracker, clip: list[Frame], make_mask: MakeImage, tmp_path: Path
) -> None:
    mask = make_mask(HEIGHT, WIDTH, 1)
    assert profile_tracker(tracker, clip, mask, count=60, warm_up=5, out=tmp_path).frames == 2


def test_a_clip_that_ends_within_the_warm_up_is_an_error(
    tracker: Tracker, clip: list[Frame], make_mask: MakeImage, tmp_path: Path
) -> None:
    mask = make_mask(HEIGHT, WIDTH, 1)
    with pytest.raises(SourceError, match="a clip of 6 frames; expected more than 6"):
        profile_tracker(tracker, clip[:6], mask, count=60, warm_up=5, out=tmp_path)


def test_a_profile_becomes_plain_json() -> None:
    value = json.loads(json.dumps(make_profile(encode=[10.0, 30.0]).to_json(CEILINGS)))
    assert set(value["stages"]) == set(STAGES)
    assert value["stages"]["encode"]["times_ms"] == [10.0, 30.0]
    assert value["stages"]["encode"]["p50_ms"] == 20.0
    assert (value["graphs"], value["power"]) == ({}, None)
    assert value["tracking_fps"] == pytest.approx(1000 * 2 / (2 * (len(TRACKING) - 1) + 40))


def test_arithmetic_on_a_gpu_has_no_share_of_the_hosts_ceilings() -> None:
    shares = [
        StageProfile("encode", (10.0,), Work(flops=1e8), on_host).share_of(CEILINGS)
        for on_host in (True, False)
    ]
    assert shares == [pytest.approx(0.1), None]
    assert StageProfile("resize", (10.0,), Work(moved_bytes=1e6), on_host=False).share_of(CEILINGS)
