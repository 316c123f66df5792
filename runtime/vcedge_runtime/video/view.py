"""What is tracked, shown to browsers: the newest picture, on a page that reads nothing else."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from socketserver import ThreadingTCPServer
from threading import BoundedSemaphore, Lock, Thread
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import OutputError
from vcedge_runtime.video.frame import Frame
from vcedge_runtime.video.newest import Newest
from vcedge_runtime.video.result_picture import draw_result
from vcedge_runtime.video.sinks import NO_STATES, Labels, Scores, Sink, States

LOOPBACK = "127.0.0.1"
MOST_CLIENTS = 16
"""At the same time; further ones are turned away (our choice)."""
CLIENT_S = 10.0
"""What a client may take to ask, or to take in what he is sent, and waits for a picture."""
JPEG_QUALITY = 80
_BOUNDARY = "picture"
_PAGE = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="dark light">
<title>vcedge</title>
<style>body{margin:0}img{display:block;max-width:100%;max-height:100vh;margin:auto}</style>
<img src="stream.mjpg" alt="the newest picture, with what is tracked drawn in">
</html>
"""
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""No other site shows or reads what is here."""


class _Result(NamedTuple):
    """What a picture is drawn of, once somebody looks."""

    frame: Frame
    labels: NDArray[np.uint8]
    scores: Mapping[int, float]


class _Pictures:
    """The newest picture as a JPEG, drawn once for all who look, and not at all where nobody does.

    Args:
        results: where they come from.
    """

    def __init__(self, results: Newest[_Result]) -> None:
        self._results = results
        self._drawing = Lock()
        self._drawn: tuple[int, bytes] = (-1, b"")

    @property
    def finished(self) -> bool:
        """Whether no further one comes."""
        return self._results.finished

    def take_after(self, number: int) -> tuple[int, bytes] | None:
        """Wait for a picture of a later frame; None where none comes in time, or any more."""
        newer = self._results.take_after(number, CLIENT_S)
        if newer is None:
            return None
        index, result = newer
        with self._drawing:
            if self._drawn[0] < index:
                picture = draw_result(*result)
                _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
                self._drawn = (index, data.tobytes())
            return self._drawn


class HttpView(Sink):
    """Shows the newest picture over HTTP, for as long as it is open; whoever looks costs no time.

    ``/`` is a page, ``/stream.mjpg`` the pictures one after the other, ``/frame/N.jpg`` the newest
    one as soon as it is of frame N or later (its number is in ``X-Frame``), ``/health.json`` what
    ``health`` says. Nothing else can be read, and nothing can be changed.

    Args:
        host: which of the machine's addresses, or a name of it; ``0.0.0.0`` or ``::`` for all.
        port: 0 for any that is free.
        health: told as JSON to whoever asks, such as a container's health check.

    Attributes:
        address: of the page.

    Raises:
        OutputError: the port cannot be had.
    """

    def __init__(
        self,
        host: str = LOOPBACK,
        port: int = 0,
        health: Callable[[], Mapping[str, object]] = dict,
    ) -> None:
        self._results: Newest[_Result] = Newest()
        handler = partial(_Handler, _Pictures(self._results), partial(answers_to, host), health)
        try:
            self._server = _Server((host, port), handler)
        except (OSError, OverflowError) as exc:
            reason = getattr(exc, "strerror", None) or exc
            raise OutputError(
                f"received --serve {_join(host, port)}, which cannot be had ({reason}); expected "
                "an address of this machine and a free port; choose another"
            ) from exc
        self.address = f"http://{_join(host, self._server.server_address[1])}/"
        serve = partial(self._server.serve_forever, 0.2)
        self._thread = Thread(target=serve, name="vcedge-view", daemon=True)
        self._thread.start()

    def write(
        self, frame: Frame, labels: Labels, scores: Scores, states: States = NO_STATES
    ) -> None:
        """Show a frame from now on."""
        self._results.put(frame.index, _Result(frame, labels, scores))

    def close(self) -> None:
        """Answer nobody any more; closing twice does no harm."""
        self._results.finish()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingTCPServer):
    """A thread a client, up to ``MOST_CLIENTS``."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = MOST_CLIENTS

    def __init__(self, address: tuple[str, int], handler: Callable[..., Any]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._places = BoundedSemaphore(MOST_CLIENTS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give a client a thread, or turn him away."""
        if not self._places.acquire(blocking=False):
            with suppress(OSError):
                request.sendall(b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\r\n")
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a client."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that go away."""


class _Handler(BaseHTTPRequestHandler):
    """Answers one client."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "vcedge", ""
    timeout = CLIENT_S

    def __init__(
        self,
        pictures: _Pictures,
        answers_to: Callable[[str], bool],
        health: Callable[[], Mapping[str, object]],
        *connection: Any,
    ) -> None:
        self._pictures, self._answers_to, self._health = pictures, answers_to, health
        super().__init__(*connection)

    def do_GET(self) -> None:
        """Answer with the page, a picture, the pictures or the health; nothing else is there."""
        path = self.path.partition("?")[0]
        number = path.removeprefix("/frame/").removesuffix(".jpg")
        if not self._answers_to(self.headers.get("Host", "")):
            self._answer(b"another Host was expected\n", status=HTTPStatus.MISDIRECTED_REQUEST)
        elif path == "/":
            self._answer(_PAGE, "text/html; charset=utf-8")
        elif path == "/stream.mjpg":
            self._stream()
        elif path == "/health.json":
            self._answer(json.dumps(self._health()).encode() + b"\n", "application/json")
        elif path == f"/frame/{number}.jpg" and number.isascii() and number.isdecimal():
            self._send_picture(int(number[:18]))
        else:
            self._answer(b"not found\n", status=HTTPStatus.NOT_FOUND)

    def log_message(self, format: str, *values: Any) -> None:
        """Say nothing: the terminal is not theirs."""

    def _send_picture(self, number: int) -> None:
        found = self._pictures.take_after(number - 1)
        if found is None:
            self._answer(b"no such picture yet\n", status=HTTPStatus.NOT_FOUND)
            return
        index, data = found
        self._answer(data, "image/jpeg", more={"X-Frame": str(index)})

    def _stream(self) -> None:
        """Send pictures until the client goes, or none comes any more."""
        self.close_connection = True
        self._begin(HTTPStatus.OK, f"multipart/x-mixed-replace; boundary={_BOUNDARY}", {})
        index, data = -1, b""
        while True:
            newer = self._pictures.take_after(index)
            if newer is None and self._pictures.finished:
                return
            # Where nothing new comes, the last one again: a client that went is noticed.
            index, data = newer or (index, data)
            if data:
                head = (
                    f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\n"
                    f"Content-Length: {len(data)}\r\nX-Frame: {index}\r\n\r\n"
                )
                self.wfile.write(head.encode() + data + b"\r\n")

    def _answer(
        self,
        data: bytes,
        kind: str = "text/plain; charset=utf-8",
        *,
        status: HTTPStatus = HTTPStatus.OK,
        more: Mapping[str, str] | None = None,
    ) -> None:
        self._begin(status, kind, {"Content-Length": str(len(data)), **(more or {})})
        self.wfile.write(data)

    def _begin(self, status: HTTPStatus, kind: str, more: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, **_HEADERS, **more}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()


def answers_to(own: str, host: str) -> bool:
    """Whether a client's ``Host`` is this machine, so that no foreign name was led here.

    A page of another site can give its own name the address of this machine, but not take an
    address, ``localhost`` or the machine's name for its own.

    Args:
        own: the host that is served on, as the user named it.
        host: the header, with a port or without.
    """
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    name = name.lower().removeprefix("[").removesuffix("]")
    machine = socket.gethostname().lower()
    if name in {"localhost", own.lower(), machine, f"{machine}.local"}:
        return True
    try:
        return bool(ip_address(name))
    except ValueError:
        return False


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
