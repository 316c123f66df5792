"""``vcedge track``: from a video and the mask of its first frame to masks, overlay and log."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from vcedge.commands.errands import borrow_tracker, current_errand, tell_errand
from vcedge.commands.grouped import RESEARCH, GroupedCommand, typed_options
from vcedge.commands.options import (
    MODEL_OF_TASK,
    OVERRIDES,
    composed,
    opened,
    sized,
)
from vcedge.commands.sightings import Sightings, find_small_objects
from vcedge.commands.tables import open_console, warn_on
from vcedge.commands.track_exports import HEADING, OPTIONS, Exports, exported
from vcedge.commands.track_files import RunFiles, filed
from vcedge.commands.track_live import GROUP as LIVE_GROUP
from vcedge.commands.track_live import LiveRun, lived
from vcedge.commands.track_masks import GROUP, FirstMasks, first_masks
from vcedge.commands.track_run import Run, Warn
from vcedge_runtime.errors import MaskError, SourceError
from vcedge_runtime.model.bundle import DEFAULT_LABEL_MODEL, DEFAULT_MODEL, Bundle
from vcedge_runtime.predictors.opening import require_points
from vcedge_runtime.session import SessionReport
from vcedge_runtime.telling import hide_secrets
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.points import read_points
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
@click.option(
    "--depth-range",
    type=DepthRangeType(),
    help="Of images of 16 bits, the values that become black and white, or auto: those of the "
    "first image. By default values are divided by 256.",
)
@click.option("--frames", type=click.IntRange(min=1), help="Stop after this many frames.")
@lived
@exported
@filed
def command(
    source: str,
    first: FirstMasks,
    points: str | None,
    model: str | None,
    depth_range: tuple[int, int] | str | None,
    frames: int | None,
    live: LiveRun,
    exports: Exports,
    files: RunFiles,
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
    # What is wrong with the output's place, or with the input, is said before a graph loads.
    files.require()
    exports.require(files)
    with ExitStack() as stack:
        video = stack.enter_context(
            open_source(
                source, depth_range=depth_range, live=live.source, masks=first.files, tell=warn
            )
        )
        _warn_of_pictures(warn, video)
        named = read_points(points, frame_hw=video.frame_hw) if points else None
        beginning = first.begin(video, warn, frames)
        given: Mapping[int, Collection[int | str]]
        if named is not None:
            require_points(bundle)
            given = {0: tuple(named)}
        else:
            given = objects = beginning.objects
            if errand is None:  # The names of a batch are of all its videos.
                exports.tell_unknown(objects, warn)
        tracker = stack.enter_context(borrow_tracker(bundle, **chosen))
        report = SessionReport()
        sightings = Sightings("point" if points else "object", warn, given)
        tell_errand(report, sightings)
        if named is None:
            _warn_small(warn, tracker, beginning.earliest)
        run = Run(console, warn, video, tracker, frames, files, live, exports, report, sightings)
        run.follow(beginning, named)
        if video.ended_early and report.frames != frames:
            raise SourceError(f"{video.label}: {video.ended_early}; what was decoded is tracked")
        # Bench takes such a clip as it is.
        taken = not (video.live or first.changed) and report.frames > LEAST_MEASURED
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
