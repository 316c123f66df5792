"""Options of ``vcedge track`` that write for other tools: what opens and tells of their files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial, wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from vcedge.commands.track_files import RunFiles
from vcedge_runtime.errors import OutputError
from vcedge_runtime.session import SessionReport
from vcedge_runtime.video.categories import Categories
from vcedge_runtime.video.coco import CocoFile
from vcedge_runtime.video.cvat import CvatFile
from vcedge_runtime.video.label_studio import LabelStudioFolder
from vcedge_runtime.video.outputs import (
    MASKS_NAME,
    Output,
    OutputFile,
    OutputFolder,
    require_free,
    require_free_file,
)
from vcedge_runtime.video.picture_folder import IMAGES_NAME
from vcedge_runtime.video.polygons import DEFAULT_TOLERANCE
from vcedge_runtime.video.rerun import RerunLog, import_rerun, is_viewer
from vcedge_runtime.video.sinks import Sink
from vcedge_runtime.video.sources import Source
from vcedge_runtime.video.yolo import LABELS_NAME, YoloFolder

Command = TypeVar("Command", bound=Callable[..., Any])

HEADING = "Into other tools"
OPTIONS = ("coco", "yolo", "label_studio", "cvat", "rerun", "names", "polygons", "tolerance")
"""Parameters below the heading."""
BELOW = {"--yolo": (IMAGES_NAME, LABELS_NAME), "--label-studio": (IMAGES_NAME,)}
"""Folders in those that these options name."""


@dataclass
class Exports:
    """What is to be written for other tools, as it was asked for.

    Attributes:
        places: file or folder, by its option; ``--rerun`` may have a viewer's address.
        names: of the objects, by id.
        polygons: outlines instead of masks, where a format has both.
        tolerance: pixels that an outline may be off.
    """

    places: dict[str, str]
    names: dict[int, str]
    polygons: bool
    tolerance: float
    _opened: dict[str, Output] = field(default_factory=dict)
    _viewer: RerunLog | None = None

    def require(self, own: RunFiles) -> None:
        """Refuse what cannot be written, or would lose something; change nothing.

        Args:
            own: what the run writes besides.

        Raises:
            OutputError: a place would lose something, is taken twice, or a name is none.
            MissingExtraError: Rerun is not installed.
        """
        out, overwrite = own.folder, own.overwrite
        if own.points and self.places:
            raise OutputError(
                f"received {next(iter(self.places))} with --points; expected --mask, since points "
                "have no outlines; leave it out"
            )
        Categories(self.names)
        taken = {out.resolve(): "--out", (out / MASKS_NAME).resolve(): "the masks of --out"}
        for option, place in self._files():
            if str(place) == "-":
                raise OutputError(
                    f"received - for {option}, which is no log; expected the name of a file or "
                    "folder"
                )
            other = taken.setdefault(place.resolve(), option)
            if other != option:
                raise OutputError(
                    f"received {place} for {other} and for {option}; expected a place for each"
                )
            if option in BELOW:
                below = BELOW[option]
                require_free(
                    place,
                    overwrite=overwrite,
                    inputs=own.inputs,
                    filled=below,
                    below=below,
                    option=option,
                )
            else:
                require_free_file(place, overwrite=overwrite, option=option)
        if "--rerun" in self.places:
            import_rerun()

    def tell_unknown(
        self, objects: Mapping[int, Sequence[int]], tell: Callable[[str], None]
    ) -> None:
        """Tell of names that no object bears.

        Args:
            objects: ids of those that are followed, by the frame of their mask.
            tell: told.
        """
        known = sorted({object_id for ids in objects.values() for object_id in ids})
        for object_id in sorted(set(self.names) - set(known)):
            tell(
                f"received --name {object_id}={self.names[object_id]}, and no mask shows object "
                f"{object_id}; the objects are {', '.join(map(str, known))}"
            )

    def open_sinks(self, stack: ExitStack, video: Source, own: RunFiles) -> list[Sink]:
        """Take the places and open the sinks; the stack finishes both, whatever happens.

        Args:
            stack: closes them.
            video: what is tracked.
            own: what the run writes besides.
        """
        overwrite, inputs = own.overwrite, own.inputs
        for option, place in self._files():
            output = (
                OutputFolder(
                    place, overwrite=overwrite, inputs=inputs, below=BELOW[option], option=option
                )
                if option in BELOW
                else OutputFile(place, overwrite=overwrite, option=option)
            )
            self._opened[option] = stack.enter_context(output)
        return [stack.enter_context(self._make(option, video)) for option in self.places]

    def heard_by(
        self, on_frame: Callable[[SessionReport], None]
    ) -> Callable[[SessionReport], None]:
        """Have Rerun told of the times of each frame too."""
        viewer = self._viewer
        if viewer is None:
            return on_frame

        def tell(report: SessionReport) -> None:
            viewer.time({stage: times[-1] for stage, times in report.timings_ms.items()})
            on_frame(report)

        return tell

    def describe(self) -> Iterator[str]:
        """A line for each place that something was written to."""
        for output in self._opened.values():
            files = sum(count for count, _ in output.written.values())
            size = sum(size for _, size in output.written.values())
            if files:
                count = f"{files} files, " if files > 1 else ""
                yield f"wrote {output.path} ({count}{size / 1e6:.2f} MB)"

    def _files(self) -> Iterator[tuple[str, Path]]:
        """Options and their places, but for a viewer."""
        for option, place in self.places.items():
            if not (option == "--rerun" and is_viewer(place)):
                yield option, Path(place)

    def _make(self, option: str, video: Source) -> Sink:
        place, names, output = self.places[option], self.names, self._opened.get(option)
        tolerance = self.tolerance if self.polygons else None
        if option == "--rerun":
            self._viewer = RerunLog(place, video.fps, names, live=video.live, output=output)
            return self._viewer
        make: Mapping[str, Callable[[], Sink]] = {
            "--coco": partial(CocoFile, place, names, tolerance=tolerance, output=output),
            "--cvat": partial(CvatFile, place, names, tolerance=tolerance, output=output),
            "--label-studio": partial(
                LabelStudioFolder, place, names, tolerance=tolerance, output=output
            ),
            "--yolo": partial(YoloFolder, place, names, tolerance=self.tolerance, output=output),
        }
        return make[option]()


class NameType(click.ParamType):  # type: ignore[type-arg]
    """An object's name: 3=car."""

    name = "ID=NAME"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, str]:
        """Refuse what is no id with a name."""
        if isinstance(value, tuple):
            return value[0], value[1]
        object_id, _, name = value.partition("=")
        if not (object_id.strip().isdecimal() and name.strip()):
            self.fail(f"received {value!r}; expected an object's id and its name, such as 3=car")
        return int(object_id), name.strip()


_OPTIONS = (
    click.option("--coco", metavar="FILE", help="COCO instances: masks as RLE, boxes, track_id."),
    click.option("--yolo", metavar="DIR", help="A data set of YOLO: pictures and outlines."),
    click.option(
        "--label-studio", metavar="DIR", help="Tasks of Label Studio with masks, and pictures."
    ),
    click.option("--cvat", metavar="FILE", help="CVAT for images 1.1: masks for a task of CVAT."),
    click.option(
        "--rerun",
        metavar="FILE|connect",
        help="A recording for Rerun's viewer, or what a viewer that runs is sent; its address may "
        "stand for connect.",
    ),
    click.option(
        "--name",
        "names",
        type=NameType(),
        multiple=True,
        help="What an object is called there, such as 3=car; several may have one name. The others "
        "are `object`.",
    ),
    click.option(
        "--polygons",
        is_flag=True,
        help="Outlines instead of masks in --coco, --label-studio and --cvat.",
    ),
    click.option(
        "--tolerance",
        type=click.FloatRange(0, 100),
        default=DEFAULT_TOLERANCE,
        show_default=True,
        metavar="PIXELS",
        help="How far an outline may be off; 0 keeps the corners of every pixel.",
    ),
)


def exported(function: Command) -> Command:
    """Give a command the options that write for other tools; it takes them as ``exports``."""

    @wraps(function)
    def run(
        coco: str | None,
        yolo: str | None,
        label_studio: str | None,
        cvat: str | None,
        rerun: str | None,
        names: tuple[tuple[int, str], ...],
        polygons: bool,
        tolerance: float,
        **given: Any,
    ) -> Any:
        places = {
            "--coco": coco,
            "--yolo": yolo,
            "--label-studio": label_studio,
            "--cvat": cvat,
            "--rerun": rerun,
        }
        wanted = {option: place for option, place in places.items() if place}
        return function(**given, exports=Exports(wanted, dict(names), polygons, tolerance))

    decorated: Any = run
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return cast(Command, decorated)
