"""What ``vcedge track`` writes into its own folder: masks, overlay, log."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from vcedge.commands.track_live import LiveRun
from vcedge_runtime.session import PointSink
from vcedge_runtime.telling import hide_secrets
from vcedge_runtime.video.outputs import MASKS_NAME, OutputFolder, require_free
from vcedge_runtime.video.point_overlay import PointOverlay
from vcedge_runtime.video.points import POINTS_NAME, PointLog
from vcedge_runtime.video.sinks import OBJECTS_NAME, OVERLAY_NAME, ObjectLog, OverlayVideo, Sink
from vcedge_runtime.video.sources import Source

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class RunFiles:
    """What a run writes into its folder.

    Attributes:
        folder: its own.
        overwrite: what an earlier run wrote may be removed.
        masks: whether to write a PNG per frame.
        overlay: whether to write a video with the objects or points drawn in.
        log: whether to write a line per frame.
        inputs: files, folders and globs that the run reads.
        points: whether points are followed, which have no masks.
    """

    folder: Path
    overwrite: bool
    masks: bool
    overlay: bool
    log: bool
    inputs: tuple[str, ...]
    points: bool

    def require(self) -> None:
        """Refuse a folder that would lose something; change nothing.

        Raises:
            OutputError: see ``require_free``.
        """
        files = ((self.overlay, OVERLAY_NAME), (self.log, self._log_name))
        require_free(
            self.folder,
            overwrite=self.overwrite,
            inputs=self.inputs,
            names=[name for wanted, name in files if wanted],
            filled=[MASKS_NAME] if self.masks and not self.points else [],
        )

    def open_folder(self) -> OutputFolder:
        """Take the folder; it removes what an earlier run wrote."""
        return OutputFolder(self.folder, overwrite=self.overwrite, inputs=self.inputs)

    def open_sinks(
        self, stack: ExitStack, output: OutputFolder, video: Source, live: LiveRun
    ) -> list[Sink]:
        """Open the wanted sinks of masks; the stack finishes them, whatever happens."""
        wanted: list[tuple[bool, Callable[[], Sink]]] = [
            (self.masks, lambda: live.mask_sink(self.folder / MASKS_NAME, output)),
            (self.overlay, lambda: self._open_overlay(output, video)),
            (self.log, lambda: ObjectLog(self.folder / OBJECTS_NAME, output, live.rotation)),
        ]
        return [stack.enter_context(make()) for wish, make in wanted if wish] + live.open_lines()

    def open_point_sinks(
        self, stack: ExitStack, output: OutputFolder, video: Source
    ) -> list[PointSink]:
        """Open the wanted sinks of points; the stack finishes them, whatever happens."""
        sinks = list[PointSink]()
        if self.overlay:
            sinks.append(PointOverlay(stack.enter_context(self._open_overlay(output, video))))
        if self.log:
            sinks.append(stack.enter_context(PointLog(self.folder / POINTS_NAME, output)))
        return sinks

    @property
    def _log_name(self) -> str:
        return POINTS_NAME if self.points else OBJECTS_NAME

    def _open_overlay(self, output: OutputFolder, video: Source) -> OverlayVideo:
        return OverlayVideo(self.folder / OVERLAY_NAME, video.fps, output)


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


_OPTIONS = (
    click.option(
        "--out", type=click.Path(path_type=Path), help="Folder; vcedge-out/NAME by default."
    ),
    click.option("--overwrite", is_flag=True, help="Replace what an earlier run wrote to --out."),
    click.option("--masks/--no-masks", default=True, help="A palette PNG per frame."),
    click.option("--overlay/--no-overlay", default=True, help="An MP4 with the objects drawn in."),
    click.option("--log/--no-log", default=True, help="NDJSON: a line per frame, with COCO RLE."),
)


def filed(function: Command) -> Command:
    """Give a command the options of its own folder; it takes them as ``files``.

    It stands below what gives ``source``, ``first`` and ``points``, which name the folder and what
    must not lie in it, and below ``lived``, which has a say in what is written.
    """

    @wraps(function)
    def run(
        out: Path | None, overwrite: bool, masks: bool, overlay: bool, log: bool, **given: Any
    ) -> Any:
        source, points = given["source"], given["points"]
        inputs = tuple(name for name in (source, *given["first"].files, points) if name)
        folder = out or default_output(source)
        files = RunFiles(folder, overwrite, masks, overlay, log, inputs, points is not None)
        return function(**given, files=files)

    decorated: Any = run
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return cast(Command, decorated)
