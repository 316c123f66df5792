"""A looped stream over loopback, cut and restored: how old frames are, and whether memory grows.

FFmpeg serves a clip again and again as a camera would, in real time, and is killed some times; the
whole of ``vcedge track`` follows it. Exit code 1 where the age of a frame at p95 is more than the
time between two frames and a step, where the stream did not come back each time, or where the
process grows by more than the limit between the first sample, after the first cut, and the last.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from subprocess import Popen
from tempfile import TemporaryDirectory
from threading import Event, Thread

import numpy as np
from numpy.typing import NDArray

from vcedge.cli import main as track
from vcedge.commands.health import read_process_bytes
from vcedge.commands.tables import make_table, open_console
from vcedge_runtime.errors import VcedgeError
from vcedge_runtime.files import write_json
from vcedge_runtime.followed import StepResult
from vcedge_runtime.model.bundle import DEFAULT_MODEL
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.frame import Frame
from vcedge_runtime.video.live import LiveSource

ADDRESSES = {
    "http": ("http://127.0.0.1:{}/live.ts", ["-listen", "1"]),
    "tcp": ("tcp://127.0.0.1:{}?listen=1", []),
    "udp": ("udp://127.0.0.1:{}?pkt_size=1316", []),  # silence is noticed after 15 s
}
"""Where FFmpeg serves, and with which options."""


@dataclass(frozen=True)
class Sample:
    """Memory at one time.

    Attributes:
        seconds: since the run began.
        process_bytes: resident memory of the process.
    """

    seconds: float
    process_bytes: int


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", required=True, type=Path, help="a video, which is looped")
    parser.add_argument("--mask", required=True, help="mask of its first frame")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--size", type=int, help="working size; the model's default otherwise")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--over", choices=[*ADDRESSES], default="http")
    parser.add_argument("--port", type=int, default=8970)
    parser.add_argument("--fps", type=float, default=30, help="of the stream")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--cuts", type=int, default=3, help="how many times the server is killed")
    parser.add_argument("--away", type=float, default=4, help="seconds until it is there again")
    parser.add_argument("--step-ms", type=float, help="a step takes as long; nothing is tracked")
    parser.add_argument(
        "--first", type=float, default=0.35, help="share of the run until memory is sampled first"
    )
    parser.add_argument("--limit", type=float, default=0.02, help="share memory may grow by")
    parser.add_argument("--json", type=Path, default=Path("live.json"))
    return parser.parse_args()


@contextmanager
def served(arguments: argparse.Namespace) -> Iterator[None]:
    """Serve the clip meanwhile, with cuts that are evenly spread."""
    address, options = ADDRESSES[arguments.over]
    command = ["ffmpeg", "-nostdin", "-loglevel", "fatal", "-re", "-stream_loop", "-1"]
    command += ["-i", str(arguments.source), "-an", "-r", str(arguments.fps), "-c:v", "libx264"]
    command += ["-preset", "ultrafast", "-tune", "zerolatency", "-g", "30", "-f", "mpegts"]
    command += [*options, address.format(arguments.port)]
    done = Event()

    def serve() -> None:
        lasts = 60 * arguments.minutes / (arguments.cuts + 1) - arguments.away
        for cuts_left in range(arguments.cuts, -1, -1):
            with Popen(command, start_new_session=True) as process:
                done.wait(max(1.0, lasts) if cuts_left else None)
                process.kill()
            done.wait(arguments.away)

    server = Thread(target=serve)
    server.start()
    try:
        yield
    finally:
        done.set()
        server.join()


@contextmanager
def sampled(arguments: argparse.Namespace, samples: list[Sample]) -> Iterator[None]:
    """Sample memory meanwhile, and interrupt the run at its end, as Ctrl-C does."""
    done, began = Event(), time.monotonic()
    last = 60 * arguments.minutes
    # A shell has what it starts in the background ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def sample() -> None:
        for due in chain(np.arange(arguments.first * last, last, 10), [last]):
            if done.wait(max(0, began + due - time.monotonic())):
                return
            samples.append(Sample(round(time.monotonic() - began, 1), read_process_bytes()))
        os.kill(os.getpid(), signal.SIGINT)

    sampler = Thread(target=sample)
    sampler.start()
    try:
        yield
    finally:
        done.set()
        sampler.join()


@contextmanager
def slowed(step_ms: float | None, steps_ms: list[float]) -> Iterator[None]:
    """Note what steps take; where a time is given, do nothing for as long instead."""
    own = Tracker.step

    def step(tracker: Tracker, frame: NDArray[np.uint8]) -> StepResult:
        began = time.perf_counter()
        if step_ms is None:
            result = own(tracker, frame)
        else:
            time.sleep(step_ms / 1000)
            ids = tracker.object_ids
            result = StepResult(np.ones(frame.shape[:2], np.uint8), dict.fromkeys(ids, 1.0), {})
        steps_ms.append(1000 * (time.perf_counter() - began))
        return result

    Tracker.step = step  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        Tracker.step = own  # type: ignore[method-assign,assignment]


@contextmanager
def noted(arrivals_s: list[float]) -> Iterator[None]:
    """Note when frames come: a server on a busy machine does not keep time."""
    own = LiveSource._receive

    def receive(source: LiveSource, frame: Frame) -> Frame:
        arrivals_s.append(time.monotonic())
        return own(source, frame)

    LiveSource._receive = receive  # type: ignore[method-assign]
    try:
        yield
    finally:
        LiveSource._receive = own  # type: ignore[method-assign]


def follow(arguments: argparse.Namespace, out: Path) -> None:
    """Run ``vcedge track`` on the stream until it is interrupted."""
    address = ADDRESSES[arguments.over][0].format(arguments.port).partition("?")[0]
    words = ["track", address, "--mask", arguments.mask, "--model", arguments.model]
    words += ["--size", arguments.size] if arguments.size else []
    words += ["--threads", arguments.threads, "--backend", "cpu", "--out", out]
    words += ["--reconnect", "forever", "--headless", "--save-masks", "none", "--log-size", 10]
    words += ["--log-files", 999]
    with suppress(KeyboardInterrupt):
        try:
            track(list(map(str, words)))
        except SystemExit as end:
            if end.code != 128 + signal.SIGINT:
                raise


def read_log(out: Path) -> list[dict[str, float]]:
    """Read what the log says of every frame, in the order of the frames."""
    kept, facts = ("frame", "time", "age_ms", "dropped"), []
    for path in out.glob("objects*.ndjson"):
        told = map(json.loads, path.read_text().splitlines())
        facts += [{name: line[name] for name in kept if name in line} for line in told]
    return sorted(facts, key=lambda line: line["frame"])


@dataclass(frozen=True)
class Findings:
    """What was seen of a run.

    Attributes:
        frames: tracked.
        dropped: since a newer one was there.
        returns: interruptions that were longer than the server was away.
        age_ms: how old a frame was when its mask was ready: median and p95.
        bound_ms: the time between two frames as they came, and a step, both at p95.
        growth: share by which memory grew between the first sample and the last.
    """

    frames: int
    dropped: int
    returns: int
    age_ms: tuple[float, float]
    bound_ms: float
    growth: float


def find(
    arguments: argparse.Namespace,
    lines: list[dict[str, float]],
    steps_ms: list[float],
    arrivals_s: list[float],
    samples: list[Sample],
) -> Findings:
    """Tell what was seen."""
    spacing_ms = 1000 * np.diff(arrivals_s)
    ages_ms = [line["age_ms"] for line in lines if "age_ms" in line]
    median, high = np.percentile(ages_ms, (50, 95)).tolist()
    return Findings(
        len(lines),
        int(sum(line["dropped"] for line in lines)),
        int(sum(np.diff([line["time"] for line in lines]) > arguments.away)),
        (median, high),
        float(np.percentile(spacing_ms, 95) + np.percentile(steps_ms, 95)),
        samples[-1].process_bytes / samples[0].process_bytes - 1,
    )


def print_findings(found: Findings, samples: list[Sample], cuts: int) -> None:
    """Print the table."""
    median, high = found.age_ms
    memory = [
        (f"memory after {sample.seconds:.0f} s", f"{sample.process_bytes / 1e6:.1f} MB")
        for sample in (samples[0], samples[-1])
    ]
    rows = [
        ("frames tracked", f"{found.frames}"),
        ("frames dropped", f"{found.dropped}"),
        ("times that the stream came back", f"{found.returns} of {cuts}"),
        ("age, median", f"{median:.0f} ms"),
        ("age, p95", f"{high:.0f} ms"),
        ("time between two frames, and a step, at p95", f"{found.bound_ms:.0f} ms"),
        *memory,
        ("growth", f"{found.growth:+.2%}"),
    ]
    open_console(markdown=True).print(make_table(("what", "seen"), rows, markdown=True))


def main() -> int:
    """Run the benchmark."""
    arguments = parse_arguments()
    samples, steps_ms, arrivals_s = list[Sample](), list[float](), list[float]()
    with TemporaryDirectory() as folder, slowed(arguments.step_ms, steps_ms), noted(arrivals_s):
        with served(arguments), sampled(arguments, samples):
            time.sleep(1)  # FFmpeg listens
            follow(arguments, Path(folder))
        lines = read_log(Path(folder))
    found = find(arguments, lines, steps_ms, arrivals_s, samples)
    print_findings(found, samples, arguments.cuts)
    value = {**asdict(found), "samples": [asdict(sample) for sample in samples]}
    write_json(arguments.json, value)
    good = found.age_ms[1] <= found.bound_ms and found.returns >= arguments.cuts
    return int(not (good and found.growth <= arguments.limit))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except VcedgeError as exc:
        sys.exit(f"live.py: {exc}")
