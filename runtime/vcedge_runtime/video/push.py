"""Pictures sent on as a stream, by an FFmpeg beside this program: RTSP, RTMP, SRT, UDP, TCP."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from shutil import which
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from threading import Event, Thread
from types import MappingProxyType
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import MissingExtraError, OutputError
from vcedge_runtime.telling import hide_secrets, make_printable
from vcedge_runtime.video.frame import Frame
from vcedge_runtime.video.live import growing_pauses
from vcedge_runtime.video.newest import Newest
from vcedge_runtime.video.result_picture import draw_result
from vcedge_runtime.video.sinks import NO_STATES, Labels, Scores, Sink, States

PROGRAM = "ffmpeg"
_MPEG_TS = ("-f", "mpegts")
FORMATS = MappingProxyType(
    {
        "rtsp": ("-f", "rtsp", "-rtsp_transport", "tcp"),
        "rtsps": ("-f", "rtsp", "-rtsp_transport", "tcp"),
        "rtmp": ("-f", "flv"),
        "rtmps": ("-f", "flv"),
        **dict.fromkeys(("udp", "tcp", "srt"), _MPEG_TS),
    }
)
"""Options of what is sent, by the address's scheme."""
ENCODING = (
    *("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p"),
    # Whoever comes later waits for a key frame; pictures come when they come.
    *("-force_key_frames", "expr:gte(t,n_forced*2)", "-vsync", "vfr"),
    *("-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2"),
)
ENDING_S = 3.0
"""What FFmpeg may take to end its stream in order (our choice)."""


class StreamPush(Sink):
    """Sends the newest picture to a server, with the objects and the source's time drawn in.

    A thread of its own draws and sends: pictures that the network is too slow for are dropped, and
    a server that goes is tried again after growing pauses. Neither holds up who writes.

    Args:
        address: of the server, a scheme of ``FORMATS``.
        tell: told why it stopped and when it is tried again, by another thread.

    Raises:
        OutputError: it is no such address.
        MissingExtraError: there is no FFmpeg.
    """

    def __init__(self, address: str, tell: Callable[[str], None] = lambda text: None) -> None:
        self._program = _find_program(address)
        self._address, self._tell = address, tell
        self._results: Newest[tuple[Frame, Labels, Scores]] = Newest()
        self._closing = Event()
        self._process: Popen[bytes] | None = None
        self._thread = Thread(target=self._run, name="vcedge-push", daemon=True)
        self._thread.start()

    def write(
        self, frame: Frame, labels: Labels, scores: Scores, states: States = NO_STATES
    ) -> None:
        """Send a frame, unless a newer one comes first."""
        self._results.put(frame.index, (frame, labels, scores))

    def close(self) -> None:
        """End the stream; closing twice does no harm."""
        self._closing.set()
        self._results.finish()
        self._thread.join(ENDING_S)
        if self._thread.is_alive() and self._process is not None:
            self._process.kill()  # it waits for a network that takes nothing
        self._thread.join(ENDING_S)

    def _run(self) -> None:
        number, pauses = -1, growing_pauses()
        while (newer := self._results.take_after(number)) is not None:
            first = draw_result(*newer[1])
            reason, sent = self._send(newer[0], first)
            if sent > newer[0]:
                pauses = growing_pauses()
            number = max(sent, newer[0])
            if self._closing.is_set():
                return
            pause_s = next(pauses)
            label = hide_secrets(self._address)
            self._tell(f"{label} takes no stream ({reason}); it is tried again in {pause_s:g} s")
            self._closing.wait(pause_s)

    def _send(self, number: int, picture: NDArray[np.uint8]) -> tuple[str, int]:
        """Send pictures until FFmpeg ends; give its last words, and the last picture's number."""
        words: deque[bytes] = deque(maxlen=1)
        with Popen(
            self._command(picture), stdin=PIPE, stdout=DEVNULL, stderr=PIPE, start_new_session=True
        ) as process:
            self._process = process
            listener = Thread(target=words.extend, args=(process.stderr,), daemon=True)
            listener.start()
            with suppress(OSError):
                stdin = cast("IO[bytes]", process.stdin)
                stdin.write(picture.data)
                while (newer := self._results.take_after(number)) is not None:
                    number = newer[0]
                    stdin.write(draw_result(*newer[1]).data)
            _end(process)
            listener.join()
        told = b"".join(words).decode(errors="replace").strip()
        return make_printable(hide_secrets(told)) or "it ended", number

    def _command(self, picture: NDArray[np.uint8]) -> list[str]:
        height, width = picture.shape[:2]
        form = FORMATS[_scheme_of(self._address)]
        given = ("-f", "rawvideo", "-pix_fmt", "bgr24", "-video_size", f"{width}x{height}")
        quiet = ("-nostdin", "-loglevel", "error", "-use_wallclock_as_timestamps", "1")
        return [self._program, *quiet, *given, "-i", "pipe:0", *ENCODING, *form, self._address]


def _find_program(address: str) -> str:
    if _scheme_of(address) not in FORMATS:
        raise OutputError(
            f"received {hide_secrets(address)!r} to push to; expected an address of "
            f"{', '.join(FORMATS)}, such as rtsp://server/name"
        )
    program = which(PROGRAM)
    if program is None:
        raise MissingExtraError(
            f"a stream is pushed by the program {PROGRAM}, which is not there; install it: "
            "apt install ffmpeg"
        )
    return program


def _scheme_of(address: str) -> str:
    found = re.match(r"([a-z]+)://[^\s]", address, re.IGNORECASE)
    return found[1].lower() if found else ""


def _end(process: Popen[bytes]) -> None:
    """Let FFmpeg end its stream in order, and see that it ends."""
    with suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()
    try:
        process.wait(ENDING_S)
    except TimeoutExpired:
        process.kill()
