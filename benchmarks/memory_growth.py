"""Whether memory grows: a looped clip is tracked and written for thousands of frames.

The whole of ``vcedge track`` runs, overlay and log included. Exit code 1 where the process, or what
the tracker holds, grows by more than the limit between the two frames.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from vcedge.commands.tables import make_table, open_console
from vcedge_runtime.errors import VcedgeError
from vcedge_runtime.model.bundle import DEFAULT_MODEL
from vcedge_runtime.session import SessionReport, track_frames
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.masks import read_mask
from vcedge_runtime.video.sinks import MaskFolder, ObjectLog, OverlayVideo, Sink
from vcedge_runtime.video.sources import Frame, Source, open_source

STATUS = Path("/proc/self/status")


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
    parser.add_argument("--clip-frames", type=int, default=100, help="frames before it is looped")
    parser.add_argument("--first", type=int, default=200, help="frame of the first sample")
    parser.add_argument("--frames", type=int, default=3000, help="frame of the last sample")
    parser.add_argument("--limit", type=float, default=0.02, help="share it may grow by")
    parser.add_argument("--json", type=Path, default=Path("memory_growth.json"))
    return parser.parse_args()


def loop_frames(video: Source, clip_frames: int, frames: int) -> Iterator[Frame]:
    """Yield a clip's frames again and again; names repeat, so that its files are replaced."""
    given = 0
    while given < frames:
        for frame in video:
            if given == frames or frame.index == clip_frames:
                break
            yield frame
            given += 1


def read_process_bytes() -> int:
    """Read the resident memory of this process from Linux."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmRSS:"))
    return 1024 * int(line.split()[1])


def sample_memory(arguments: argparse.Namespace, folder: Path) -> list[Sample]:
    """Track, and sample memory each time as many frames are done as ``--first``, and at the end."""
    samples = []
    with (
        open_source(arguments.source) as video,
        Tracker.open(arguments.model, size=arguments.size, backend="cpu") as tracker,
        ExitStack() as stack,
    ):
        sinks: list[Sink] = [
            stack.enter_context(MaskFolder(folder / "masks")),
            stack.enter_context(OverlayVideo(folder / "overlay.mp4")),
            stack.enter_context(ObjectLog(folder / "objects.ndjson")),
        ]

        def take_sample(report: SessionReport) -> None:
            if report.frames % arguments.first == 0 or report.frames == arguments.frames:
                sample = Sample(report.frames, read_process_bytes(), tracker.memory_bytes)
                samples.append(sample)
                print(f"frame {sample.frame}: {sample.process_bytes / 1e6:.1f} MB", file=sys.stderr)

        mask = read_mask(arguments.mask, frame_hw=video.frame_hw)
        frames = loop_frames(video, arguments.clip_frames, arguments.frames)
        track_frames(tracker, frames, mask, sinks, SessionReport(), take_sample)
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
    arguments.json.write_text(json.dumps(value, indent=1) + "\n")
    return int(worst > arguments.limit)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except VcedgeError as exc:
        sys.exit(f"memory_growth.py: {exc}")
