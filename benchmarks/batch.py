"""What many videos cost: start-up paid once, processes against threads, length, a long manifest.

Clips are cut out of one source and written as videos of their own. Each figure is a ratio of two
that were measured in one run; exit code 1 where one is beyond its limit.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import cv2
from rich.progress import Progress

from vcedge.commands.batch import work_through
from vcedge.commands.batch_jobs import Job, JobList
from vcedge.commands.batch_report import BatchReport
from vcedge.commands.batch_work import Tracked
from vcedge.commands.fleet_options import Staff
from vcedge.commands.health import read_process_bytes
from vcedge.commands.tables import make_table, open_console
from vcedge.fleet.crews import Tell
from vcedge.fleet.table import DONE, TABLE_NAME, Row, Table
from vcedge_runtime.files import write_json
from vcedge_runtime.model.bundle import DEFAULT_MODEL
from vcedge_runtime.video.sources import open_source

LEAST_GAIN, MOST_GROWTH, MOST_SLOWER = 1.25, 0.05, 0.03
"""Throughput against a loop over ``track``; memory of the driver; what a long video is slower."""
PARTS = ("throughput", "length", "manifest")
Figures = dict[str, float]


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", required=True, help="a clip; frames come again where it ends")
    parser.add_argument("--mask", type=Path, required=True, help="mask of its first frame")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--size", type=int, help="working size; the model's default otherwise")
    parser.add_argument("--clips", type=int, default=12, help="of the throughput")
    parser.add_argument("--frames", type=int, default=20, help="of each of them")
    parser.add_argument("--rounds", type=int, default=2, help="of throughput and length")
    parser.add_argument("--short", type=int, default=100, help="frames of short videos")
    parser.add_argument("--long", type=int, default=10_000, help="frames of the long one")
    parser.add_argument("--lines", type=int, default=100_000, help="of the manifest")
    parser.add_argument("--ray", help="a cluster that does the manifest; two processes otherwise")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS)
    parser.add_argument("--json", type=Path, default=Path("batch.json"))
    return parser.parse_args()


def write_clip(arguments: argparse.Namespace, path: Path, frames: int) -> None:
    """Write the source's frames, from its beginning and again, with the mask beside them."""
    with open_source(arguments.source) as video:
        code = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(path), code, 25.0, video.frame_hw[::-1])
        held = list(islice(video, min(frames, 100)))
    # To and fro, so that nothing jumps.
    for frame in islice(cycle([*held, *held[-2:0:-1]]), frames):
        writer.write(frame.image)
    writer.release()
    path.with_suffix(".png").write_bytes(arguments.mask.read_bytes())


class Taken(NamedTuple):
    """What a command took.

    Attributes:
        seconds: by the clock on the wall.
        cpu_seconds: of all its processes, whatever else the machine did.
    """

    seconds: float
    cpu_seconds: float

    @classmethod
    def sum(cls, parts: Iterable[Taken]) -> Taken:
        """What several took together."""
        return cls(*(sum(column) for column in zip(*parts, strict=True)))


def run_command(arguments: argparse.Namespace, *words: object) -> Taken:
    """Run a command of vcedge in a process of its own."""
    model = ("--model", arguments.model, "--backend", "cpu")
    size = ("--size", arguments.size) if arguments.size else ()
    command = [sys.executable, "-m", "vcedge", *map(str, (*words, *model, *size))]
    began, before = time.perf_counter(), getrusage(RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = getrusage(RUSAGE_CHILDREN)
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Taken(time.perf_counter() - began, cpu_seconds)


def take_best(ways: Mapping[str, Callable[[], Taken]], rounds: int) -> dict[str, Taken]:
    """The least that each way takes, in turn: what else the machine does comes and goes."""
    taken = [{name: run() for name, run in ways.items()} for _ in range(rounds)]
    return {name: Taken(*map(min, zip(*(t[name] for t in taken), strict=True))) for name in ways}


def measure_throughput(arguments: argparse.Namespace, folder: Path) -> Figures:
    """Short clips: a loop over ``track``, one tracker with two threads, two with one."""
    clips = folder / "clips"
    clips.mkdir()
    for number in range(arguments.clips):
        write_clip(arguments, clips / f"{number:03d}.mp4", arguments.frames)

    def loop() -> Taken:
        return Taken.sum(
            run_command(
                *(arguments, "track", clip, "--mask", clip.with_suffix(".png")),
                *("--out", folder / "loop" / clip.stem, "--overwrite"),
            )
            for clip in sorted(clips.glob("*.mp4"))
        )

    def batch(workers: int, threads: int) -> Taken:
        own = ("--workers", workers, "--threads", threads, "--overwrite")
        return run_command(arguments, "batch", clips, "--out", folder / f"out{workers}", *own)

    ways = {"loop": loop, "1 of 2": partial(batch, 1, 2), "2 of 1": partial(batch, 2, 1)}
    best = take_best(ways, arguments.rounds)
    frames = arguments.clips * arguments.frames
    return {
        **{f"{name}, frames/s": frames / taken.seconds for name, taken in best.items()},
        **{f"{name}, CPU ms a frame": 1e3 * t.cpu_seconds / frames for name, t in best.items()},
        "2 of 1 against 1 of 2": best["1 of 2"].seconds / best["2 of 1"].seconds,
        "gain": best["loop"].seconds / best["2 of 1"].seconds,
        "gain in CPU seconds": best["loop"].cpu_seconds / best["2 of 1"].cpu_seconds,
    }


def measure_length(arguments: argparse.Namespace, folder: Path) -> Figures:
    """A long video beside as many frames of short ones, by one tracker each."""
    count = max(1, arguments.long // arguments.short)
    frames = {"short": count * arguments.short, "long": arguments.long}
    for name, length, times in (("short", arguments.short, count), ("long", arguments.long, 1)):
        write_clip(arguments, folder / f"{name}.mp4", length)
        lines = times * [(f"{name}.mp4", f"{name}.png")]
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("video", "mask"), *lines])

    def track(name: str) -> Taken:
        taken = run_command(
            *(arguments, "batch", folder / f"{name}.csv", "--out", folder / name, "--overwrite"),
            *("--workers", 1, "--threads", 1, "--no-overlay", "--no-masks"),
        )
        with (folder / name / TABLE_NAME).open(newline="") as file:
            seconds = sum(float(row["seconds"]) for row in csv.DictReader(file))
        return Taken(seconds, taken.cpu_seconds)

    best = take_best({name: partial(track, name) for name in frames}, arguments.rounds)
    speed = {name: frames[name] / taken.seconds for name, taken in best.items()}
    by_cpu = {name: frames[name] / taken.cpu_seconds for name, taken in best.items()}
    return {
        **{f"{name}, frames/s": figure for name, figure in speed.items()},
        **{f"{name}, frames a CPU second": figure for name, figure in by_cpu.items()},
        "slower": speed["short"] / speed["long"] - 1,
        "slower in CPU seconds": by_cpu["short"] / by_cpu["long"] - 1,
    }


def stand_in(job: Job, tell: Tell) -> Tracked:
    """Do nothing with a video."""
    return Tracked(Row(job.line, job.video, job.results, DONE, 1, 0.001, 0.5))


def measure_manifest(arguments: argparse.Namespace, folder: Path) -> Figures:
    """The driver's memory along a long manifest of which nothing is tracked."""
    path = folder / "long.csv"
    with path.open("w") as file:
        file.write("video,mask,size\n")
        file.writelines(
            f"videos/{n:06d}.mp4,masks/{n:06d}.png,256\n" for n in range(arguments.lines)
        )
    jobs = JobList(path)
    jobs.survey()
    samples = list[float]()
    every = max(1, arguments.lines // 50)

    def sampled() -> Iterator[Job]:
        for number, job in enumerate(jobs):
            if number % every == 0:
                samples.append(read_process_bytes() / 1e6)
            yield job

    began = time.perf_counter()
    staff = Staff(workers=None if arguments.ray else 2, ray=arguments.ray)
    with staff.open(stand_in, 2) as crew, Table(folder / TABLE_NAME) as table:
        report = BatchReport(open_console(quiet=True), Progress(disable=True), jobs.videos)
        work_through(crew, sampled(), table, report)
    samples.append(read_process_bytes() / 1e6)
    first = samples[len(samples) // 10]
    return {
        "lines/s": arguments.lines / (time.perf_counter() - began),
        "after a tenth, MB": first,
        "at most, MB": max(samples),
        "at the end, MB": samples[-1],
        "growth": max(samples) / first - 1,
    }


MEASURES: dict[str, Callable[[argparse.Namespace, Path], Figures]] = {
    "throughput": measure_throughput,
    "length": measure_length,
    "manifest": measure_manifest,
}
LIMITS: dict[str, Callable[[Figures], bool]] = {
    "throughput": lambda found: found["gain"] >= LEAST_GAIN,
    "length": lambda found: found["slower in CPU seconds"] <= MOST_SLOWER,
    "manifest": lambda found: found["growth"] <= MOST_GROWTH,
}


def main() -> int:
    """Run the benchmark."""
    arguments = parse_arguments()
    console = open_console(markdown=True)
    found: dict[str, Any] = {}
    rows: list[Sequence[str]] = []
    for part in arguments.only:
        with TemporaryDirectory() as folder:
            figures = MEASURES[part](arguments, Path(folder))
        holds = LIMITS[part](figures)
        found[part] = {**figures, "holds": holds}
        rows += [(part, name, f"{figure:.3f}") for name, figure in figures.items()]
    console.print(make_table(("part", "what", "figure"), rows, markdown=True, left=2))
    settings = {name: str(value) for name, value in vars(arguments).items()}
    write_json(arguments.json, {"settings": settings, **found})
    return int(not all(part["holds"] for part in found.values()))


if __name__ == "__main__":
    sys.exit(main())
