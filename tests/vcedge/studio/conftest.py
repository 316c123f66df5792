"""A small studio that needs no PyTorch; and one with the demo clip, open in a browser."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.vcedge.studio.square import FRAMES, Address, draw_frame, wait_for
from tests.vcedge.studio.window import CHROMIUM, Window, import_playwright, open_session
from tests.vcedge.studio.window import FRAMES as REEF_FRAMES
from tests.vcedge.studio.window import HW as REEF_HW
from vcedge.studio.addresses import open_socket
from vcedge.studio.exports import Exports
from vcedge.studio.footage import Footage, open_footage
from vcedge.studio.session import Session
from vcedge_runtime.demo.clip import render_demo_clip
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.prompts.segmenter import GRABCUT, PromptSegmenter
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.view import LOOPBACK

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A folder of frames."""
    folder = tmp_path / "square"
    folder.mkdir()
    for index in range(FRAMES):
        cv2.imwrite(str(folder / f"{index:05d}.png"), draw_frame(index))
    return folder


@pytest.fixture
def footage(clip: Path) -> Iterator[Footage]:
    with open_footage(str(clip)) as opened:
        yield opened


@pytest.fixture
def session(footage: Footage, tiny_bundle: Bundle) -> Iterator[Session]:
    tracker = Tracker.open(tiny_bundle, backend="cpu", threads=1)
    with Session(footage, tracker, PromptSegmenter.open(GRABCUT)) as opened:
        yield opened


@pytest.fixture
def serve() -> Iterator[Callable[[Session], Address]]:
    """Serve a session in a thread."""
    pytest.importorskip("starlette", reason="Starlette serves the studio: vcedge[studio]")
    uvicorn = pytest.importorskip("uvicorn", reason="uvicorn serves the studio: vcedge[studio]")
    from vcedge.studio.gate import Keys
    from vcedge.studio.server import build_app
    from vcedge.studio.serving import _Server

    with ExitStack() as stack:

        def start(session: Session) -> Address:
            keys = Keys()
            exports = stack.enter_context(Exports(session))
            listening = stack.enter_context(open_socket(LOOPBACK, 0))
            app = build_app(session, exports, keys, LOOPBACK)
            config = uvicorn.Config(app, log_level="error", lifespan="off", ws="none")
            server = _Server(config, session.events.close)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
            thread.start()

            def stop() -> None:
                session.events.close()
                server.should_exit = True
                thread.join(timeout=20)
                assert not thread.is_alive()

            stack.callback(stop)
            wait_for(lambda: server.started)
            return Address(listening.getsockname()[1], keys, session)

        yield start


@pytest.fixture
def studio(session: Session, serve: Callable[[Session], Address]) -> Address:
    """The small studio, serving."""
    return serve(session)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with import_playwright().sync_playwright() as player:
        # Whoever runs the tests as root has no sandbox to give.
        yield player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[NDArray[np.uint8]]]:
    """The demo clip as a folder of frames, and its masks."""
    folder, masks = tmp_path_factory.mktemp("clip") / "reef", []
    folder.mkdir()
    for index, (image, labels) in enumerate(render_demo_clip(frames=REEF_FRAMES, frame_hw=REEF_HW)):
        cv2.imwrite(str(folder / f"{index:05d}.png"), image)
        masks.append(labels)
    return folder, masks


@pytest.fixture
def reef(
    truth: tuple[Path, list[NDArray[np.uint8]]], serve: Callable[[Session], Address]
) -> Iterator[Address]:
    """A studio with the demo clip and the shipped model."""
    with open_session(open_footage(str(truth[0]))) as session:
        yield serve(session)


@pytest.fixture
def open_window(browser: Browser) -> Callable[..., Any]:
    """Open a studio's page; at the end its console said nothing, and it asked no other host."""

    @contextmanager
    def open_it(
        studio: Address, size: tuple[int, int] = (1280, 800), **facts: Any
    ) -> Iterator[Window]:
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **facts)
        page = context.new_page()
        window = Window(page, studio)
        page.on("console", lambda told: window.wrong.append(f"{told.type}: {told.text}"))
        page.on("pageerror", lambda error: window.wrong.append(str(error)))
        own = f"http://127.0.0.1:{studio.port}/"
        page.on(
            "request",
            lambda asked: window.wrong.append(asked.url) if not asked.url.startswith(own) else None,
        )
        page.goto(studio.url)
        # Before a frame is seen, nobody can draw in one.
        window.expect("#stage[data-frame]").to_be_visible()
        yield window
        assert window.wrong == []
        context.close()

    return open_it
