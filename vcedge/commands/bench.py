"""``vcedge bench``: the speed of every stage, beside what the machine could do at most."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import cv2

from vcedge.bench.ceilings import measure_ceilings
from vcedge.bench.power import open_power_meter
from vcedge.bench.profiling import profile_tracker
from vcedge.commands.bench_clip import Clip, open_clip
from vcedge.commands.bench_report import Measurement, Run, print_measurement
from vcedge.commands.grouped import RESEARCH, GroupedCommand
from vcedge.commands.options import OVERRIDES, composed, opened
from vcedge.doctor.machine import describe_machine
from vcedge.evaluation.davis import score_sequence
from vcedge_runtime.errors import OutputError, TrackerError
from vcedge_runtime.files import write_json
from vcedge_runtime.frames.resizing import LARGEST_SIZE
from vcedge_runtime.model.bundle import DEFAULT_MODEL, Bundle
from vcedge_runtime.model.composition import KINDS, kind_of
from vcedge_runtime.model.object_composition import ObjectComposition
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.palette import read_label_png
from vcedge_runtime.video.pictures import list_masks

SIZES = (192, 256, 320, 384, 480)
CAMERAS = (1080, 2160)
LEAST_SCORED = 3
"""Frames of a clip that has a score: the first and the last one do not count."""


def parse_sizes(
    context: click.Context | None, parameter: click.Parameter | None, text: str
) -> tuple[int, ...]:
    """Read numbers of pixels, separated by commas.

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
    "What most people need": (
        *("source", "mask", "truth", "sizes", "cameras", "window", "backend"),
        *("report", "markdown"),
    ),
    "Measuring": ("frames", "warm_up", "threads", "cuda_graphs"),
    RESEARCH: tuple(name for name in reversed(OVERRIDES) if name != "window"),
}


@click.command(name="bench", cls=GroupedCommand, groups=GROUPS)
@click.argument("model", default=DEFAULT_MODEL)
@click.option("--source", help="A clip; the rendered demo clip by default.")
@click.option("--mask", help="With --source: the mask of its first frame.")
@click.option(
    "--truth",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="With --source: folder of a mask for each frame, for J&F.",
)
@click.option(
    "--sizes",
    default=",".join(map(str, SIZES)),
    show_default=True,
    callback=parse_sizes,
    help="Working sizes beside the model's default.",
)
@click.option(
    "--cameras",
    default=",".join(map(str, CAMERAS)),
    show_default=True,
    callback=parse_sizes,
    help="Short sides to which the clip is enlarged, at the model's default size; '' for none.",
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
    truth: Path | None,
    sizes: tuple[int, ...],
    cameras: tuple[int, ...],
    frames: int,
    warm_up: int,
    report: Path | None,
    markdown: bool,
    threads: int,
    overrides: Mapping[str, Any],
    **backend: Any,
) -> None:
    """Measure the speed of MODEL (a shipped name or a bundle's folder), stage by stage.

    Whole frames and a window that follows the objects stand beside each other where the model can
    look through both; --window takes one.
    """
    bundle = Bundle.open(model)
    bundle = replace(bundle, composition=bundle.tracking.exchange(**overrides))
    _require_possible(bundle, sizes, report)
    own = kind_of("window", bundle.tracking.window)
    looked = isinstance(bundle.composition, ObjectComposition) and "window" not in overrides
    windows = tuple(KINDS["window"]) if looked else (own,)
    default, machine = bundle.composition.size, describe_machine()
    cases = [(size, 0) for size in sorted({*sizes, default})]
    cases += [(default, camera) for camera in cameras]
    with TemporaryDirectory() as folder, _limited_opencv(threads):
        scratch = Path(folder)
        clip = open_clip(source, mask, truth, scratch, 1 + warm_up + frames)
        with clip.video, open_power_meter() or nullcontext() as power:
            click.echo("measuring the machine's ceilings", err=True)
            ceilings = measure_ceilings(threads or machine.cores)
            profiled = partial(profile_tracker, count=frames, warm_up=warm_up, power=power)
            engines = partial(Tracker.open, bundle, threads=threads, **backend)
            runs = []
            for (size, camera), window in product(cases, windows):
                click.echo(_describe_case(size, camera, window), err=True)
                chosen = {} if window == own else {"window": window}
                with engines(size=size, overrides=chosen) as tracker:
                    runs.append(_run(profiled, tracker, clip, window, camera, scratch))
    shown = next(r for r in runs if (r.size, r.camera, r.window) == (default, 0, own))
    found = Measurement(
        tracker.bundle, tracker.backend, clip.label, warm_up, machine, ceilings, tuple(runs), shown
    )
    print_measurement(found, markdown=markdown)
    if report is not None:
        write_json(report, found.to_json())
        click.echo(f"wrote {report}", err=True)


def _describe_case(size: int, camera: int, window: str) -> str:
    frames = f", frames enlarged to {camera}" if camera else ""
    return f"tracking at working size {size}, window {window}{frames}"


def _run(
    profile: partial[Any], tracker: Tracker, clip: Clip, window: str, camera: int, scratch: Path
) -> Run:
    """Profile one way to track the clip, and score its masks where the true ones are known."""
    with TemporaryDirectory(dir=scratch) as folder:
        out = Path(folder)
        frames, mask = clip.frames(camera), clip.first_mask(camera)
        found = profile(tracker, frames, mask, out=out)
        masks, score = list_masks(out), None
        known = min(len(masks), len(clip.truth))
        if known >= LEAST_SCORED and not camera:
            pairs = (map(read_label_png, files[:known]) for files in (clip.truth, masks))
            score = score_sequence(*pairs, name=clip.label).j_and_f
    return Run(window, tracker.size, camera, found, score)


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
