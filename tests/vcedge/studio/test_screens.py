"""The page on every screen, light and dark, and under a finger."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.vcedge.studio.square import Address, wait_for
from tests.vcedge.studio.test_session import Camera
from tests.vcedge.studio.window import (
    FISH,
    IN_BROWSER,
    PHONE,
    Window,
    open_session,
)
from vcedge.studio.footage import LiveFootage
from vcedge.studio.session import Session

if TYPE_CHECKING:
    pass

pytestmark = IN_BROWSER


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 800), PHONE, (360, 640), (844, 390)])
def test_everything_can_be_reached_on_every_screen(
    reef: Address,
    truth: tuple[Path, list[NDArray[np.uint8]]],
    open_window: Callable[..., Any],
    size: tuple[int, int],
    scheme: str,
) -> None:
    reef.session.load_mask(0, truth[1][0])
    touch = size[0] < 1000
    with open_window(reef, size, color_scheme=scheme, has_touch=touch) as window:
        width, height = size
        assert window.page.evaluate("document.documentElement.scrollWidth") <= width
        for button in window.locate("button:visible, #timeline, #stage").all():
            box = button.bounding_box()
            if button.evaluate("node => Boolean(node.closest('.tools, .objects'))"):
                continue  # these scroll
            assert box["x"] >= 0
            assert box["y"] >= 0
            assert box["x"] + box["width"] <= width + 1
            assert box["y"] + box["height"] <= height + 1
        stage = window.locate("#stage").bounding_box()
        assert stage["width"] * stage["height"] > 0.25 * width * height
        luma = window.page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
        )
        assert (sum(luma) > 600) == (scheme == "light")


def test_the_theme_that_was_chosen_stays(reef: Address, open_window: Callable[..., Any]) -> None:
    with open_window(reef, color_scheme="light") as window:
        window.locate("#theme").click()
        window.page.reload()
        window.expect("#where b").to_be_visible()
        assert window.locate("html").get_attribute("data-theme") == "dark"


def test_on_a_phone_a_finger_draws_and_two_zoom(
    reef: Address, truth: tuple[Path, list[NDArray[np.uint8]]], open_window: Callable[..., Any]
) -> None:
    fish = truth[1][0] == FISH
    ys, xs = np.nonzero(fish)
    with open_window(reef, PHONE, has_touch=True, is_mobile=True) as window:
        window.locate('[data-tool="click"]').tap()
        window.page.touchscreen.tap(*window.place(float(xs.mean()), float(ys.mean())))
        window.wait_for_mask(0, FISH)
        assert window.mask(0)[int(ys.mean()), int(xs.mean())] == FISH
        before = window.place(100, 0)[0] - window.place(0, 0)[0]
        _pinch(window, window.place(213, 120), 40, 120)
        assert window.place(100, 0)[0] - window.place(0, 0)[0] > 2 * before
        assert reef.session.can_undo
        wait_for(
            lambda: (
                not window.page.evaluate("Boolean(document.querySelector('#busy:not([hidden])'))")
            )
        )
        window.press("0")
        assert window.place(100, 0)[0] - window.place(0, 0)[0] == pytest.approx(before)


def _pinch(window: Window, at: tuple[float, float], start: float, end: float) -> None:
    """Two fingers that part."""
    wire = window.page.context.new_cdp_session(window.page)
    for step in range(9):
        apart = start + (end - start) * step / 8
        points = [{"x": at[0] + way * apart / 2, "y": at[1], "id": way} for way in (-1, 1)]
        kind = "touchStart" if step == 0 else "touchMove"
        wire.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    wire.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_a_camera_is_followed_on_a_phone(
    serve: Callable[[Session], Address], open_window: Callable[..., Any]
) -> None:
    session = open_session(LiveFootage(Camera()))
    with session, open_window(serve(session), PHONE) as window:
        window.expect("#where b").not_to_have_text("0")
        window.drag((20, 14), (85, 46))
        window.expect(".object .score b").to_have_text("drawn")
        assert session.work == {"kind": "watch"}
        window.locate("#track").click()
        wait_for(lambda: len(session.records.frames()) > 8)
        window.locate("#track").click()
        wait_for(lambda: not session.worker.busy)
        last = session.records.frames()[-1]
        window.expect("#where b").to_have_text(str(last))
        window.locate("#play").click()
        window.expect("#where b").not_to_have_text(str(last))
