"""Whether memory grows: a looped clip is tracked and written for thousands of frames.

The whole of ``vcedge track`` runs on one long video. Exit code 1 where the process, or what the
tracker holds, grows by more than the limit between the two frames.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass
from itertools import count, cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge.cli import main as track
from vcedge.commands.health import STATUS, read_process_bytes
from vcedge.commands.tables import make_table, open_console
from vcedge_runtime.errors import VcedgeError
from vcedge_runtime.files import write_json
from vcedge_runtime.followed import StepResult
from vcedge_runtime.model.bundle import DEFAULT_MODEL
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.sources import open_source


@dataclass(frozen=True)
class Sample:
    """Memory after one frame.

    Attributes:
        frame: frames tracked so far.
        process_bytes: resident memory of the process.
        tracker_bytes: what the tracker says that it holds.
    """

    frame: int
    process_bytes: int
    tracker_bytes: int


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", required=True, help="a clip; a long one is cut, a short looped")
    parser.add_argument("--mask", required=True, help="mask of its first frame")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--size", type=int, help="working size; the model's default otherwise")
    parser.add_argument("--window", help="as vcedge track has it; the model's own otherwise")
    parser.add_argument("--clip-frames", type=int, default=100, help="frames before it is looped")
    parser.add_argument("--first", type=int, default=200, help="frame of the first sample")
    parser.add_argument("--frames", type=int, default=3000, help="frame of the last sample")
    parser.add_argument("--limit", type=float, default=0.02, help="share it may grow by")
    parser.add_argument("--json", type=Path, default=Path("memory_growth.json"))
    return parser.parse_args()


def write_loop(arguments: argparse.Namespace, path: Path) -> None:
    """Write a clip's frames again and again into one video."""
    with open_source(arguments.source) as video:
        frames = list(islice(video, arguments.clip_frames))
        code = cv2.VideoWriter.fourcc(*"mp4v")
        loop = cv2.VideoWriter(str(path), code, 25.0, video.frame_hw[::-1])
    for frame in islice(cycle(frames), arguments.frames):
        loop.write(frame.image)
    loop.release()


def sample_memory(arguments: argparse.Namespace, folder: Path) -> list[Sample]:
    """Track, and sample memory each time as many frames are done as ``--first``, and at the end."""
    write_loop(arguments, folder / "loop.mp4")
    words = ["track", folder / "loop.mp4", "--mask", arguments.mask, "--model", arguments.model]
    words += ["--size", arguments.size] if arguments.size else []
    words += ["--window", arguments.window] if arguments.window else []
    samples, step, steps = list[Sample](), Tracker.step, count(2)

    def step_and_sample(tracker: Tracker, image: NDArray[np.uint8]) -> StepResult:
        result, frames = step(tracker, image), next(steps)
        if frames % arguments.first == 0 or frames == arguments.frames:
            samples.append(Sample(frames, read_process_bytes(), tracker.memory_bytes))
            print(f"frame {frames}: {samples[-1].process_bytes / 1e6:.1f} MB", file=sys.stderr)
        return result

    Tracker.step = step_and_sample  # type: ignore[method-assign,assignment]
    try:
        track([*map(str, words), "--backend", "cpu", "--out", str(folder / "out")])
    except SystemExit as end:
        if end.code:
            raise
    finally:
        Tracker.step = step  # type: ignore[method-assign,assignment]
    return samples


def main() -> int:
    """Run the benchmark."""
    arguments = parse_arguments()
    if not STATUS.exists():
        raise SystemExit(f"{STATUS} is not there; expected Linux, which says what a process holds")
    with TemporaryDirectory() as folder:
        samples = sample_memory(arguments, Path(folder))
    first, last = samples[0], samples[-1]
    rows, worst = [], 0.0
    for name in ("process_bytes", "tracker_bytes"):
        before, after = getattr(first, name), getattr(last, name)
        worst = max(worst, after / before - 1)
        cells = (f"{before / 1e6:.1f}", f"{after / 1e6:.1f}", f"{after / before - 1:+.2%}")
        rows.append((name.removesuffix("_bytes"), *cells))
    columns = ("memory", f"MB at frame {first.frame}", f"MB at frame {last.frame}", "growth")
    open_console(markdown=True).print(make_table(columns, rows, markdown=True))
    value = {"growth": worst, "limit": arguments.limit, "samples": [asdict(s) for s in samples]}
    write_json(arguments.json, value)
    return int(worst > arguments.limit)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except VcedgeError as exc:
        sys.exit(f"memory_growth.py: {exc}")
