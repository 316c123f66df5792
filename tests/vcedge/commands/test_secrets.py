"""Addresses with passwords: no line, file or name that a command leaves has one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import CompletedProcess
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from vcedge_runtime.video.palette import write_label_png

if TYPE_CHECKING:
    from tests.vcedge.commands.conftest import Clip

SECRET = "hunter2"
Run = Callable[..., CompletedProcess[str]]
Refuse = Callable[..., str]


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Keep the terminal for the command."""


@pytest.fixture
def clip(make_clip: Callable[..., Clip]) -> Clip:
    return make_clip("clip.mp4", frames=4)


@pytest.fixture
def server(clip: Clip) -> Iterator[str]:
    """A camera's address up to its path, with who logs in."""
    folder = partial(_Handler, directory=str(clip.source.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), folder) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://me:{SECRET}@127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(params=["", f"?user=me&pwd={SECRET}"], ids=["login", "query"])
def address(request: pytest.FixtureRequest, server: str, clip: Clip) -> str:
    return f"{server}/{clip.source.name}{request.param}"


def assert_hidden(done: CompletedProcess[str], *folders: Path) -> None:
    assert SECRET not in done.stdout + done.stderr
    for path in (path for folder in folders for path in folder.rglob("*")):
        assert SECRET not in str(path)
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()


def test_track_shows_and_writes_no_password(
    run: Run, clip: Clip, address: str, tmp_path: Path
) -> None:
    _, _, *options = clip.arguments
    done = run("track", address, *options)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "vcedge-out").iterdir()
    assert {path.name for path in folder.iterdir()} >= {"masks", "overlay.mp4", "objects.ndjson"}
    assert "next: vcedge bench" in done.stdout
    assert_hidden(done, tmp_path / "vcedge-out")


def test_bench_writes_no_password_into_its_report(
    run: Run, clip: Clip, address: str, tmp_path: Path
) -> None:
    report = tmp_path / "report" / "bench.json"
    report.parent.mkdir()
    given = ["--source", address, "--mask", clip.mask, "--frames", 1, "--warm-up", 1]
    done = run("bench", clip.model, *given, "--sizes", 48, "--threads", 1, "--json", report)
    assert done.returncode == 0, done.stderr
    assert_hidden(done, report.parent)


def test_a_proof_does_not_say_who_logged_in(server: str, clip: Clip, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="it proves bundles; install vcedge[export]")
    from vcedge.commands.proof_clip import _read_clip

    for index in range(3):
        write_label_png(tmp_path / f"{index:05d}.png", clip.labels)
    found = _read_clip(f"{server}/{clip.source.name}?pwd={SECRET}", tmp_path, 3)
    assert found.label == "clip.mp4?..."


@pytest.mark.parametrize(
    "where", ["source", "mask", "points", "model", "out", "further", "option", "choice"]
)
def test_what_is_refused_shows_no_password(run: Run, clip: Clip, where: str) -> None:
    secret = f"rtsp://me:{SECRET}@127.0.0.1:1/live?pwd={SECRET}"
    track = ["track", clip.source, "--mask", clip.mask, "--model", clip.model]
    given = {
        "source": ["track", secret, "--mask", clip.mask, "--model", clip.model],
        "mask": ["track", clip.source, "--mask", secret, "--model", clip.model],
        "points": ["track", clip.source, "--points", secret],
        "model": [*track[:-1], secret],
        "out": [*track, "--out", "/dev/null/" + secret],
        "further": [*track, secret],
        "option": [*track, f"--password={secret}"],
        "choice": [*track, "--backend", secret],
    }
    done = run(*given[where])
    assert done.returncode == 2
    assert done.stderr
    assert SECRET not in done.stdout + done.stderr
