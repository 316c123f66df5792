"""Where frames come from: a video file, a folder or glob of images, a camera, a stream."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2

from vcedge_runtime.errors import SourceError
from vcedge_runtime.telling import hide_secrets
from vcedge_runtime.video.frame import Frame, Source
from vcedge_runtime.video.live import LiveOptions, LiveSource
from vcedge_runtime.video.pictures import (
    IMAGE_SUFFIXES,
    DepthRange,
    ImageSource,
    PageSource,
    count_pages,
    match_files,
    open_pictures,
)
from vcedge_runtime.video.raw import STANDARD_INPUT as STANDARD_INPUT_HANDLE
from vcedge_runtime.video.raw import RawSource
from vcedge_runtime.video.videos import CameraSource, VideoSource

__all__ = ["STANDARD_INPUT", "VIDEO_SUFFIXES", "Frame", "LiveOptions", "Source", "open_source"]

STANDARD_INPUT = "-"
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"})
"""Of files that are taken for videos where a folder is searched; whatever is named is tried."""
_EXPECTED = (
    "expected a video file, a folder or glob of images, a camera number, "
    'rtsp://..., gst:"pipeline" or - for standard input'
)
_DEVICE = re.compile(r"/dev/video(\d+)")
_STREAM = re.compile(r"(rtsps?|rtmps?|rtp|udp|tcp|srt|https?)://", re.IGNORECASE)


def open_source(
    spec: str | Path | int,
    *,
    depth_range: DepthRange | str | None = None,
    live: LiveOptions | None = None,
    masks: Collection[str | Path] = (),
    tell: Callable[[str], None] = lambda text: None,
) -> Source:
    """Open whatever a user may name.

    Args:
        spec: a video file, a picture of several pages, a folder of images (sorted as people count:
            2 before 10), a glob of images, a camera number (digits count as one; a folder of that
            name is ``./0``) or its device, a stream (``rtsp://...``), ``gst:"pipeline"`` for an
            OpenCV that has GStreamer, or ``-`` for standard input.
        depth_range: of images of 16 bits, the values that become black and white; ``auto`` takes
            them from the first image (all but 0.1 % at either end); None divides by 256.
        live: how what gives its frames when they come is read: cameras, pipelines, streams (an
            HTTP address that announces a length is a file elsewhere), and standard input. By
            default, the newest frame is handed on, and nothing is opened again; a file that was
            led into standard input can wait, and all its frames come.
        masks: files that are no frames, though they may lie among them.
        tell: told when such a source stops and is opened again, by another thread.

    Returns:
        The source, its first frame already read; to be closed by the caller.

    Raises:
        SourceError: it does not exist, cannot be read, or holds no frame; or ``depth_range`` is
            neither ``auto`` nor two values that rise from 0 to 65535.
    """
    _require_range(depth_range)
    options = live or LiveOptions()
    if isinstance(spec, str) and not spec.strip():
        raise SourceError(f"received no source; {_EXPECTED}")
    if spec == STANDARD_INPUT:
        if _waits(STANDARD_INPUT_HANDLE):
            options = replace(options, drop=False)
        return LiveSource(_open_standard_input(options), None, options, tell)
    reopen = find_live(spec)
    if reopen is None:
        return _open_path(Path(str(spec)), depth_range, masks)
    source = reopen()
    return LiveSource(source, reopen, options, tell) if source.live else source


def find_live(spec: str | Path | int) -> Callable[[], Source] | None:
    """What opens a camera, a pipeline or an address; None where it is a path."""
    if isinstance(spec, int) or (isinstance(spec, str) and spec.isdecimal()):
        return partial(CameraSource, int(spec), f"camera {int(spec)}")
    text = str(spec)
    if text.startswith("gst:"):
        return partial(_open_pipeline, text[len("gst:") :].strip("\"' "))
    if isinstance(spec, str) and _STREAM.match(text):
        live = None if text.lower().startswith("http") else True
        return partial(VideoSource, text, hide_secrets(text), live=live)
    # A device has a name that lasts, /dev/v4l/by-id/..., which leads to one with a number.
    device = _DEVICE.fullmatch(os.path.realpath(text)) if text.startswith("/dev/") else None
    return partial(CameraSource, int(device[1]), text) if device else None


def _waits(handle: int) -> bool:
    """Whether an open file is a regular one, which loses nothing while nobody reads it."""
    try:
        return stat.S_ISREG(os.fstat(handle).st_mode)
    except OSError:
        return False


def _open_standard_input(options: LiveOptions) -> Source:
    if options.raw is not None:
        return RawSource(options.raw)
    return VideoSource("pipe:0", "standard input", live=True)


def _require_range(depth_range: DepthRange | str | None) -> None:
    match depth_range:
        case None | "auto":
            return
        case tuple((int(low), int(high))) if 0 <= low < high < 2**16:
            return
    raise SourceError(
        f"received a depth range of {depth_range!r}; expected 'auto', or two values such as "
        "(2800, 3400)"
    )


def _open_pipeline(pipeline: str) -> Source:
    label = f"pipeline {hide_secrets(pipeline)!r}"
    if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        raise SourceError(
            f"received the {label}; expected an OpenCV built with GStreamer, which "
            "this is not; install one (on Jetson the system's own), or name a file or rtsp:// URL"
        )
    return CameraSource(pipeline, label, cv2.CAP_GSTREAMER)


def _open_path(
    path: Path, depth_range: DepthRange | str | None, masks: Collection[str | Path]
) -> Source:
    if path.is_dir():
        return open_pictures(path.iterdir(), path, "a folder without images", depth_range, masks)
    if path.exists():
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            return VideoSource(path, str(path))
        if count_pages(path) > 1:
            return PageSource(path, depth_range)
        return ImageSource([path], str(path), depth_range)
    if re.search(r"[*?\[]", str(path)):
        otherwise = "a glob that matches no image"
        return open_pictures(match_files(path), path, otherwise, depth_range, masks)
    raise SourceError(f"received {hide_secrets(str(path))}, which does not exist; {_EXPECTED}")
