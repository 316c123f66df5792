"""``vcedge track``: from a video and the mask of its first frame to masks, overlay and log."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from vcedge.commands.errands import borrow_tracker, current_errand, tell_errand
from vcedge.commands.grouped import RESEARCH, GroupedCommand, typed_options
from vcedge.commands.options import (
    MODEL_OF_TASK,
    OVERRIDES,
    composed,
    opened,
    sized,
)
from vcedge.commands.sightings import PointSightings, Sightings, find_small_objects
from vcedge.commands.tables import open_console, warn_on
from vcedge.commands.track_exports import HEADING, OPTIONS, Exports, exported
from vcedge.commands.track_live import GROUP as LIVE_GROUP
from vcedge.commands.track_live import LiveRun, describe_live, lived
from vcedge.commands.track_masks import GROUP, FirstMasks, first_masks, track_masks
from vcedge_runtime.errors import MaskError, SourceError
from vcedge_runtime.model.bundle import DEFAULT_LABEL_MODEL, DEFAULT_MODEL, Bundle
from vcedge_runtime.predictors.opening import require_points
from vcedge_runtime.session import PointSink, SessionReport, track_points
from vcedge_runtime.telling import hide_secrets
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.beside import WrittenBeside
from vcedge_runtime.video.masks import read_mask
from vcedge_runtime.video.outputs import MASKS_NAME, OutputFolder, require_free
from vcedge_runtime.video.pacing import pace
from vcedge_runtime.video.point_overlay import PointOverlay
from vcedge_runtime.video.points import POINTS_NAME, PointLog, read_points
from vcedge_runtime.video.prefetch import prefetch
from vcedge_runtime.video.sinks import (
    OBJECTS_NAME,
    OVERLAY_NAME,
    ObjectLog,
    OverlayVideo,
    Sink,
)
from vcedge_runtime.video.sources import Source, open_source

LEAST_MEASURED = 6
"""Frames beyond which ``bench`` can measure a clip: the first, and its warm-up."""
GROUPS = {
    "What most people need": (
        *(*GROUP, "points", "out", "model", "fast", "accurate", "size", "window", "backend"),
    ),
    "Input and output": (
        *("binarize", "resize_mask", "depth_range", "frames", "overwrite"),
        *("masks", "overlay", "log"),
    ),
    **LIVE_GROUP,
    HEADING: OPTIONS,
    "Engines": ("threads", "cuda_graphs"),
    RESEARCH: tuple(name for name in reversed(OVERRIDES) if name != "window"),
}
REPEATED = (*OVERRIDES, "threads", "backend", "cuda_graphs")
"""Options that ``bench`` has too, with the same meaning."""


Warn = Callable[[str], None]
NAMED = 3
"""Of the files that are left out, and of the objects that are small, those that are named."""


class DepthRangeType(click.ParamType):  # type: ignore[type-arg]
    """``auto``, or two values: 2800,3400."""

    name = "LOW,HIGH|auto"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int] | str:
        """Refuse what is neither."""
        if value == "auto":
            return value
        low, _, high = value.partition(",")
        if not (low.isdecimal() and high.isdecimal() and int(low) < int(high) < 2**16):
            self.fail(f"received {value!r}; expected auto, or two values such as 2800,3400")
        return int(low), int(high)


@click.command(name="track", cls=GroupedCommand, groups=GROUPS)
@click.argument("source")
@first_masks
@click.option("--points", help="Instead of --mask: CSV of the first frame's points, name,x,y.")
@MODEL_OF_TASK
@sized
@composed
@opened
@click.option("--out", type=click.Path(path_type=Path), help="Folder; vcedge-out/NAME by default.")
@click.option("--overwrite", is_flag=True, help="Replace what an earlier run wrote to --out.")
@click.option("--binarize", is_flag=True, help="Everything bright in the mask is object 1.")
@click.option("--resize-mask", is_flag=True, help="Bring a mask of another size to the frame's.")
@click.option(
    "--depth-range",
    type=DepthRangeType(),
    help="Of images of 16 bits, the values that become black and white, or auto: those of the "
    "first image. By default values are divided by 256.",
)
@click.option("--frames", type=click.IntRange(min=1), help="Stop after this many frames.")
@click.option("--masks/--no-masks", default=True, help="A palette PNG per frame.")
@click.option("--overlay/--no-overlay", default=True, help="An MP4 with the objects drawn in.")
@click.option("--log/--no-log", default=True, help="NDJSON: a line per frame, with COCO RLE.")
@lived
@exported
def command(
    source: str,
    first: FirstMasks,
    points: str | None,
    model: str | None,
    out: Path | None,
    overwrite: bool,
    binarize: bool,
    resize_mask: bool,
    depth_range: tuple[int, int] | str | None,
    frames: int | None,
    masks: bool,
    overlay: bool,
    log: bool,
    live: LiveRun,
    exports: Exports,
    **chosen: Any,
) -> None:
    """Follow the objects of a mask, or named points, through SOURCE.

    SOURCE is a video file, a folder or glob of images, a camera number, rtsp://..., gst:"pipeline"
    or - for standard input. Ctrl-C, SIGTERM or SIGHUP stops it; what was tracked so far is kept
    and finished. Exit code 3: a live source broke off and did not come back.
    """
    errand = current_errand()
    console = open_console(errors=live.ndjson, quiet=errand is not None)
    warn = partial(warn_on, console) if errand is None else errand.warnings.append
    if bool(first) == (points is not None):
        raise MaskError("pass either --mask or --points, for the first frame; or --box, or --click")
    if points and first.start is not None:
        raise MaskError(
            "received --from with --points, which are of frame 0; leave one of them out"
        )
    bundle = Bundle.open(model or (DEFAULT_LABEL_MODEL if points else DEFAULT_MODEL))
    _warn_unverified(warn, bundle)
    folder = out or default_output(source)
    inputs = [name for name in (source, *first.files, points) if name]
    require_free(folder, overwrite=overwrite, inputs=inputs)
    exports.require(folder, overwrite=overwrite, inputs=inputs, points=points is not None)
    with ExitStack() as opened_inputs:
        opened_source = open_source(
            source, depth_range=depth_range, live=live.source, masks=first.files, tell=warn
        )
        video = opened_inputs.enter_context(opened_source)
        _warn_of_pictures(warn, video)
        read_first = partial(read_mask, binarize=binarize, resize=resize_mask)
        named = read_points(points, frame_hw=video.frame_hw) if points else None
        beginning = first.begin(video, read_first, warn, frames)
        # What is wrong with the input, or with the output's place, is said before a graph loads.
        names = ((overlay, OVERLAY_NAME), (log, POINTS_NAME if points else OBJECTS_NAME))
        wanted = [name for wish, name in names if wish]
        filled = [MASKS_NAME] if masks and not points else []
        require_free(folder, overwrite=overwrite, inputs=inputs, names=wanted, filled=filled)
        if points:
            require_points(bundle)
        tracker = opened_inputs.enter_context(borrow_tracker(bundle, **chosen))
        report = SessionReport()
        given = {0: tuple(named)} if named is not None else beginning.objects
        sightings = Sightings("point" if points else "object", warn, given)
        tell_errand(report, sightings)
        try:
            with ExitStack() as stack:
                # A live source reads by itself, also where its first frame was taken for a box.
                ahead = beginning.frames if video.live else prefetch(beginning.frames)
                stream = islice(pace(ahead, live.most_fps), frames)
                views = live.open_views(stack, console, warn)
                # After all that is likely to fail: it removes what an earlier run wrote.
                output = opened_inputs.enter_context(
                    OutputFolder(folder, overwrite=overwrite, inputs=inputs)
                )
                watched = live.watched(console, video, report, video.length, frames)
                if named is not None:
                    drawers = open_point_sinks(stack, output, video, overlay=overlay, log=log)
                    drawers += [*map(PointOverlay, views), PointSightings(sightings)]
                    on_frame = stack.enter_context(watched)
                    track_points(tracker, stream, named, drawers, report, on_frame)
                else:
                    _warn_small(warn, tracker, beginning.earliest)
                    wanted_sinks = {"masks": masks, "overlay": overlay, "log": log}
                    sinks = open_sinks(stack, output, video, live, **wanted_sinks)
                    beside = stack.enter_context(WrittenBeside(sinks))
                    told = exports.open_sinks(stack, video, overwrite=overwrite, inputs=inputs)
                    told = [beside, *views, *told, sightings]
                    on_frame = exports.heard_by(stack.enter_context(watched))
                    track_masks(tracker, video, stream, beginning, told, report, on_frame)
        finally:
            if report.frames:
                _warn_of_damage(warn, video)
                summarise(console, video, tracker, report, sightings, output)
                for line in exports.describe():
                    console.out(line, highlight=False)
        if video.ended_early and report.frames != frames:
            raise SourceError(f"{video.label}: {video.ended_early}; what was decoded is tracked")
        # Bench takes such a clip as it is.
        taken = not (video.live or binarize or resize_mask) and report.frames > LEAST_MEASURED
        step = next_step(model or bundle.name, tracker, source, first.plain if taken else None)
        console.out("next:", shlex.join(step), highlight=False)


def next_step(model: str, tracker: Tracker, source: str, mask: str | None) -> list[str]:
    """The command that measures what was just run, with the options that were typed.

    Args:
        model: as the user named it.
        tracker: what ran.
        source: the clip.
        mask: of its first frame; None where ``bench`` cannot read the two.
    """
    clip = [] if mask is None else ["--source", hide_secrets(source), "--mask", mask]
    own = tracker.bundle.composition.size
    size = [] if tracker.size == own else ["--sizes", str(tracker.size)]
    return ["vcedge", "bench", model, *clip, *size, *typed_options(REPEATED)]


def default_output(source: str) -> Path:
    """Folder of a run that names none, after its source."""
    return Path("vcedge-out") / name_output(source)


def name_output(source: str) -> str:
    """Name of the folder that a source's results are in, where nobody gave another."""
    # As text: a path of each of many videos would stay in memory.
    last = hide_secrets(source).rstrip(os.sep).rpartition(os.sep)[2]
    stem = last.rpartition(".")[0] or last
    name = "".join(c if c.isalnum() or c in "._-" else "_" for c in stem)
    return name.strip("._") or "track"


def open_sinks(
    stack: ExitStack,
    output: OutputFolder,
    video: Source,
    live: LiveRun,
    *,
    masks: bool,
    overlay: bool,
    log: bool,
) -> list[Sink]:
    """Open the wanted sinks; the stack finishes them, whatever happens."""
    folder = output.path
    wanted: list[tuple[bool, Callable[[], Sink]]] = [
        (masks, lambda: live.mask_sink(folder / MASKS_NAME, output)),
        (overlay, lambda: OverlayVideo(folder / OVERLAY_NAME, video.fps, output)),
        (log, lambda: ObjectLog(folder / OBJECTS_NAME, output, live.rotation)),
    ]
    return [stack.enter_context(make()) for wish, make in wanted if wish] + live.open_lines()


def open_point_sinks(
    stack: ExitStack, output: OutputFolder, video: Source, *, overlay: bool, log: bool
) -> list[PointSink]:
    """Open the wanted sinks of points; the stack finishes them, whatever happens."""
    folder, sinks = output.path, list[PointSink]()
    if overlay:
        pictures = stack.enter_context(OverlayVideo(folder / OVERLAY_NAME, video.fps, output))
        sinks.append(PointOverlay(pictures))
    if log:
        sinks.append(stack.enter_context(PointLog(folder / POINTS_NAME, output)))
    return sinks


def summarise(
    console: Console,
    video: Source,
    tracker: Tracker,
    report: SessionReport,
    sightings: Sightings,
    output: OutputFolder,
) -> None:
    """Print what was tracked and what was written; no line is wrapped, so that it can be copied."""
    objects, points = len(tracker.object_ids), len(tracker.point_names)
    (height, width), kind = video.frame_hw, "point" if points else "object"
    followed = f"{points or objects} {kind}{'' if (points or objects) == 1 else 's'}"
    console.out(
        f"tracked {followed} through {report.frames} frames of "
        f"{width}x{height} in {report.seconds:.1f} s: {report.frames_per_second:.1f} frames/s, "
        f"memory {tracker.memory_bytes / 1e6:.1f} MB",
        highlight=False,
    )
    if report.held:
        console.out(
            f"{report.held} frames keep the mask of the one before: the model gave numbers that"
            " are not finite",
            highlight=False,
        )
    for line in (*describe_live(video, report), *sightings.describe()):
        console.out(line, highlight=False)
    for name in (MASKS_NAME, OVERLAY_NAME, OBJECTS_NAME, POINTS_NAME):
        files, size = output.written.get(name, (0, 0))
        if files:
            count = f"{files} PNG, " if name == MASKS_NAME else ""
            console.out(f"wrote {output.path / name} ({count}{size / 1e6:.2f} MB)", highlight=False)


def _warn_of_pictures(warn: Warn, video: Source) -> None:
    if video.left_out:
        named, more = ", ".join(video.left_out[:NAMED]), len(video.left_out) - NAMED
        rest = f" and {more} more" if more > 0 else ""
        warn(f"{video.label} holds files that are no frames: {named}{rest}")
    if video.narrow is not None:
        low, high = video.narrow
        warn(
            f"{video.label} is of 16 bits and uses the values {low} to {high} alone, few levels "
            "of 8: pass --depth-range auto to stretch them"
        )


def _warn_of_damage(warn: Warn, video: Source) -> None:
    if video.lost:
        warn(f"{video.lost} frames could not be decoded: they keep their numbers, and have no mask")
    for doubt in video.doubts:
        warn(f"{video.label}: {doubt}")


def _warn_unverified(warn: Warn, bundle: Bundle) -> None:
    if not bundle.verification.get("passes"):
        warn(f"{bundle.folder} is not verified: its graphs may not be the model; export it again")


def _warn_small(warn: Warn, tracker: Tracker, labels: NDArray[np.uint8]) -> None:
    small, cell = find_small_objects(labels, tracker.size, tracker.bundle.composition.stride)
    told = [f"object {object_id} covers {pixels} pixels" for object_id, pixels in small.items()]
    if told:
        more = f" and {len(told) - NAMED} more such objects" if len(told) > NAMED else ""
        warn(
            f"{', '.join(told[:NAMED])}{more}, and the model looks at cells of {cell:.0f} at "
            f"working size {tracker.size}: what is so small may be lost at once; choose a larger "
            "--size, or look whether all of it was drawn"
        )
