"""The studio's page, open in a browser that is led by the tests."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.vcedge.studio.square import Address, wait_for
from vcedge.studio.footage import Footage
from vcedge.studio.prompting import open_segmenter
from vcedge.studio.session import Session
from vcedge_runtime.tracker import Tracker

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
IN_BROWSER = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None and "chromium" not in os.environ.get("VCEDGE_REQUIRE", "").split(","),
        reason="no chromium: apt-get install chromium",
    ),
]
"""Marks of the tests that need it."""
FRAMES, HW = 30, (240, 426)
SIZE = 144
"""In which the shipped model loses a part of the demo's submarine, so that there is something to
correct."""
FISH, SUBMARINE = 1, 2
BAD = 15
"""A frame in which the submarine is not well any more."""
PHONE = (390, 844)


def open_session(footage: Footage) -> Session:
    # With views of the first frame nothing that the plant covered needs to be corrected.
    parts = {"memory": "local_global:zoom=1"}
    tracker = Tracker.open(size=SIZE, backend="cpu", threads=1, overrides=parts)
    return Session(footage, tracker, open_segmenter(1))


def import_playwright() -> Any:
    """What leads the browser; a test that needs it is skipped where it is not installed."""
    if "chromium" in os.environ.get("VCEDGE_REQUIRE", "").split(","):
        from playwright import sync_api

        return sync_api
    reason = "a browser is led by playwright: pip install playwright"
    return pytest.importorskip("playwright.sync_api", reason=reason)


@dataclass
class Window:
    """A page that is open.

    Attributes:
        page: playwright's.
        studio: what it shows.
        wrong: what its console complained of, and requests to other hosts.
    """

    page: Page
    studio: Address
    wrong: list[str] = field(default_factory=list)

    def locate(self, selector: str) -> Any:
        return self.page.locator(selector)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a pixel of the frame is on the page."""
        left, top, scale = self.page.evaluate(
            """async () => {
                const { stage } = await import('./main.js');
                const box = document.getElementById('stage').getBoundingClientRect();
                const { left, top, scale } = stage.place();
                return [box.left + left, box.top + top, scale];
            }"""
        )
        return left + x * scale, top + y * scale

    def drag(self, *points: tuple[float, float]) -> None:
        """Draw through places of the frame."""
        mouse = self.page.mouse
        mouse.move(*self.place(*points[0]))
        mouse.down()
        for point in points[1:]:
            mouse.move(*self.place(*point), steps=5)
        mouse.up()

    def drag_box(self, mask: NDArray[np.bool_]) -> None:
        """Draw a box that is a little wider than an object."""
        left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
        self.drag((left - 3, top - 3), (left + width + 3, top + height + 3))

    def go_to(self, frame: int) -> None:
        self.press("Home", *["Shift+ArrowRight"] * (frame // 10), *["ArrowRight"] * (frame % 10))
        self.expect("#where b").to_have_text(str(frame))

    def expect(self, selector: str) -> Any:
        return import_playwright().expect(self.locate(selector), selector)

    def mask(self, frame: int) -> NDArray[np.uint8]:
        records = self.studio.session.records
        return records.labels_of(records.find(frame))

    def wait_for_mask(self, frame: int, object_id: int) -> None:
        wait_for(lambda: (self.mask(frame) == object_id).any())
        self.expect(f'[data-id="{object_id}"] .score b').to_have_text("drawn")

    def track(self, key: str = "t") -> None:
        """Track, and wait for the end."""
        self.press(key)
        self.expect("#track span").to_have_text("Stop")
        import_playwright().expect(self.locate("#track span")).to_have_text("Track", timeout=90_000)
