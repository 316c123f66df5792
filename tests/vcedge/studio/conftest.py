"""A small studio: a few frames of a square that moves, and a tracker that needs no PyTorch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import cv2
import pytest

pytest.importorskip("starlette", reason="the studio serves with Starlette; install vcedge[studio]")
pytest.importorskip("uvicorn", reason="the studio serves with uvicorn; install vcedge[studio]")

from tests.vcedge.studio.square import FRAMES, Address, draw_frame, wait_for
from vcedge.studio.addresses import LOOPBACK, open_socket
from vcedge.studio.exports import Exports
from vcedge.studio.footage import Footage, open_footage
from vcedge.studio.gate import Keys
from vcedge.studio.prompting import GrabCut
from vcedge.studio.server import build_app
from vcedge.studio.serving import _Server
from vcedge.studio.session import Session
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.tracker import Tracker


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
    with Session(footage, tracker, GrabCut()) as opened:
        yield opened


@pytest.fixture
def serve() -> Iterator[Callable[[Session], Address]]:
    """Serve a session in a thread."""
    import uvicorn

    with ExitStack() as stack:

        def start(session: Session) -> Address:
            keys = Keys()
            exports = stack.enter_context(Exports(session))
            listening = stack.enter_context(open_socket(LOOPBACK, 0))
            app = build_app(session, exports, keys, {"localhost"})
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
