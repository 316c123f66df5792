"""Streams of a real server over loopback: what is live, what is cut, what comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from threading import Thread

import cv2
import pytest

from tests.runtime.video.test_sources import HW, ChangingCapture, encode
from vcedge_runtime.errors import SourceError, StreamLostError
from vcedge_runtime.video import live
from vcedge_runtime.video.live import LiveOptions
from vcedge_runtime.video.sources import open_source

FRAMES = 20
Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve one answer to each request, then refuse; gives the address."""
    servers = []

    def start(*answers: bytes, announced: bool = False) -> str:
        left = list(answers)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if not left:
                    self.send_error(503)
                    return
                data = left.pop(0)
                self.send_response(200)
                if announced:
                    self.send_header("Content-Length", str(len(data)))
                else:
                    self.send_header("Transfer-Encoding", "chunked")
                    data = f"{len(data):x}\r\n".encode() + data + b"\r\n0\r\n\r\n"
                self.end_headers()
                self.wfile.write(data)
                self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                """Keep the terminal for the tests."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return f"http://me:hunter2@127.0.0.1:{server.server_port}/live.ts"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def stream(tmp_path: Path) -> bytes:
    return encode(tmp_path / "clip.ts", FRAMES, format="mpegts").read_bytes()


@pytest.mark.usefixtures("no_pauses")
def test_a_stream_that_is_cut_three_times_is_read_on_each_time(serve: Serve, stream: bytes) -> None:
    told: list[str] = []
    options = LiveOptions(reconnect=2, drop=False)
    half = len(stream) // 2
    address = serve(stream, stream[:half], stream, stream[:half])
    with open_source(address, live=options, tell=told.append) as source:
        assert source.live
        with pytest.raises(StreamLostError, match=r"did not come back"):
            list(source)
    assert source.reopened == 3
    assert told.count(f"{source.label} is there again") == 3
    assert "hunter2" not in "".join(told)


@pytest.mark.usefixtures("no_pauses")
def test_frames_of_all_its_parts_are_numbered_on_and_their_times_rise(
    serve: Serve, stream: bytes
) -> None:
    options = LiveOptions(reconnect=1, drop=False)
    with open_source(serve(stream, stream, stream), live=options) as source:
        frames = list(islice(source, 3 * FRAMES))
    assert [frame.index for frame in frames] == list(range(3 * FRAMES))
    times = [frame.time_s or 0.0 for frame in frames[:FRAMES]]
    assert times == pytest.approx([index / 25 for index in range(FRAMES)])


def test_a_stream_that_ends_in_order_is_not_lost(serve: Serve, stream: bytes) -> None:
    with open_source(serve(stream), live=LiveOptions(drop=False)) as source:
        assert len(list(source)) == FRAMES
        assert source.dropped == 0


def test_an_address_that_announces_a_length_is_a_file_elsewhere(
    serve: Serve, tmp_path: Path
) -> None:
    path = encode(tmp_path / "clip.mp4", FRAMES, options={"movflags": "faststart"})
    with open_source(serve(path.read_bytes(), announced=True)) as source:
        assert (source.live, source.length) == (False, FRAMES)
        frames = list(source)
    assert [frame.index for frame in frames] == list(range(FRAMES))
    assert {frame.arrived_s for frame in frames} == {None}


def test_a_stream_that_was_never_there_is_told_at_once(serve: Serve) -> None:
    with pytest.raises(SourceError, match="cannot be opened") as error:
        open_source(serve(), live=LiveOptions(reconnect=None))
    assert not isinstance(error.value, StreamLostError)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What OpenCV was told to open."""
    found: list[object] = []

    class Capture(ChangingCapture):
        def __init__(self, target: object, *_: object) -> None:
            super().__init__()
            found.append(target)
            self.sizes = [HW]

    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    return found


def test_a_camera_may_be_named_by_its_device(opened: list[object]) -> None:
    with open_source("/dev/video7", live=LiveOptions(drop=False)) as source:
        assert (source.live, source.label) == (True, "/dev/video7")
    assert opened == [7]


def test_a_camera_has_a_name_that_lasts(
    opened: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.path.realpath", lambda path: "/dev/video12")
    with open_source("/dev/v4l/by-id/usb-camera-index0") as source:
        assert source.label == "/dev/v4l/by-id/usb-camera-index0"
    assert opened == [12]


@pytest.mark.usefixtures("no_pauses")
def test_a_camera_that_is_pulled_out_is_opened_again(opened: list[object]) -> None:
    options = LiveOptions(reconnect=1, drop=False)
    with open_source(0, live=options) as source:
        assert [frame.index for frame in islice(source, 3)] == [0, 1, 2]
    assert opened[:3] == [0, 0, 0]


def test_the_reason_of_a_loss_says_the_label_once(
    serve: Serve, stream: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "growing_pauses", lambda: iter([0.0]))
    options = LiveOptions(reconnect=1, drop=False)
    with open_source(serve(stream), live=options) as source, pytest.raises(StreamLostError) as lost:
        list(source)
    assert str(lost.value).count(source.label) == 1
