"""The view over HTTP: what it shows, to whom, and that nobody who looks is waited for."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse

import cv2
import numpy as np
import pytest

from tests.runtime.video.cameras import HW, make_frame
from vcedge_runtime.errors import OutputError
from vcedge_runtime.video import view
from vcedge_runtime.video.view import MOST_CLIENTS, HttpView

LABELS = np.zeros(HW, np.uint8)


@pytest.fixture
def shown() -> Iterator[HttpView]:
    with HttpView(health=lambda: {"state": "tracking"}) as shown:
        yield shown


def port_of(shown: HttpView) -> int:
    return int(shown.address.rstrip("/").rpartition(":")[2])


def ask(
    shown: HttpView, path: str, *, method: str = "GET", host: str | None = None
) -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection("127.0.0.1", port_of(shown), timeout=60)
    headers = {} if host is None else {"Host": host}
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    data = response.read()
    connection.close()
    return response, data


def read_level(data: bytes) -> int:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.shape == (*HW, 3)
    return round(image.mean())


def show(shown: HttpView, index: int) -> None:
    shown.write(make_frame(index), LABELS, {})


def test_the_page_shows_the_pictures_and_asks_nobody_else(shown: HttpView) -> None:
    response, page = ask(shown, "/")
    assert response.status == 200
    assert b'<img src="stream.mjpg"' in page
    assert b"http" not in page
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert response.headers["Server"].strip() == "vcedge"


def test_a_numbered_picture_is_the_newest_of_that_number_or_later(shown: HttpView) -> None:
    for index in (3, 40, 90):
        show(shown, index)
    for number in (0, 3, 90):
        response, data = ask(shown, f"/frame/{number}.jpg")
        assert (response.status, response.headers["Content-Type"]) == (200, "image/jpeg")
        assert response.headers["X-Frame"] == "90"
        assert read_level(data) == 90


def test_a_picture_that_is_not_there_in_time_is_not_found(
    shown: HttpView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "CLIENT_S", 0.01)
    show(shown, 3)
    assert ask(shown, "/frame/4.jpg")[0].status == 404


def open_stream(shown: HttpView) -> HTTPResponse:
    connection = HTTPConnection("127.0.0.1", port_of(shown), timeout=60)
    connection.request("GET", "/stream.mjpg")
    return connection.getresponse()


def read_part(response: HTTPResponse) -> tuple[int, bytes]:
    """Number and JPEG of the next picture of a stream."""
    facts = {}
    assert response.readline() == b"--picture\r\n"
    while line := response.readline().strip():
        name, _, value = line.partition(b": ")
        facts[name] = value
    data = response.read(int(facts[b"Content-Length"]))
    assert response.readline() == b"\r\n"
    return int(facts[b"X-Frame"]), data


def test_a_stream_gives_each_client_the_newest_picture(shown: HttpView) -> None:
    show(shown, 1)
    responses = [open_stream(shown) for _ in range(3)]
    for index in (1, 50, 100):
        show(shown, index)
        for response in responses:
            number, data = read_part(response)
            assert (number, read_level(data)) == (index, index)


def test_a_stream_shows_the_last_picture_again_while_none_comes(
    shown: HttpView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "CLIENT_S", 0.01)
    show(shown, 7)
    response = open_stream(shown)
    assert [read_part(response)[0] for _ in range(3)] == [7, 7, 7]


def test_clients_that_take_nothing_in_hold_up_neither_the_tracker_nor_others(
    shown: HttpView,
) -> None:
    stuck = []
    for _ in range(MOST_CLIENTS - 1):
        client = socket.create_connection(("127.0.0.1", port_of(shown)))
        client.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        stuck.append(client)
    for index in range(500):
        show(shown, index)
    response, data = ask(shown, "/frame/499.jpg")
    assert response.headers["X-Frame"] == "499"
    assert data
    for client in stuck:
        client.close()


def test_more_clients_than_there_are_places_are_turned_away(shown: HttpView) -> None:
    show(shown, 0)
    streams = [open_stream(shown) for _ in range(MOST_CLIENTS)]
    for stream in streams:
        read_part(stream)
    assert ask(shown, "/")[0].status == 503


def test_a_picture_is_drawn_once_for_all_who_look_and_not_where_nobody_does(
    shown: HttpView, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    own = view.draw_result

    def draw(frame: view.Frame, *rest: object) -> object:
        drawn.append(frame.index)
        return own(frame, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(view, "draw_result", draw)
    for index in range(10):
        show(shown, index)
    for _ in range(3):
        ask(shown, "/frame/0.jpg")
    assert drawn == [9]


@pytest.mark.parametrize(
    "path",
    [
        *("/etc/passwd", "/../view.py", "//etc/passwd", "/frame/", "/frame/-1.jpg", "/frame/x.jpg"),
        *("/frame/1.png", "/stream", "/frame/1.jpg/", "/frame/%31.jpg"),
    ],
)
def test_nothing_else_is_there(shown: HttpView, path: str) -> None:
    show(shown, 1)
    response, data = ask(shown, path)
    assert (response.status, data) == (404, b"not found\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_changed(shown: HttpView, method: str) -> None:
    response, _ = ask(shown, "/", method=method)
    assert response.status == 501
    assert response.headers["Access-Control-Allow-Origin"] is None


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:99", 200),
        ("127.0.0.1:8080", 200),
        ("192.168.0.7", 200),
        ("[::1]:8080", 200),
        (socket.gethostname(), 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example:80", 421),
        ("localhost.evil.example", 421),
        ("", 421),
    ],
)
def test_a_name_that_is_not_this_machines_is_answered_with_nothing(
    shown: HttpView, host: str, status: int
) -> None:
    for path in ("/", "/health.json"):
        assert ask(shown, path, host=host)[0].status == status


def test_health_is_told_as_json(shown: HttpView) -> None:
    response, data = ask(shown, "/health.json")
    assert response.headers["Content-Type"] == "application/json"
    assert json.loads(data) == {"state": "tracking"}


def test_it_listens_on_this_machine_alone_unless_told(shown: HttpView) -> None:
    assert shown.address.startswith("http://127.0.0.1:")
    assert shown._server.socket.getsockname()[0] == "127.0.0.1"


def test_a_port_that_is_taken_is_an_error(shown: HttpView) -> None:
    with pytest.raises(OutputError, match=r"--serve 127\.0\.0\.1:\d+, which cannot be had"):
        HttpView(port=port_of(shown))


@pytest.mark.parametrize("host", ["no such host", "192.0.2.1"])
def test_an_address_of_another_machine_is_an_error(host: str) -> None:
    with pytest.raises(OutputError, match="an address of this machine and a free port"):
        HttpView(host)


def test_closing_ends_the_streams_and_frees_the_port(shown: HttpView) -> None:
    show(shown, 1)
    response = open_stream(shown)
    read_part(response)
    shown.close()
    shown.close()
    assert response.read() == b""
    with HttpView(port=port_of(shown)) as again:
        assert again.address == shown.address
