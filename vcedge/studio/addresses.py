"""Where the studio can be reached."""

from __future__ import annotations

import ipaddress
import socket

from vcedge_runtime.errors import OutputError
from vcedge_runtime.video.view import LOOPBACK

PORT = 8765
"""Taken where it is free and none is named (our choice)."""


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
