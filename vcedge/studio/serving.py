"""The studio on the network: which address it has, who may call it, and how it ends."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from vcedge_runtime.errors import OutputError

LOOPBACK = "127.0.0.1"
PORT = 8765
"""Taken where it is free and none is named (our choice)."""
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


def open_socket(host: str, port: int | None) -> socket.socket:
    """Take an address.

    Args:
        host: a name or an address of this machine.
        port: 0 for any that is free; None for ``PORT``, or any where that is taken.

    Raises:
        OutputError: it is taken, or is no address of this machine.
    """
    for wanted in (PORT, 0) if port is None else (port,):
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            return socket.create_server((host, wanted), family=family)
        except OSError as exc:
            reason = exc.strerror or str(exc)
    raise OutputError(
        f"received {host} and port {port}, where no page can be served ({reason}); name an address "
        "of this machine, and a port that is free"
    )


def list_names(host: str) -> set[str]:
    """Host names under which the studio may be called when it serves an address.

    Args:
        host: as the user named it.
    """
    if is_private(host):
        return {"localhost"}
    name = socket.gethostname().lower()
    return {"localhost", host.lower(), name, f"{name.partition('.')[0]}.local"}


def is_private(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def show_host(host: str) -> str:
    """The address to type for a server on ``host``: its own, or this machine's in the network."""
    if host not in ("0.0.0.0", "::"):
        return f"[{host}]" if ":" in host else host
    # No packet is sent: it only tells which way one would go.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return LOOPBACK


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
