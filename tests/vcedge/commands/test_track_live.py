"""``vcedge track`` on live sources: exit codes, standard input and output, and what is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from subprocess import CompletedProcess
from threading import Thread
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.runtime.video.cameras import ListSource, open_each
from vcedge.commands import track, track_live, track_run
from vcedge_runtime.errors import SourceError
from vcedge_runtime.video import live
from vcedge_runtime.video.frame import Frame
from vcedge_runtime.video.live import LiveOptions, LiveSource
from vcedge_runtime.video.sources import open_source
from vcedge_runtime.video.view import HttpView

Run = Callable[..., CompletedProcess[str]]
Refuse = Callable[..., str]
MakeClip = Callable[..., Any]
Image = NDArray[np.uint8]
OUT = Path("out")


def read_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def camera(
    make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[object, ...]]:
    """Let ``vcedge track`` read a camera, which gives a clip of four frames and then ends so."""

    def arrange(*ends: str | SourceError | None) -> tuple[object, ...]:
        clip = make_clip(frames=4)
        with open_source(clip.source) as video:
            frames = list(video)

        def open_live(
            source: str, *, live: LiveOptions, tell: Callable[[str], None], **_: object
        ) -> LiveSource:
            each = [_source_of(frames, end) for end in ends]
            first, *others = each
            gone = SourceError("no such device")
            return LiveSource(first, open_each(*others, gone, gone, gone), live, tell)

        monkeypatch.setattr(track, "open_source", open_live)
        monkeypatch.setattr(live, "growing_pauses", lambda: iter(lambda: 0.0, 1.0))
        return (*clip.arguments, "--out", OUT, "--no-drop")

    return arrange


def _source_of(frames: list[Frame], end: str | SourceError | None) -> ListSource:
    return ListSource([*frames], end, frames[0].image.shape[:2])


def test_a_live_source_that_ends_is_no_failure(
    run: Run, camera: Callable[..., tuple[object, ...]]
) -> None:
    done = run(*camera(None))
    assert (done.returncode, done.stderr) == (0, "")
    lines = read_lines((OUT / "objects.ndjson").read_text())
    assert [(line["frame"], line["name"]) for line in lines] == [
        (index, f"{index:05d}") for index in range(4)
    ]
    assert ["age_ms" in line for line in lines] == [False, True, True, True]
    assert "ms old when its mask was ready" in done.stdout
    assert "0 older frames dropped\n" in done.stdout


def test_a_live_source_that_is_lost_has_an_exit_code_of_its_own(
    run: Run, camera: Callable[..., tuple[object, ...]]
) -> None:
    done = run(*camera("it gives no more frames"))
    assert done.returncode == 3
    assert done.stderr.startswith("vcedge: received the list, which broke off (it gives no more")
    assert len(list((OUT / "masks").iterdir())) == 4
    assert (OUT / "overlay.mp4").exists()
    assert "next:" not in done.stdout


def test_a_source_that_comes_back_three_times_is_tracked_on(
    run: Run, camera: Callable[..., tuple[object, ...]]
) -> None:
    cut = SourceError("reset")
    done = run(*camera("cut", cut, None, "cut"), "--reconnect", 2)
    assert done.returncode == 3
    lines = read_lines((OUT / "objects.ndjson").read_text())
    assert [line["frame"] for line in lines] == list(range(16))
    assert {each["id"] for line in lines for each in line["objects"]} <= {3, 200}
    assert "opened again 3 times" in done.stdout
    assert done.stdout.count("the list is there again") == 3


def test_enough_frames_are_no_loss_whatever_comes_after_them(
    run: Run, camera: Callable[..., tuple[object, ...]]
) -> None:
    done = run(*camera("cut"), "--frames", 2)
    assert (done.returncode, done.stderr) == (0, "")


def test_standard_output_belongs_to_the_log_where_that_is_asked_for(
    run: Run, camera: Callable[..., tuple[object, ...]]
) -> None:
    done = run(*camera(None), "--ndjson", "-", "--serve", 0)
    assert done.returncode == 0
    assert done.stdout == (OUT / "objects.ndjson").read_text()
    assert [line["frame"] for line in read_lines(done.stdout)] == list(range(4))
    assert "tracked 2 objects through 4 frames" in done.stderr
    assert "the newest picture is at http://127.0.0.1:" in done.stderr


def test_without_a_file_the_log_still_goes_to_standard_output(
    run: Run, make_clip: MakeClip
) -> None:
    options = ("--out", OUT, "--no-log", "--no-masks", "--no-overlay", "--ndjson", "-")
    done = run(*make_clip(frames=3).arguments, *options)
    assert (done.returncode, len(read_lines(done.stdout))) == (0, 3)
    assert not list(OUT.iterdir())


def test_headless_there_is_no_overlay_and_no_bar_but_health(
    run: Run, camera: Callable[..., tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []
    own = track_live.spoken

    def spoken(console: object, describe: Callable[[], list[str]], every_s: float) -> Any:
        told.append(every_s)
        return own(console, describe, every_s)  # type: ignore[arg-type]

    monkeypatch.setattr(track_live, "spoken", spoken)
    done = run(*camera(None), "--headless")
    assert done.returncode == 0
    assert {path.name for path in OUT.iterdir()} >= {"masks", "objects.ndjson"}
    assert not (OUT / "overlay.mp4").exists()
    assert "track: " not in done.stdout
    assert told == [60.0]


def test_masks_that_do_not_change_become_no_files(run: Run, make_clip: MakeClip) -> None:
    clip = make_clip(frames=4)
    for which, names in (("every", 4), ("none", 0)):
        assert run(*clip.arguments, "--out", which, "--save-masks", which).returncode == 0
        assert len(list(Path(which).glob("masks/*.png"))) == names
    assert run(*clip.arguments, "--out", "changed", "--save-masks", "changed").returncode == 0
    kept = sorted(path.name for path in Path("changed/masks").iterdir())
    every = {path.name: path.read_bytes() for path in Path("every/masks").iterdir()}
    assert kept == [
        name
        for name, before in zip(sorted(every), ["", *sorted(every)], strict=False)
        if every[name] != every.get(before)
    ]


def test_a_log_that_is_full_goes_on_in_another(
    run: Run, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(track_live, "MEGABYTE", 10_000)
    monkeypatch.setattr("vcedge_runtime.video.rotating.LEAST_BYTES", 1)
    clip = make_clip("clip.avi", frames=40)
    options = ("--out", OUT, "--no-masks", "--no-overlay", "--log-size", 0.1, "--log-files", 2)
    assert run(*clip.arguments, *options).returncode == 0
    names = sorted(path.name for path in OUT.glob("objects*"))
    assert len(names) == 3
    assert names[-1] == "objects.ndjson"
    frames = [line["frame"] for name in names for line in read_lines((OUT / name).read_text())]
    assert frames == list(range(frames[0], 40))


def test_whoever_looks_sees_the_newest_picture_and_the_health(
    run: Run, camera: Callable[..., tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str | None, Any]] = []
    own = HttpView.write

    def look(shown: HttpView, frame: Frame, *rest: Any) -> None:
        own(shown, frame, *rest)
        connection = HTTPConnection(shown.address.split("/")[2], timeout=60)
        connection.request("GET", f"/frame/{frame.index}.jpg")
        answer = connection.getresponse()
        answer.read()
        connection.request("GET", "/health.json")
        seen.append((answer.headers["X-Frame"], json.loads(connection.getresponse().read())))
        connection.close()

    monkeypatch.setattr(HttpView, "write", look)
    assert run(*camera(None), "--serve", 0).returncode == 0
    assert [number for number, _ in seen] == ["0", "1", "2", "3"]
    assert [health["state"] for _, health in seen] == ["starting", *["tracking"] * 3]


def test_frames_are_taken_no_faster_than_was_said(
    run: Run, camera: Callable[..., tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float | None] = []
    own = track_run.pace
    monkeypatch.setattr(
        track_run, "pace", lambda frames, most: (given.append(most), own(frames, None))[1]
    )
    assert run(*camera(None), "--max-fps", 4.5).returncode == 0
    assert given == [4.5]


def test_points_are_shown_too(run: Run, make_clip: MakeClip) -> None:
    clip = make_clip(frames=3)
    Path("joints.csv").write_text("name,x,y\nnose,20,24\n")
    model = ("--model", clip.model, "--threads", 1, "--backend", "cpu", "--out", OUT)
    done = run("track", clip.source, "--points", "joints.csv", *model, "--serve", 0)
    assert (done.returncode, done.stderr) == (0, "")
    assert "the newest picture is at" in done.stdout


@pytest.fixture
def standard_input(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], None]]:
    """Give bytes to this process's standard input."""
    former, threads = os.dup(0), list[Thread]()
    reading, writing = os.pipe()
    os.dup2(reading, 0)
    os.close(reading)

    def give(data: bytes) -> None:
        def write() -> None:
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(data)

        threads.append(Thread(target=write))
        threads[0].start()

    yield give
    threads[0].join()
    os.dup2(former, 0)
    os.close(former)


@pytest.mark.parametrize(("more", "code"), [(b"", 0), (b"half", 3)])
def test_raw_frames_come_by_standard_input(
    run: Run,
    make_clip: MakeClip,
    standard_input: Callable[[bytes], None],
    more: bytes,
    code: int,
) -> None:
    clip = make_clip(frames=5)
    with open_source(clip.source) as video:
        images = [frame.image.tobytes() for frame in video]
    assert run(*clip.arguments, "--out", "files").returncode == 0
    standard_input(b"".join(images) + more)
    _, _, *others = clip.arguments
    raw = ("--raw-size", "64x48", "--raw-fps", 25, "--no-drop", "--out", OUT)
    done = run("track", "-", *others, *raw)
    assert done.returncode == code
    masks = [
        [path.read_bytes() for path in sorted(Path(name, "masks").iterdir())]
        for name in ("files", OUT)
    ]
    assert len(masks[0]) == 5
    assert {*masks[0]} == {*masks[1]}
    times = [line["time"] for line in read_lines((OUT / "objects.ndjson").read_text())]
    assert times == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])


def test_a_container_in_standard_input_is_decoded(
    run: Run, make_clip: MakeClip, standard_input: Callable[[bytes], None]
) -> None:
    clip = make_clip("clip.avi", frames=6)
    standard_input(clip.source.read_bytes())
    _, _, *others = clip.arguments
    done = run("track", "-", *others, "--no-drop", "--out", OUT)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list((OUT / "masks").iterdir())) == 6


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--raw-size", "64x48"), "pass - as SOURCE"),
        (("--raw-size", "64"), "expected width and height, such as 1280x720"),
        (("--reconnect", "often"), "expected a number of attempts, or forever"),
        (("--reconnect", "-1"), "expected a number of attempts, or forever"),
        (("--serve", "host:"), "expected a port, such as 8080"),
        (("--serve", "65536"), "expected a port, such as 8080"),
        (("--no-masks", "--save-masks", "every"), "pass one of --no-masks and --save-masks"),
        (("--ndjson", "file"), "is not '-'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_opened(
    run: Run, make_clip: MakeClip, options: tuple[str, ...], told: str
) -> None:
    done = run(*make_clip(frames=2).arguments, *options)
    assert done.returncode == 2
    assert told in done.stderr
    assert not Path("vcedge-out").exists()


@pytest.mark.parametrize("option", [("--ndjson", "-"), ("--log-size", "1")])
def test_what_belongs_to_the_log_of_masks_is_refused_for_points(
    run: Run, make_clip: MakeClip, option: tuple[str, str]
) -> None:
    clip = make_clip(frames=2)
    done = run("track", clip.source, "--points", "joints.csv", *option)
    assert done.returncode == 2
    assert "are of the log of --mask" in done.stderr


@pytest.mark.parametrize(
    ("given", "host", "port"),
    [
        ("8080", "127.0.0.1", 8080),
        ("0.0.0.0:80", "0.0.0.0", 80),
        ("[::1]:9", "::1", 9),
        ("camera.local:0", "camera.local", 0),
    ],
)
def test_a_view_is_on_this_machine_alone_unless_a_host_is_named(
    given: str, host: str, port: int
) -> None:
    assert track_live.AddressType().convert(given, None, None) == (host, port)


def test_whoever_can_look_is_told(run: Run, make_clip: MakeClip) -> None:
    done = run(*make_clip(frames=2).arguments, "--serve", "0.0.0.0:0")
    assert "/, for whoever reaches it" in done.stdout
