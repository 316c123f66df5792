"""Which address is taken, and which is shown."""

from __future__ import annotations

import pytest

from vcedge.studio import addresses
from vcedge.studio.addresses import is_private, open_socket, show_host
from vcedge_runtime.errors import OutputError
from vcedge_runtime.video.view import LOOPBACK


def test_a_named_port_that_is_taken_is_told() -> None:
    with open_socket(LOOPBACK, 0) as taken, pytest.raises(OutputError, match="a port that is free"):
        open_socket(LOOPBACK, taken.getsockname()[1])


def test_without_a_named_port_a_free_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_socket(LOOPBACK, 0) as taken:
        monkeypatch.setattr(addresses, "PORT", taken.getsockname()[1])
        with open_socket(LOOPBACK, None) as other:
            assert other.getsockname()[1] != taken.getsockname()[1]


@pytest.mark.parametrize("host", ["203.0.113.7", "no.such.name.invalid", "::7"])
def test_what_is_no_address_of_this_machine_is_told(host: str) -> None:
    with pytest.raises(OutputError, match="name an address of this machine"):
        open_socket(host, 0)


def test_only_this_machine_reaches_the_default() -> None:
    assert is_private(LOOPBACK)
    assert is_private("localhost")
    assert is_private("::1")
    assert not is_private("0.0.0.0")
    assert not is_private("example.org")


def test_an_address_to_type_is_shown_for_every_interface() -> None:
    assert show_host("0.0.0.0").count(".") == 3
    assert show_host("0.0.0.0") != "0.0.0.0"
    assert show_host("::1") == "[::1]"
    assert show_host("box.local") == "box.local"
