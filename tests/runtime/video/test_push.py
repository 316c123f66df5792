"""Pictures pushed by FFmpeg: what it is told and given, and what happens when it ends."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from shutil import which
from threading import Event, Thread

import numpy as np
import pytest

from tests.runtime.video.cameras import HW, make_frame
from vcedge_runtime.errors import MissingExtraError, OutputError
from vcedge_runtime.video import push
from vcedge_runtime.video.push import FORMATS, StreamPush

LABELS = np.zeros(HW, np.uint8)
KEEPS = 'echo "$@" > "$0.words"; cat >> "$0.bytes"'
FAILS = 'echo "rtsp://me:secret@host: Connection refused" >&2; exit 1'


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for FFmpeg; keeps what it was told and given."""
    path = tmp_path / "ffmpeg"
    monkeypatch.setenv("PATH", os.pathsep.join((str(tmp_path), os.environ["PATH"])))
    write_program(path, KEEPS)
    return path


def write_program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_pictures_are_handed_to_ffmpeg_as_raw_frames(program: Path) -> None:
    frame = make_frame(77)
    with StreamPush("rtsp://host/name") as sink:
        sink.write(frame, LABELS, {})
    words = Path(f"{program}.words").read_text().split()
    assert words[words.index("-video_size") + 1] == "64x48"
    assert words[-5:] == ["-f", "rtsp", "-rtsp_transport", "tcp", "rtsp://host/name"]
    assert Path(f"{program}.bytes").read_bytes() == frame.image.tobytes()


def test_an_ffmpeg_that_ends_is_told_without_its_password_and_started_again(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "growing_pauses", lambda: iter(lambda: 0.0, 1.0))
    write_program(program, FAILS)
    told, heard = list[str](), Event()

    def tell(text: str) -> None:
        told.append(text)
        write_program(program, KEEPS)
        heard.set()

    with StreamPush("rtsp://me:secret@host/name", tell) as sink:
        numbers = count()
        while not heard.wait(0.01):  # a program that ended is noticed by the next picture
            sink.write(make_frame(next(numbers)), LABELS, {})
        last = make_frame(next(numbers))
        sink.write(last, LABELS, {})
    assert set(told) == {
        "rtsp://host/name takes no stream (rtsp://host: Connection refused); "
        "it is tried again in 0 s"
    }
    assert Path(f"{program}.bytes").read_bytes().endswith(last.image.tobytes())


def test_an_ffmpeg_that_takes_nothing_holds_up_nobody(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "ENDING_S", 0.05)
    write_program(program, "exec sleep 600")
    sink = StreamPush("tcp://host:1")
    for index in range(200):
        sink.write(make_frame(index), LABELS, {})
    sink.close()
    sink.close()
    assert not sink._thread.is_alive()


@pytest.mark.parametrize(
    "address", ["host/name", "file:///tmp/a", "-f", "http://host/a", "rtsp://", "rtsp:// x"]
)
def test_what_is_no_address_to_push_to_is_refused(program: Path, address: str) -> None:
    with pytest.raises(OutputError, match="expected an address of rtsp, rtsps, rtmp"):
        StreamPush(address)


def test_without_ffmpeg_the_mend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingExtraError, match="apt install ffmpeg"):
        StreamPush("rtsp://host/name")


def test_every_scheme_has_its_format() -> None:
    assert set(FORMATS) == {"rtsp", "rtsps", "rtmp", "rtmps", "udp", "tcp", "srt"}


@pytest.fixture
def received() -> Iterator[tuple[str, list[tuple[int, int]], Thread]]:
    """A server that takes one RTSP stream, its address, and the sizes of the pictures it gets."""
    av = pytest.importorskip("av")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"rtsp://127.0.0.1:{free.getsockname()[1]}/live"
    sizes: list[tuple[int, int]] = []

    def serve() -> None:
        options = {"rtsp_flags": "listen", "listen_timeout": "60"}
        with av.open(address, options=options) as stream:
            sizes.extend((frame.height, frame.width) for frame in stream.decode(video=0))

    thread = Thread(target=serve, daemon=True)
    thread.start()
    yield address, sizes, thread
    thread.join(60)


@pytest.mark.slow
@pytest.mark.skipif(which("ffmpeg") is None, reason="the program ffmpeg is not installed")
def test_a_real_server_gets_a_real_stream(
    received: tuple[str, list[tuple[int, int]], Thread], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, sizes, thread = received
    monkeypatch.setattr(push, "growing_pauses", lambda: iter(lambda: 0.1, 1.0))
    with StreamPush(address) as sink:
        for index in range(200):
            sink.write(make_frame(index), LABELS, {})
            thread.join(0.02)
    thread.join(60)
    assert len(sizes) > 5
    assert set(sizes) == {HW}
