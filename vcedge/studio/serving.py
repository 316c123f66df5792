"""The studio's server: it runs until a signal comes."""

from __future__ import annotations

import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

_GRACE_SECONDS = 2
_MOST_CONNECTIONS = 100


class _Server(uvicorn.Server):
    """Tells the open pages that it ends: it would wait for them."""

    def __init__(self, config: uvicorn.Config, on_exit: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_exit = on_exit

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take note of a signal."""
        self._on_exit()
        super().handle_exit(sig, frame)


def serve(app: ASGIApp, listening: socket.socket, on_exit: Callable[[], None]) -> None:
    """Serve until a signal comes.

    Args:
        app: the application.
        listening: from ``open_socket``; closed at the end.
        on_exit: called when a signal comes, to end streams.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    with listening:
        _Server(config, on_exit).run(sockets=[listening])
