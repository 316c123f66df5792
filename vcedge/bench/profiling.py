"""Where the time of a frame goes: every stage's milliseconds, beside what the machine could do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcedge.bench.ceilings import Ceilings
from vcedge.bench.power import PowerMeter, PowerReading
from vcedge.bench.work import Busy, GraphWork, meter_engines
from vcedge_runtime.errors import SourceError
from vcedge_runtime.session import SessionReport, track_frames
from vcedge_runtime.timing import STAGES as TRACKING
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.sinks import MaskFolder
from vcedge_runtime.video.sources import Frame

STAGES = ("decode", *TRACKING, "write")
"""Stages of a frame; those of the tracking lead from a decoded frame to its full-size mask."""
HEAVY_SHARE = 0.1
"""A stage that takes this share of a frame's tracking is heavy (our choice)."""
STAGES_OF_GRAPHS = {
    "encode": ("encoder", "query_encoder"),
    "values": ("value_extraction",),
    "prototypes": ("prototype_transformer",),
    "segment": ("mask_decoder",),
    "remember": ("value_encoder",),
}
"""Stages whose arithmetic is that of a graph; the readout's is counted by the tracker."""


@dataclass(frozen=True)
class Work:
    """What a stage must do for each frame, whatever the way it is done.

    Attributes:
        flops: arithmetic operations, a multiply-accumulate being two; 0 where they do not count.
        moved_bytes: its input read once and its output written once; 0 where they do not count.
    """

    flops: float = 0.0
    moved_bytes: float = 0.0

    def least_ms(self, ceilings: Ceilings) -> float:
        """Milliseconds that the work takes at the machine's ceilings."""
        product_ms = self.flops / ceilings.matmul_gflops / 1e6
        return max(product_ms, self.moved_bytes / ceilings.copy_gbs / 1e6)


@dataclass(frozen=True)
class StageProfile:
    """One stage over all measured frames.

    Attributes:
        name: one of ``STAGES``.
        times_ms: every frame's milliseconds, in order.
        work: what it must do for each frame; nothing where that is unknown.
        on_host: whether its arithmetic runs on the machine whose ceilings are measured.
    """

    name: str
    times_ms: tuple[float, ...]
    work: Work = Work()
    on_host: bool = True

    @property
    def total_ms(self) -> float:
        """Milliseconds over all frames."""
        return sum(self.times_ms)

    def percentile_ms(self, percent: float) -> float:
        """Milliseconds that this many percent of the frames do not exceed; 50 is the median."""
        return float(np.percentile(self.times_ms, percent))

    def share_of(self, ceilings: Ceilings) -> float | None:
        """Share of the machine's ceiling that the median frame reaches.

        None for unknown work, and for arithmetic on a GPU.
        """
        if self.work.flops and not self.on_host:
            return None
        least_ms = self.work.least_ms(ceilings)
        return least_ms / self.percentile_ms(50) if least_ms else None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        percentiles = {f"p{p}_ms": self.percentile_ms(p) for p in (50, 90, 99)}
        return {**percentiles, **asdict(self.work), "times_ms": list(self.times_ms)}


@dataclass(frozen=True)
class Profile:
    """One clip at one working size.

    Attributes:
        frame_hw: the frames' height and width.
        work_hw: in which they are encoded.
        grid_hw: the key grid's.
        objects: how many were followed.
        memory_bytes: what the tracker held.
        stages: in the order of ``STAGES``.
        graphs: what each graph that ran took for a frame, on average.
        busy_ms: milliseconds a frame, on average, that some graph ran; less than theirs together
            where several ran beside each other.
        power: what the machine drew meanwhile; None where it cannot tell.
    """

    frame_hw: tuple[int, int]
    work_hw: tuple[int, int]
    grid_hw: tuple[int, int]
    objects: int
    memory_bytes: int
    stages: tuple[StageProfile, ...]
    graphs: tuple[GraphWork, ...] = ()
    busy_ms: float = 0.0
    power: PowerReading | None = None

    @property
    def frames(self) -> int:
        """Frames that were measured."""
        return len(self.stages[0].times_ms)

    @property
    def tracking(self) -> StageProfile:
        """From decoded frame to full-size mask, all of it."""
        return self._sum("tracking", TRACKING)

    @property
    def end_to_end(self) -> StageProfile:
        """With decoding and writing, one after the other."""
        return self._sum("end to end", STAGES)

    @property
    def outside_graphs_ms(self) -> float:
        """Milliseconds a frame of the tracking, on average, that no graph ran."""
        return self.tracking.total_ms / self.frames - self.busy_ms

    @property
    def heavy_stages(self) -> list[str]:
        """Stages of the tracking that take much of it."""
        limit = HEAVY_SHARE * self.tracking.total_ms
        return [s.name for s in self.stages if s.name in TRACKING and s.total_ms >= limit]

    def frames_per_second(self, stage: StageProfile) -> float:
        """Frames a second if there were nothing but this stage: all frames over all their time."""
        return 1000 * self.frames / stage.total_ms

    def to_json(self, ceilings: Ceilings) -> dict[str, Any]:
        """Return plain JSON values, with each stage's share of the ceilings."""
        stages = {
            stage.name: {**stage.to_json(), "share_of_ceiling": stage.share_of(ceilings)}
            for stage in self.stages
        }
        plain = {
            name: value
            for name, value in vars(self).items()
            if name not in ("stages", "graphs", "power")
        }
        return {
            **plain,
            "frames": self.frames,
            "graphs": {graph.name: asdict(graph) for graph in self.graphs},
            "outside_graphs_ms": self.outside_graphs_ms,
            "power": None if self.power is None else self.power.to_json(),
            "tracking_fps": self.frames_per_second(self.tracking),
            "end_to_end_fps": self.frames_per_second(self.end_to_end),
            "heavy_stages": self.heavy_stages,
            "stages": stages,
        }

    def _sum(self, name: str, stages: Iterable[str]) -> StageProfile:
        rows = [stage.times_ms for stage in self.stages if stage.name in stages]
        return StageProfile(name, tuple(np.sum(rows, axis=0).tolist()))


def profile_tracker(
    tracker: Tracker,
    frames: Iterable[Frame],
    mask: NDArray[np.uint8],
    *,
    count: int = 60,
    warm_up: int = 5,
    out: Path,
    power: PowerMeter | None = None,
) -> Profile:
    """Track a clip and keep every frame's time of every stage.

    Nothing overlaps: a frame is decoded, tracked and written before the next.

    Args:
        tracker: an open tracker, whose engines are run; it is left as it is.
        frames: the clip; decoding is what it takes to give the next frame.
        mask: (H, W) uint8 object ids of the first frame.
        count: frames to measure; fewer where the clip ends before.
        warm_up: frames to track before them, the first one, whose mask is given, not counted.
        out: folder for the masks, palette PNG.
        power: samples what the machine draws; the caller closes it.

    Raises:
        SourceError: the clip ends within the warm-up.
        MaskError: the mask does not fit.
        OutputError: a mask cannot be written.
    """
    report, busy = SessionReport(), Busy()
    engines = meter_engines(tracker.bundle, tracker.engines, busy)
    # Another tracker of the same engines; whoever opened these closes them.
    metered = Tracker(tracker.bundle, engines, size=tracker.size, device=tracker.device)
    with MaskFolder(out) as sink:

        def begin(report: SessionReport) -> None:
            if report.frames == 1 + warm_up:
                for engine in engines.values():
                    engine.reset()
                busy.seconds = 0.0
                if power is not None:
                    power.begin()

        clip = islice(frames, 1 + warm_up + count)
        track_frames(metered, clip, mask, [sink], report, begin)
    measured = report.frames - 1 - warm_up
    if measured < 1:
        raise SourceError(
            f"received a clip of {report.frames} frames; expected more than {1 + warm_up}: the "
            f"first and {warm_up} to warm up; pass a longer clip or a shorter warm-up"
        )
    drawn = power.read(measured) if power is not None else None
    graphs = [engine.read(measured) for engine in engines.values()]
    timings = {name: list(report.timings_ms[name])[-measured:] for name in STAGES}
    ran = [graph for graph in graphs if graph.runs]
    return _describe(metered, timings, ran, 1000 * busy.seconds / measured, drawn)


def _describe(
    tracker: Tracker,
    timings_ms: dict[str, list[float]],
    graphs: Sequence[GraphWork],
    busy_ms: float,
    power: PowerReading | None,
) -> Profile:
    video, objects = tracker.video, len(tracker.object_ids)
    predictor = video.predictor
    frame_pixels, work_pixels = prod(video.frame_hw), prod(video.work_hw)
    label_bytes = 4 * prod(predictor.label_hw) * objects
    guide_bytes = 3 * frame_pixels if tracker.bundle.tracking.edges else 0
    macs = {graph.name: graph.macs or 0.0 for graph in graphs}
    work = {
        stage: Work(flops=2 * sum(macs.get(name, 0.0) for name in names))
        for stage, names in STAGES_OF_GRAPHS.items()
    }
    on_host = tracker.device is None
    work |= {
        "resize": Work(moved_bytes=3 * frame_pixels + 3 * 4 * work_pixels),
        "readout": Work(flops=2 * predictor.readout_macs / predictor.frame),
        "upsample": Work(moved_bytes=label_bytes + guide_bytes + frame_pixels),
    }
    return Profile(
        frame_hw=video.frame_hw,
        work_hw=video.work_hw,
        grid_hw=predictor.grid_hw,
        objects=objects,
        memory_bytes=tracker.memory_bytes,
        stages=tuple(
            StageProfile(name, tuple(timings_ms[name]), work.get(name, Work()), on_host)
            for name in STAGES
        ),
        graphs=tuple(graphs),
        busy_ms=busy_ms,
        power=power,
    )
