"""``vcedge bench``: the speed of every stage, beside what the machine could do at most."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from vcedge.bench.ceilings import Ceilings, measure_ceilings
from vcedge.bench.power import open_power_meter
from vcedge.bench.profiling import Profile, StageProfile, profile_tracker
from vcedge.commands.bench_tables import (
    describe_limits,
    describe_power,
    prediction_table,
    predictions_to_json,
)
from vcedge.commands.grouped import RESEARCH, GroupedCommand
from vcedge.commands.options import OVERRIDES, composed, opened
from vcedge.commands.tables import make_fact_list, make_table, open_console
from vcedge.doctor.machine import MachineReport, describe_machine
from vcedge_runtime.demo.clip import DemoClip, render_demo_clip
from vcedge_runtime.errors import MaskError, OutputError, TrackerError
from vcedge_runtime.files import write_whole
from vcedge_runtime.frames.resizing import LARGEST_SIZE
from vcedge_runtime.model.bundle import DEFAULT_MODEL, Bundle
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.masks import read_mask
from vcedge_runtime.video.sinks import OverlayVideo
from vcedge_runtime.video.sources import Frame, Source, open_source

SIZES = (192, 256, 320, 384, 480)
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
        profiles: by working size, rising.
    """

    bundle: Bundle
    backend: str
    clip: str
    warm_up: int
    machine: MachineReport
    ceilings: Ceilings
    profiles: dict[int, Profile]

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
            "sizes": {
                str(size): {
                    **profile.to_json(self.ceilings),
                    "predicted": predictions_to_json(profile),
                }
                for size, profile in self.profiles.items()
            },
        }


def parse_sizes(
    context: click.Context | None, parameter: click.Parameter | None, text: str
) -> tuple[int, ...]:
    """Read working sizes, separated by commas.

    Raises:
        click.BadParameter: one of them is no positive number.
    """
    try:
        sizes = sorted({int(part) for part in text.split(",") if part.strip()})
    except ValueError:
        sizes = [0]
    if sizes and sizes[0] < 1:
        raise click.BadParameter(f"received {text!r}; expected numbers such as 192,256,320")
    return tuple(sizes)


GROUPS = {
    "What most people need": ("source", "mask", "sizes", "backend", "report", "markdown"),
    "Measuring": ("frames", "warm_up", "threads", "cuda_graphs"),
    RESEARCH: tuple(reversed(OVERRIDES)),
}


@click.command(name="bench", cls=GroupedCommand, groups=GROUPS)
@click.argument("model", default=DEFAULT_MODEL)
@click.option("--source", help="A clip; the rendered demo clip by default.")
@click.option("--mask", help="With --source: the mask of its first frame.")
@click.option(
    "--sizes",
    default=",".join(map(str, SIZES)),
    show_default=True,
    callback=parse_sizes,
    help="Working sizes beside the model's default.",
)
@click.option("--frames", type=click.IntRange(1, 5000), default=60, show_default=True)
@click.option("--warm-up", type=click.IntRange(0, 1000), default=5, show_default=True)
@composed
@opened
@click.option("--json", "report", type=click.Path(path_type=Path), help="Write every figure here.")
@click.option("--markdown", is_flag=True, help="Print Markdown tables.")
def command(
    model: str,
    source: str | None,
    mask: str | None,
    sizes: tuple[int, ...],
    frames: int,
    warm_up: int,
    report: Path | None,
    markdown: bool,
    threads: int,
    overrides: Mapping[str, Any],
    **backend: Any,
) -> None:
    """Measure the speed of MODEL (a shipped name or a bundle's folder), stage by stage."""
    bundle = Bundle.open(model)
    bundle = replace(bundle, composition=bundle.composition.exchange(**overrides))
    _require_possible(bundle, sizes, report)
    wanted, machine = sorted({*sizes, bundle.composition.size}), describe_machine()
    with TemporaryDirectory() as folder, _limited_opencv(threads):
        scratch = Path(folder)
        clip = _open_clip(source, mask, scratch, 1 + warm_up + frames)
        with clip.video as video:
            click.echo("measuring the machine's ceilings", err=True)
            ceilings = measure_ceilings(threads or machine.cores)
            tracked = partial(
                profile_tracker,
                frames=video,
                mask=clip.mask,
                count=frames,
                warm_up=warm_up,
                out=scratch,
            )
            engines = partial(Tracker.open, bundle, threads=threads, **backend)
            ran, profiles = _profile_sizes(engines, wanted, tracked)
    found = Measurement(ran.bundle, ran.backend, clip.label, warm_up, machine, ceilings, profiles)
    _print(found, markdown)
    if report is not None:
        write_whole(report, (json.dumps(found.to_json(), indent=1) + "\n").encode())
        click.echo(f"wrote {report}", err=True)


@dataclass(frozen=True)
class _Clip:
    label: str
    video: Source
    mask: NDArray[np.uint8]


def _require_possible(bundle: Bundle, sizes: Iterable[int], report: Path | None) -> None:
    """Refuse before minutes of measuring what would fail after them."""
    least = 2 * bundle.composition.stride
    wrong = [size for size in sizes if not least <= size <= LARGEST_SIZE]
    if wrong:
        raise TrackerError(
            f"received a working size of {wrong[0]}; expected {least} to {LARGEST_SIZE}"
        )
    if report is not None and not report.parent.is_dir():
        raise OutputError(f"received --json {report}, whose folder does not exist; make it first")


def _open_clip(source: str | None, mask: str | None, scratch: Path, frames: int) -> _Clip:
    if (source is None) != (mask is None):
        raise MaskError("received one of --source and --mask; expected both or neither")
    if source is None or mask is None:
        return _open_demo_clip(render_demo_clip(frames=frames), scratch)
    video = open_source(source)
    try:
        first = read_mask(mask, frame_hw=video.frame_hw)
    except MaskError:
        video.close()
        raise
    return _Clip(video.label, video, first)


def _open_demo_clip(clip: DemoClip, scratch: Path) -> _Clip:
    """Write the demo clip as a video, so that decoding it is part of the measurement."""
    first: NDArray[np.uint8] | None = None
    path = scratch / "demo.mp4"
    with OverlayVideo(path) as writer:
        for index, (image, labels) in enumerate(clip):
            first = labels if first is None else first
            # An overlay without an object is the frame itself.
            writer.write(Frame(index, "", image), np.zeros_like(labels), {})
    if first is None:
        raise TrackerError("the demo clip has no frame; expected at least one")
    return _Clip("the demo clip", open_source(path), first)


def _profile_sizes(
    open_tracker: Callable[..., Tracker], sizes: Iterable[int], profile: Callable[..., Profile]
) -> tuple[Tracker, dict[int, Profile]]:
    """Profile a tracker of each working size, with the power it draws where that can be told.

    Returns:
        The last tracker, closed, which knows what ran; and the profiles by size.
    """
    profiles = {}
    with open_power_meter() or nullcontext() as power:
        for size in sizes:
            click.echo(f"tracking at working size {size}", err=True)
            with open_tracker(size=size) as tracker:
                profiles[size] = profile(tracker, power=power)
    return tracker, profiles


@contextmanager
def _limited_opencv(threads: int) -> Iterator[None]:
    """Give OpenCV as many threads as the engines; 0 leaves it all of them."""
    before = cv2.getNumThreads()
    if threads:
        cv2.setNumThreads(threads)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _print(found: Measurement, markdown: bool) -> None:
    console = open_console(markdown=markdown)
    default = found.bundle.composition.size
    console.print(make_fact_list(_facts(found)))
    console.print(f"\nstages at the default working size, {default}:")
    console.print(_stage_table(found, markdown))
    console.print(CEILING_NOTE)
    console.print("\nworking sizes (short side), by the whole tracking:")
    console.print(_size_table(found.profiles, default, markdown))
    console.print(f"\ngraphs at the default working size, {default}:")
    console.print(prediction_table(found.profiles[default], markdown=markdown))
    console.print(describe_limits(found.profiles[default]))


def _facts(found: Measurement) -> list[tuple[str, str]]:
    ceilings, profile = found.ceilings, next(iter(found.profiles.values()))
    objects = f"{profile.objects} object{'s' if profile.objects > 1 else ''}"
    edges = found.bundle.composition.edges
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
        ("power", describe_power(found.profiles[found.bundle.composition.size].power)),
        ("included", INCLUDED),
    ]


def _stage_table(found: Measurement, markdown: bool) -> Table:
    profile, rows = found.profiles[found.bundle.composition.size], []
    present = [stage for stage in profile.stages if stage.total_ms]
    for stage in (*present, profile.tracking, profile.end_to_end):
        heavy = " *" if stage.name in profile.heavy_stages else ""
        rows.append(
            (
                stage.name + heavy,
                *(f"{stage.percentile_ms(percent):.2f}" for percent in (50, 90, 99)),
                f"{profile.frames_per_second(stage):.1f}",
                _share(stage, found.ceilings),
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


def _size_table(profiles: dict[int, Profile], default: int, markdown: bool) -> Table:
    rows = [
        (
            f"{size} (default)" if size == default else str(size),
            _size(profile.work_hw),
            _size(profile.grid_hw),
            f"{profile.frames_per_second(profile.tracking):.1f}",
            f"{profile.tracking.percentile_ms(50):.1f}",
            f"{profile.tracking.percentile_ms(90):.1f}",
            f"{profile.frames_per_second(profile.end_to_end):.1f}",
            f"{profile.memory_bytes / 1e6:.1f}",
        )
        for size, profile in profiles.items()
    ]
    columns = ("size", "pixels", "key grid", "frames/s", "median ms", "p90", "with I/O", "MB")
    return make_table(columns, rows, markdown=markdown)


def _size(size_hw: tuple[int, int]) -> str:
    return f"{size_hw[0]}x{size_hw[1]}"
