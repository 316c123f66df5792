"""``vcedge studio``: a page on which objects are drawn, followed, corrected and exported."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from vcedge.commands.grouped import RESEARCH, GroupedCommand
from vcedge.commands.options import MODEL, composed, open_tracker, opened, sized
from vcedge.commands.options import OVERRIDES as SWITCHES
from vcedge.commands.tables import open_console, warn_on
from vcedge.studio.addresses import is_private, open_socket, show_host
from vcedge.studio.exports import Exports
from vcedge.studio.footage import Footage, RecordedFootage, open_footage
from vcedge.studio.prompting import open_segmenter
from vcedge.studio.session import Session
from vcedge_runtime.demo.clip import render_demo_clip
from vcedge_runtime.video.encoding import VideoEncoder
from vcedge_runtime.video.sources import open_source
from vcedge_runtime.video.view import LOOPBACK

DEMO_FPS = 24.0
GROUPS = {
    "What most people need": ("host", "port", "model", "fast", "accurate", "size", "backend"),
    "Engines": ("threads", "cuda_graphs"),
    RESEARCH: tuple(reversed(SWITCHES)),
}


@click.command(name="studio", cls=GroupedCommand, groups=GROUPS)
@click.argument("source", required=False)
@click.option(
    "--host",
    default=LOOPBACK,
    show_default=True,
    help="Address to serve on. Others than this machine's own reach it with 0.0.0.0, without "
    "encryption: in a network that you trust alone.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port to serve on; 8765 or a free one by default."
)
@MODEL
@sized
@composed
@opened
def command(source: str | None, host: str, port: int | None, **chosen: Any) -> None:
    """Draw, follow, correct and export the objects of SOURCE, on a page in the browser.

    SOURCE is a video file, a folder or glob of images, or a camera's number; the clip of
    vcedge demo where there is none. Ctrl-C ends it.
    """
    from vcedge.studio.gate import Keys
    from vcedge.studio.server import build_app
    from vcedge.studio.serving import serve

    console = open_console()
    with ExitStack() as stack:
        listening = stack.enter_context(open_socket(host, port))
        footage = _open_demo(stack) if source is None else open_footage(source)
        stack.callback(footage.close)
        segmenter = open_segmenter(chosen["threads"])
        stack.callback(segmenter.close)
        session = stack.enter_context(Session(footage, open_tracker(**chosen), segmenter))
        exports = stack.enter_context(Exports(session))
        keys = Keys()
        app = build_app(session, exports, keys, host)
        address = f"http://{show_host(host)}:{listening.getsockname()[1]}/?token={keys.token}"
        console.out(f"open {address}", highlight=False)
        if not is_private(host):
            warn_on(
                console,
                "Whoever has this address may draw, and see the video; it travels unencrypted.",
            )
        console.file.flush()
        serve(app, listening, session.events.close)


def _open_demo(stack: ExitStack) -> Footage:
    """The clip of ``vcedge demo``, as a file that goes with the studio."""
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="vcedge-studio-")))
    path = folder / "clip.mp4"
    clip = render_demo_clip()
    encoder = VideoEncoder(path, DEMO_FPS, clip.frame_hw)
    for image, _ in clip:
        encoder.write(np.ascontiguousarray(image))
    encoder.close()
    return RecordedFootage(open_source(path), lambda: open_source(path), "demo clip")
