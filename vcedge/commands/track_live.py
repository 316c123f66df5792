"""What ``vcedge track`` does with live sources, and where else its results go."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import click
import numpy as np
from rich.console import Console

from vcedge.commands.health import Health
from vcedge.commands.progress import session_bar, spoken
from vcedge_runtime.session import SessionReport
from vcedge_runtime.video.frame import Source
from vcedge_runtime.video.live import LiveOptions
from vcedge_runtime.video.object_lines import ObjectLines
from vcedge_runtime.video.outputs import OutputFolder
from vcedge_runtime.video.push import StreamPush
from vcedge_runtime.video.raw import PIXEL_FORMATS, RawFormat
from vcedge_runtime.video.rotating import Rotation
from vcedge_runtime.video.sinks import ChangedMasks, MaskFolder, Sink
from vcedge_runtime.video.view import LOOPBACK, HttpView

Command = TypeVar("Command", bound=Callable[..., Any])
OnFrame = Callable[[SessionReport], None]

FOREVER = "forever"
EVERY, CHANGED, NONE = "every", "changed", "none"
HEALTH_S = 60.0
"""Between lines of health where ``--headless`` asks for them (our choice)."""
MEGABYTE = 1_000_000
GROUP = {
    "Live sources, and out of them": (
        *("reconnect", "drop", "most_fps", "raw_size", "raw_format", "raw_fps"),
        *("serve", "push", "ndjson", "log_size", "log_files", "save_masks", "headless", "health"),
    )
}


class AttemptsType(click.ParamType):  # type: ignore[type-arg]
    """A number of attempts, or ``forever``, which becomes None."""

    name = f"N|{FOREVER}"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """Refuse what is neither."""
        text = str(value)
        if text == FOREVER:
            return FOREVER
        if not (text.isascii() and text.isdecimal() and len(text) < 10):
            self.fail(f"received {text!r}; expected a number of attempts, or {FOREVER}")
        return int(text)


class SizeType(click.ParamType):  # type: ignore[type-arg]
    """Width and height, as ``1280x720``, which become height and width."""

    name = "WxH"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Refuse what is none."""
        found = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", str(value))
        if found is None:
            self.fail(f"received {value!r}; expected width and height, such as 1280x720")
        return int(found[2]), int(found[1])


class AddressType(click.ParamType):  # type: ignore[type-arg]
    """Where a server listens: ``8080``, ``0.0.0.0:8080`` or ``[::]:8080``."""

    name = "[HOST:]PORT"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """Refuse what is none."""
        host, _, port = str(value).rpartition(":")
        if not (port.isascii() and port.isdecimal() and int(port[:6]) < 2**16):
            self.fail(f"received {value!r}; expected a port, such as 8080, or 0.0.0.0:8080")
        return host.removeprefix("[").removesuffix("]") or LOOPBACK, int(port)


@dataclass
class LiveRun:
    """What was asked for of a live source and of results beside the output folder.

    Attributes:
        source: how a live source is read.
        most_fps: frames that are tracked in a second, at most; None for all.
        serve: host and port of the view; None for none.
        push: where pictures are sent; None for nowhere.
        ndjson: whether standard output belongs to the log.
        rotation: of the log; None for one file.
        save_masks: which masks become files.
        headless: nobody watches: no overlay and no bar.
        health_s: seconds between lines of health; 0 for none.
        health: how the run is; None before it begins.
    """

    source: LiveOptions
    most_fps: float | None = None
    serve: tuple[str, int] | None = None
    push: str | None = None
    ndjson: bool = False
    rotation: Rotation | None = None
    save_masks: str = EVERY
    headless: bool = False
    health_s: float = 0.0
    health: Health | None = field(default=None, init=False)

    def mask_sink(self, folder: Path, output: OutputFolder) -> Sink:
        """Open the sink of masks that become files."""
        masks = MaskFolder(folder, output)
        return ChangedMasks(masks) if self.save_masks == CHANGED else masks

    def open_lines(self) -> list[Sink]:
        """Open what writes the log to standard output, where that was asked for."""
        return [ObjectLines(sys.stdout)] if self.ndjson else []

    def open_views(
        self, stack: ExitStack, console: Console, warn: Callable[[str], None]
    ) -> list[Sink]:
        """Open what shows pictures elsewhere; the stack closes it, and ``warn`` hears of stops."""
        views: list[Sink] = []
        if self.serve is not None:
            host, port = self.serve
            view = stack.enter_context(HttpView(host, port, self._tell_health))
            views.append(view)
            open_to = "" if host in (LOOPBACK, "localhost", "::1") else ", for whoever reaches it"
            console.out(f"the newest picture is at {view.address}{open_to}", highlight=False)
        if self.push is not None:
            views.append(stack.enter_context(StreamPush(self.push, warn)))
        return views

    @contextmanager
    def watched(
        self, console: Console, video: Source, report: SessionReport, *lengths: int | None
    ) -> Iterator[OnFrame]:
        """Show how far the run is, and how it is, as was asked for; yields what is told of frames.

        Args:
            console: where.
            video: the source.
            report: of the session.
            lengths: frames of the session, where they are known.
        """
        health = self.health = Health(video, report)
        with ExitStack() as stack:
            advance: OnFrame = lambda report: None  # noqa: E731
            if not self.headless:
                advance = stack.enter_context(session_bar(console, *lengths))
            if self.health_s:
                stack.enter_context(spoken(console, health.describe, self.health_s))

            def on_frame(report: SessionReport) -> None:
                health.note()
                advance(report)

            yield on_frame

    def _tell_health(self) -> dict[str, Any]:
        return {"state": "starting"} if self.health is None else {**self.health.facts()}


def describe_live(video: Source, report: SessionReport) -> list[str]:
    """Lines of the summary: how old frames were when their masks were ready, and what was lost."""
    if not video.live:
        return []
    lines = []
    if report.ages_ms:
        median, high = np.percentile(report.ages_ms, (50, 95))
        of_last = f" (the last {len(report.ages_ms)})" if len(report.ages_ms) > 1 else ""
        lines.append(
            f"a frame was {median:.0f} ms old when its mask was ready, {high:.0f} at p95{of_last}"
        )
    times = "once" if video.reopened == 1 else f"{video.reopened} times"
    again = f", opened again {times}" if video.reopened else ""
    lines.append(f"{video.dropped} older frames dropped{again}")
    return lines


_OPTIONS = (
    click.option(
        "--reconnect",
        type=AttemptsType(),
        default=0,
        show_default=True,
        help="Open a live source that stops again, so many attempts in a row, after pauses of 1, "
        "2, 4 ... 30 s.",
    ),
    click.option(
        "--drop/--no-drop",
        default=True,
        help="Of a live source, track the newest frame and drop those before it, or track each.",
    ),
    click.option(
        "--max-fps",
        "most_fps",
        type=click.FloatRange(min=0.01, max=1000),
        help="Track no more frames a second.",
    ),
    click.option("--raw-size", type=SizeType(), help="Of raw frames in standard input, SOURCE -."),
    click.option(
        "--raw-format",
        type=click.Choice([*PIXEL_FORMATS]),
        default="bgr24",
        show_default=True,
        help="Their pixels, by FFmpeg's name.",
    ),
    click.option(
        "--raw-fps",
        type=click.FloatRange(min=0, min_open=True, max=1000),
        help="Their frames a second.",
    ),
    click.option(
        "--serve",
        type=AddressType(),
        help="Show the newest picture over HTTP, on 127.0.0.1 unless a host is named.",
    ),
    click.option(
        "--push",
        metavar="URL",
        help="Send pictures to rtsp://..., rtmp, srt, udp or tcp, by the program ffmpeg.",
    ),
    click.option(
        "--ndjson",
        type=click.Choice(["-"]),
        help="The log to standard output as well, a line a frame at once; all else is told on "
        "standard error.",
    ),
    click.option(
        "--log-size",
        metavar="MB",
        type=click.FloatRange(min=0.1, max=1e6),
        help="Begin another log once one has so many megabytes; full ones are numbered.",
    ),
    click.option(
        "--log-files",
        type=click.IntRange(min=0, max=99_999),
        default=5,
        show_default=True,
        help="Full logs that are kept, of --log-size.",
    ),
    click.option(
        "--save-masks",
        type=click.Choice([EVERY, CHANGED, NONE]),
        help="Which masks become PNGs: all, those that differ from the one before, or none.",
    ),
    click.option(
        "--headless",
        is_flag=True,
        help=f"Nobody watches: no overlay and no bar, a line of health every {HEALTH_S:g} s.",
    ),
    click.option(
        "--health",
        metavar="S",
        type=click.FloatRange(min=0, max=86_400),
        help="A line of health every so many seconds; 0 for none.",
    ),
)


def lived(function: Command) -> Command:
    """Give a command the options of live sources; it takes them as ``live``, a ``LiveRun``.

    What they say of masks and overlay is in ``masks`` and ``overlay`` already.
    """

    @wraps(function)
    def run(**given: Any) -> Any:
        own = {name: given.pop(name) for name in GROUP["Live sources, and out of them"]}
        live = _read(given, **own)
        given["masks"] = given["masks"] and live.save_masks != NONE
        given["overlay"] = given["overlay"] and not live.headless
        return function(**given, live=live)

    found: Any = run
    for option in reversed(_OPTIONS):
        found = option(found)
    return cast(Command, found)


def _read(
    given: dict[str, Any],
    *,
    reconnect: int | str,
    drop: bool,
    raw_size: tuple[int, int] | None,
    raw_format: str,
    raw_fps: float | None,
    ndjson: str | None,
    log_size: float | None,
    log_files: int,
    save_masks: str | None,
    headless: bool,
    health: float | None,
    **views: Any,
) -> LiveRun:
    """Read what was typed, and refuse what does not go together."""
    if raw_size is not None and given["source"] != "-":
        raise click.UsageError("--raw-size is of raw frames in standard input; pass - as SOURCE")
    if given["points"] and (ndjson or log_size):
        raise click.UsageError("--ndjson and --log-size are of the log of --mask")
    if save_masks not in (None, NONE) and not given["masks"]:
        raise click.UsageError("pass one of --no-masks and --save-masks")
    raw = None if raw_size is None else RawFormat(raw_size, raw_format, raw_fps)
    attempts = None if reconnect == FOREVER else int(reconnect)
    return LiveRun(
        LiveOptions(attempts, drop, raw),
        ndjson=ndjson is not None,
        rotation=None if log_size is None else Rotation(round(log_size * MEGABYTE), log_files),
        save_masks=save_masks or EVERY,
        headless=headless,
        health_s=(HEALTH_S if headless else 0.0) if health is None else health,
        **views,
    )
