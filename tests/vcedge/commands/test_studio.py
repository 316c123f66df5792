"""``vcedge studio`` as it is typed: what it prints, who may enter, and how it ends."""

from __future__ import annotations

import http.client
import re
import signal
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import cv2
import pytest

pytest.importorskip("starlette", reason="the studio serves with Starlette; install vcedge[studio]")
pytest.importorskip("uvicorn", reason="the studio serves with uvicorn; install vcedge[studio]")

from tests.conftest import TINY, make_frame

pytestmark = pytest.mark.slow


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    folder = tmp_path / "clip"
    folder.mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / f"{index}.png"), make_frame(64, 96, index))
    return folder


def read_address(process: Popen[str]) -> tuple[str, int, str]:
    """Host, port and token of what it prints."""
    assert process.stdout is not None
    found = re.fullmatch(
        r"open http://([\d.]+):(\d+)/\?token=([\w-]{43})\n", process.stdout.readline()
    )
    assert found is not None
    return found[1], int(found[2]), found[3]


def get(host: str, port: int, path: str) -> int:
    connection = http.client.HTTPConnection(host, port, timeout=20)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("number", "code", "told"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "stopped by SIGTERM")],
)
def test_it_prints_one_address_serves_there_and_ends_by_a_signal(
    launch: Callable[..., Popen[str]], clip: Path, number: int, code: int, told: str
) -> None:
    process = launch("studio", clip, "--model", TINY, "--port", 0, "--backend", "cpu")
    host, port, token = read_address(process)
    assert host == "127.0.0.1"
    assert get(host, port, "/") == 401
    assert get(host, port, f"/?token={token}") == 200
    process.send_signal(number)
    out, error = process.communicate(timeout=30)
    assert process.returncode == code
    assert out == ""
    assert error.splitlines()[-1] == f"vcedge: {told}"
    assert "Traceback" not in error


def test_beyond_this_machine_it_says_who_may_see_what(
    launch: Callable[..., Popen[str]], clip: Path
) -> None:
    given = ("--host", "0.0.0.0", "--port", 0, "--model", TINY, "--backend", "cpu")
    process = launch("studio", clip, *given)
    host, port, token = read_address(process)
    assert process.stdout is not None
    # Not by communicate(), which passes over what was read along with the line before.
    assert "unencrypted" in process.stdout.readline()
    assert get(host, port, f"/?token={token}") == 200
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)


def test_what_is_wrong_with_the_source_is_told_in_a_line(refuse: Callable[..., str]) -> None:
    assert "does not exist" in refuse("studio", "nowhere.mp4", "--port", 0)


def test_a_port_that_is_taken_is_told_in_a_line(refuse: Callable[..., str], clip: Path) -> None:
    from vcedge.studio.addresses import open_socket
    from vcedge_runtime.video.view import LOOPBACK

    with open_socket(LOOPBACK, 0) as taken:
        line = refuse("studio", clip, "--port", taken.getsockname()[1])
    assert "a port that is free" in line


def test_without_the_extra_it_says_what_to_install(
    refuse: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    for name in [name for name in sys.modules if name.startswith(("vcedge.studio", "starlette"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "vcedge.commands.studio", raising=False)
    monkeypatch.setitem(sys.modules, "starlette", None)
    line = refuse("studio")
    assert "needs starlette" in line
    assert "[studio]" in line
