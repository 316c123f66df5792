"""A run of ``vcedge track`` whose input is open: what it does, and what it says at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice

from rich.console import Console

from vcedge.commands.sightings import PointSightings, Sightings
from vcedge.commands.track_exports import Exports
from vcedge.commands.track_files import RunFiles
from vcedge.commands.track_live import LiveRun, describe_live
from vcedge.commands.track_masks import Beginning, track_masks
from vcedge_runtime.session import SessionReport, track_points
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.beside import WrittenBeside
from vcedge_runtime.video.outputs import MASKS_NAME, OutputFolder
from vcedge_runtime.video.pacing import pace
from vcedge_runtime.video.point_overlay import PointOverlay
from vcedge_runtime.video.points import POINTS_NAME
from vcedge_runtime.video.prefetch import prefetch
from vcedge_runtime.video.sinks import OBJECTS_NAME, OVERLAY_NAME
from vcedge_runtime.video.sources import Source

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """What is open when a video is followed.

    Attributes:
        console: where the run is told of.
        warn: told what is doubtful.
        video: what is tracked.
        tracker: what follows.
        frames: that are tracked, at most; None for all.
        files: of its own folder.
        live: of live sources.
        exports: for other tools.
        report: filled on the way.
        sightings: likewise.
    """

    console: Console
    warn: Warn
    video: Source
    tracker: Tracker
    frames: int | None
    files: RunFiles
    live: LiveRun
    exports: Exports
    report: SessionReport
    sightings: Sightings

    def follow(self, beginning: Beginning, named: Mapping[str, tuple[float, float]] | None) -> None:
        """Follow points where some are named, else objects; say what was done, however it ended.

        Raises:
            VcedgeError: as ``track_points`` and ``track_masks`` have it, or an output cannot be
                opened.
        """
        with ExitStack() as kept:
            try:
                with ExitStack() as stack:
                    views = self.live.open_views(stack, self.console, self.warn)
                    # After all that is likely to fail: it removes what an earlier run wrote.
                    output = kept.enter_context(self.files.open_folder())
                    # A live source reads by itself, also where its first frame was taken for a box.
                    ahead = beginning.frames if self.video.live else prefetch(beginning.frames)
                    stream = islice(pace(ahead, self.live.most_fps), self.frames)
                    lengths = (self.video.length, self.frames)
                    watched = self.live.watched(self.console, self.video, self.report, *lengths)
                    if named is not None:
                        drawers = self.files.open_point_sinks(stack, output, self.video)
                        drawers += [*map(PointOverlay, views), PointSightings(self.sightings)]
                        hear = stack.enter_context(watched)
                        track_points(self.tracker, stream, named, drawers, self.report, hear)
                    else:
                        sinks = self.files.open_sinks(stack, output, self.video, self.live)
                        beside = stack.enter_context(WrittenBeside(sinks))
                        told = self.exports.open_sinks(stack, self.video, self.files)
                        told = [beside, *views, *told, self.sightings]
                        hear = self.exports.heard_by(stack.enter_context(watched))
                        read = (self.video, stream, beginning)
                        track_masks(self.tracker, *read, told, self.report, hear)
            finally:
                if self.report.frames:
                    self._summarise(output)

    def _summarise(self, output: OutputFolder) -> None:
        """Print what was tracked and written; no line is wrapped, so that it can be copied."""
        if self.video.lost:
            self.warn(
                f"{self.video.lost} frames could not be decoded: they keep their numbers, and have "
                "no mask"
            )
        for doubt in self.video.doubts:
            self.warn(f"{self.video.label}: {doubt}")
        written = (*_describe_written(output), *self.exports.describe())
        for line in (*self._describe_tracked(), *written):
            self.console.out(line, highlight=False)

    def _describe_tracked(self) -> Iterator[str]:
        tracker, report = self.tracker, self.report
        objects, points = len(tracker.object_ids), len(tracker.point_names)
        (height, width), kind = self.video.frame_hw, "point" if points else "object"
        followed = f"{points or objects} {kind}{'' if (points or objects) == 1 else 's'}"
        yield (
            f"tracked {followed} through {report.frames} frames of "
            f"{width}x{height} in {report.seconds:.1f} s: {report.frames_per_second:.1f} frames/s, "
            f"memory {tracker.memory_bytes / 1e6:.1f} MB"
        )
        if report.held:
            yield (
                f"{report.held} frames keep the mask of the one before: the model gave numbers that"
                " are not finite"
            )
        yield from describe_live(self.video, report)
        yield from self.sightings.describe()


def _describe_written(output: OutputFolder) -> Iterator[str]:
    for name in (MASKS_NAME, OVERLAY_NAME, OBJECTS_NAME, POINTS_NAME):
        files, size = output.written.get(name, (0, 0))
        if files:
            count = f"{files} PNG, " if name == MASKS_NAME else ""
            yield f"wrote {output.path / name} ({count}{size / 1e6:.2f} MB)"
