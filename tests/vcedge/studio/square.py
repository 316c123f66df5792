"""A square that moves, and who asks the studio about it."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge.studio.session import Session
from vcedge_runtime.video.view import LOOPBACK

if TYPE_CHECKING:
    from vcedge.studio.gate import Keys

FRAMES = 12
HW = (64, 96)
BOX = (30, 20, 24, 24)
"""Where the square is in the first frame: left, top, width, height."""
STEP = 2
"""Pixels that it moves a frame, to the right."""


def draw_frame(index: int) -> NDArray[np.uint8]:
    """A bright square that moves on a dark texture, and a green bar that stands still."""
    noise = np.random.default_rng(3).integers(20, 90, (*HW, 3), np.uint8)
    image = cv2.GaussianBlur(noise, (0, 0), 1)
    image[draw_bar() > 0] = (60, 210, 60)
    left, top, width, height = BOX
    left += STEP * index
    image[top : top + height, left : left + width] = (40, 190, 240)
    return np.asarray(image, np.uint8)


def draw_bar() -> NDArray[np.uint8]:
    """(H, W) uint8: 1 where the bar is."""
    mask = np.zeros(HW, np.uint8)
    mask[48:62, 4:28] = 1
    return mask


def draw_truth(index: int) -> NDArray[np.uint8]:
    """(H, W) uint8: 1 where the square is."""
    mask = np.zeros(HW, np.uint8)
    left, top, width, height = BOX
    mask[top : top + height, left + STEP * index : left + STEP * index + width] = 1
    return mask


def overlap(found: NDArray[Any], truth: NDArray[Any]) -> float:
    """Intersection over union of two masks."""
    a, b = found > 0, truth > 0
    return float((a & b).sum() / max(1, (a | b).sum()))


def wait_for(done: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until something holds."""
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.01)


@dataclass
class Answer:
    """What came back of a request."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def told(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Address:
    """A studio that serves.

    Attributes:
        port: where.
        keys: what opens it.
        session: what it serves.
    """

    port: int
    keys: Keys
    session: Session

    @property
    def url(self) -> str:
        """What the terminal shows."""
        return f"http://{LOOPBACK}:{self.port}/?token={self.keys.token}"

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str | None
    ) -> Answer:
        """Ask as a stranger does; headers by name, ``_`` for ``-``, None to leave one out."""
        given = {name.replace("_", "-"): v for name, v in headers.items() if v is not None}
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=20)
        try:
            connection.putrequest(method, path, skip_host="Host" in given)
            if body is not None and "Content-Length" not in given:
                given["Content-Length"] = str(len(body))
            for name, value in given.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, told, answer.read())
        finally:
            connection.close()

    def as_page(self, method: str, path: str, body: Any = None, **headers: str | None) -> Answer:
        """Ask as the page does; a body that is no bytes goes as JSON."""
        from vcedge.studio.gate import COOKIE

        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        own: dict[str, str | None] = {
            "Cookie": f"{COOKIE}={self.keys.session}",
            "Origin": f"http://{LOOPBACK}:{self.port}",
            "Sec_Fetch_Site": "same-origin",
        }
        return self.ask(method, f"/{self.keys.folder}/{path}", data, **{**own, **headers})

    def do(self, action: str, **given: object) -> Answer:
        """Ask for an action."""
        return self.as_page("POST", f"do/{action}", given)
