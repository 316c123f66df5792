"""What ``vcedge bench`` found, as tables and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from vcedge.bench.ceilings import Ceilings
from vcedge.bench.profiling import Profile, StageProfile
from vcedge.commands.bench_tables import (
    describe_limits,
    describe_power,
    prediction_table,
    predictions_to_json,
)
from vcedge.commands.tables import make_fact_list, make_table, open_console
from vcedge.doctor.machine import MachineReport
from vcedge_runtime.model.bundle import Bundle

INCLUDED = (
    "tracking goes from the decoded frame to the full-size mask: resize (to the working size and "
    "to Lab), flow (to the frame before), upload (the frame to a GPU), encode (the frame's key), "
    "values (MER's value extraction), memory (which frames are read), sample (where a cell looks), "
    "align (windows to their objects, or SRNet's local memory to the frame), readout (labels or "
    "values from memory), prototypes, segment and remember (SRNet's transformer, its decoder, and "
    "its value encoder), download (keys or shares from a GPU; what is small is copied in its "
    "stage), upsample (to a mask in the frame's own pixels), each where the model has it. End to "
    "end adds decode and write (the mask as palette PNG), one after the other; `vcedge track` "
    "decodes ahead. Not included: opening the model, the first frame, the warm-up, "
    "overlay and log."
)
CEILING_NOTE = (
    "of ceiling: the stage's least time over its median. Graphs and readout: their mean "
    "multiply-accumulates at the speed of a float32 matrix product (numpy's or ONNX Runtime's, the "
    "faster); resize and upsample: input read once and output written once at the speed of a copy. "
    "* takes a tenth of tracking or more."
)


RUNS_NOTE = (
    "window: full looks at whole frames, follow at what surrounds the objects. J&F: of this clip "
    "alone, where its true masks are known, those of the warm-up included. Frames larger than the "
    "clip's are the clip enlarged."
)


@dataclass(frozen=True)
class Run:
    """One way to track the clip.

    Attributes:
        window: which of its kinds was looked through.
        size: working size.
        camera: short side of the frames where they were enlarged; 0 where they were not.
        profile: where the time went.
        j_and_f: of the masks, 0 to 1; None where nobody knows the true ones.
    """

    window: str
    size: int
    camera: int
    profile: Profile
    j_and_f: float | None

    def to_json(self, ceilings: Ceilings) -> dict[str, Any]:
        """Return plain JSON values."""
        own = {"window": self.window, "size": self.size, "camera": self.camera}
        predicted = predictions_to_json(self.profile)
        measured = self.profile.to_json(ceilings)
        return {**own, "j_and_f": self.j_and_f, **measured, "predicted": predicted}


@dataclass(frozen=True)
class Measurement:
    """Everything that a run of bench found.

    Attributes:
        bundle: the model.
        backend: what ran its graphs.
        clip: what it ran on, in words.
        warm_up: frames tracked before the measured ones.
        machine: what it ran on.
        ceilings: the machine's best.
        runs: one for each window, size and camera; by window, sizes rising.
        shown: that of the model's own window and size, whose stages are shown.
    """

    bundle: Bundle
    backend: str
    clip: str
    warm_up: int
    machine: MachineReport
    ceilings: Ceilings
    runs: tuple[Run, ...]
    shown: Run

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values: all figures, every frame's time of every stage among them."""
        bundle = self.bundle
        return {
            "included": INCLUDED,
            "model": {
                "name": bundle.name,
                "profile": bundle.profile,
                "default_size": bundle.composition.size,
                "composition": bundle.composition.to_json(),
                "sha256": {name: graph.sha256 for name, graph in bundle.graphs.items()},
                "precision": {name: graph.precision for name, graph in bundle.graphs.items()},
            },
            "backend": self.backend,
            "clip": self.clip,
            "warm_up": self.warm_up,
            "machine": self.machine.to_json(),
            "ceilings": asdict(self.ceilings),
            "runs": [run.to_json(self.ceilings) for run in self.runs],
        }


def print_measurement(found: Measurement, *, markdown: bool = False) -> None:
    """Print the facts and the tables."""
    console, shown = open_console(markdown=markdown), found.shown
    where = f"the default working size, {shown.size}"
    console.print(make_fact_list(_facts(found)))
    console.print(f"\nstages at {where}:")
    console.print(_stage_table(shown.profile, found.ceilings, markdown))
    console.print(CEILING_NOTE)
    console.print("\nwindows and working sizes (short side), by the whole tracking:")
    console.print(_run_table(found, markdown))
    console.print(RUNS_NOTE)
    console.print(f"\ngraphs at {where}:")
    console.print(prediction_table(shown.profile, markdown=markdown))
    console.print(describe_limits(shown.profile))


def _facts(found: Measurement) -> list[tuple[str, str]]:
    ceilings, profile = found.ceilings, found.shown.profile
    objects = f"{profile.objects} object{'s' if profile.objects > 1 else ''}"
    edges = found.bundle.tracking.edges
    return [
        ("model", f"{found.bundle.name} ({found.bundle.profile}), {found.bundle.folder}"),
        ("masks", "brought to the frame's edges" if edges else "interpolated, blind to the frame"),
        ("back-end", found.backend),
        ("machine", found.machine.line),
        (
            "ceilings",
            f"matrix product {ceilings.matmul_gflops:.0f} GFLOP/s, copy {ceilings.copy_gbs:.1f} "
            f"GB/s (read and written), {ceilings.threads} threads",
        ),
        (
            "clip",
            f"{found.clip}, {_size(profile.frame_hw)} (height x width), {objects}, "
            f"{profile.frames} frames measured after {found.warm_up} of warm-up",
        ),
        ("power", describe_power(profile.power)),
        ("included", INCLUDED),
    ]


def _stage_table(profile: Profile, ceilings: Ceilings, markdown: bool) -> Table:
    rows = []
    present = [stage for stage in profile.stages if stage.total_ms]
    for stage in (*present, profile.tracking, profile.end_to_end):
        heavy = " *" if stage.name in profile.heavy_stages else ""
        rows.append(
            (
                stage.name + heavy,
                *(f"{stage.percentile_ms(percent):.2f}" for percent in (50, 90, 99)),
                f"{profile.frames_per_second(stage):.1f}",
                _share(stage, ceilings),
                _work(stage),
            )
        )
    columns = ("stage", "median ms", "p90", "p99", "frames/s", "of ceiling", "work a frame")
    return make_table(columns, rows, markdown=markdown)


def _share(stage: StageProfile, ceilings: Ceilings) -> str:
    share = stage.share_of(ceilings)
    return "" if share is None else f"{share:.0%}"


def _work(stage: StageProfile) -> str:
    if stage.work.flops:
        return f"{stage.work.flops / 1e9:.1f} GFLOP"
    return f"{stage.work.moved_bytes / 1e6:.1f} MB" if stage.work.moved_bytes else ""


def _run_table(found: Measurement, markdown: bool) -> Table:
    default = found.bundle.composition.size
    rows = [
        (
            f"{run.size} (default)" if run.size == default else str(run.size),
            run.window,
            _size(run.profile.frame_hw),
            _size(run.profile.work_hw),
            _size(run.profile.grid_hw),
            "" if run.j_and_f is None else f"{run.j_and_f:.3f}",
            f"{run.profile.frames_per_second(run.profile.tracking):.1f}",
            f"{run.profile.tracking.percentile_ms(50):.1f}",
            f"{run.profile.tracking.percentile_ms(90):.1f}",
            f"{run.profile.frames_per_second(run.profile.end_to_end):.1f}",
            f"{run.profile.memory_bytes / 1e6:.1f}",
        )
        for run in found.runs
    ]
    clip = ("size", "window", "frame", "pixels", "key grid", "J&F")
    columns = (*clip, "frames/s", "median ms", "p90", "with I/O", "MB")
    return make_table(columns, rows, markdown=markdown)


def _size(size_hw: tuple[int, int]) -> str:
    return f"{size_hw[0]}x{size_hw[1]}"
