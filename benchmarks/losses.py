"""Whether anything is lost: commands are killed at random moments, and run on a disk that is full.

``vcedge track``, ``export`` and ``train base`` run on a small clip of their own. After each kill
(SIGKILL), what stands under a final name must be whole, and the same command must run to its end,
``train`` with ``--resume`` where there is a checkpoint. On a full disk (a small tmpfs, which root
alone can mount) a command must end in one line and exit code 2, and leave nothing half written.
Exit code 1 where something was lost.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from vcedge.commands.tables import make_table, open_console
from vcedge_runtime.demo.clip import render_demo_clip
from vcedge_runtime.errors import VcedgeError
from vcedge_runtime.files import write_json
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.video.palette import read_label_png, write_label_png
from vcedge_runtime.video.sinks import OverlayVideo
from vcedge_runtime.video.sources import Frame, open_source

TINY = Path(__file__).parents[1] / "tests" / "data" / "tiny"
FRAMES, FRAME_HW = 40, (96, 160)
GOOD = ("whole", "ended before", "told", "fits")
"""What may be found."""


@dataclass(frozen=True)
class Subject:
    """A command that is ended in the middle.

    Attributes:
        name: of the command.
        arguments: the whole command line, from where something may have been left.
        check: raises where something that stands in a folder is not whole.
        finished: raises where the command's whole result does not stand there.
    """

    name: str
    arguments: Callable[[Path], list[object]]
    check: Callable[[Path], None]
    finished: Callable[[Path], None]


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="of each command")
    parser.add_argument("--fills", type=int, default=10, help="sizes of disk of each command")
    parser.add_argument("--only", help="one of track, export, train")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", type=Path, default=Path("losses.json"))
    return parser.parse_args()


def write_inputs(folder: Path) -> None:
    """Write a clip and its first mask."""
    (folder / "videos").mkdir(parents=True)
    with OverlayVideo(folder / "videos" / "clip.mp4", 25) as video:
        for index, (image, labels) in enumerate(render_demo_clip(frames=FRAMES, frame_hw=FRAME_HW)):
            frame = Frame(index, f"{index:05d}", image)
            video.write(frame, np.zeros_like(labels), {})
            if index == 0:
                write_label_png(folder / "first.png", labels)


def run(arguments: Sequence[object], kill_after: float | None = None) -> tuple[int, str]:
    """Run a command, killed after some seconds: its exit code and its error stream."""
    command = [sys.executable, "-m", "vcedge", *map(str, arguments)]
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path), **os.environ}
    with subprocess.Popen(command, env=environment, stdout=-1, stderr=-1, text=True) as process:
        try:
            _, error = process.communicate(timeout=kill_after)
        except subprocess.TimeoutExpired:
            process.kill()
            _, error = process.communicate()
    return process.returncode, error


def check_track(out: Path) -> None:
    """Require whole masks, whole lines, and an overlay that is whole where it stands."""
    masks = [read_label_png(path) for path in out.glob("masks/[0-9]*.png")]
    log, overlay = out / "objects.ndjson", out / "overlay.mp4"
    lines = [json.loads(line) for line in whole_lines(log)]
    # The mask of the frame under way may stand already.
    if len(masks) - len(lines) not in (0, 1):
        raise ValueError(f"{len(masks)} masks and {len(lines)} lines")
    if overlay.exists():
        with open_source(overlay) as video:
            if len(list(video)) != len(lines):
                raise ValueError(f"{overlay} lacks frames")


def whole_lines(path: Path) -> list[str]:
    """Lines of a log whose ends stand."""
    return path.read_text().split("\n")[:-1] if path.exists() else []


def check_export(out: Path) -> None:
    """Require that a bundle that stands is whole and proven."""
    if out.exists() and not Bundle.open(out).verification["passes"]:
        raise ValueError(f"{out} is not proven")


def check_train(out: Path) -> None:
    """Require a checkpoint, weights and cache that can be read, and a log of whole lines."""
    import torch

    from vcedge.models.weights import load_weights

    for path in out.glob("checkpoint.pt"):
        torch.load(path, weights_only=True)
    for path in out.glob("weights.safetensors"):
        load_weights(str(path))
    for path in out.parent.glob("cache/[!.]*.npy"):
        np.load(path)
    steps = [json.loads(line)["step"] for line in whole_lines(out / "log.jsonl")]
    if steps != sorted(set(steps)):
        raise ValueError(f"steps {steps} were reported")


def make_subjects(inputs: Path) -> list[Subject]:
    """The commands, on the clip of a folder."""
    track = ["track", inputs / "videos" / "clip.mp4", "--mask", inputs / "first.png"]
    track += ["--model", TINY, "--backend", "cpu", "--threads", 1]
    export = ["export", TINY, "--fp16", "--frames", 3, "--no-engines"]
    train = ["train", "base", "--videos", inputs / "videos", "--steps", 30, "--batch", 1]
    train += ["--sizes", "1.0:32", "--device", "cpu"]

    def resume(out: Path) -> list[object]:
        begun = (out / "checkpoint.pt").exists()
        return [*train, "--out", out, "--cache", out.parent / "cache", *["--resume"] * begun]

    def require(*names: str) -> Callable[[Path], None]:
        def finished(out: Path) -> None:
            missing = [name for name in names if not (out / name).exists()]
            litter = [path for path in out.parent.rglob(".*") if path.name != ".vcedge-run.ndjson"]
            if missing or litter:
                raise ValueError(f"missing {missing}, left over {litter}")

        return finished

    last = f"masks/{FRAMES - 1:05d}.png"
    return [
        Subject(
            "track",
            lambda out: [*track, "--out", out, "--overwrite"],
            check_track,
            require("overlay.mp4", "objects.ndjson", last),
        ),
        Subject(
            "export",
            lambda out: [*export, "--out", out, "--overwrite"],
            check_export,
            require("bundle.json"),
        ),
        Subject("train", resume, check_train, require("weights.safetensors", "checkpoint.pt")),
    ]


def kill_often(subject: Subject, kills: int, scratch: Path, chance: random.Random) -> list[str]:
    """Kill a command at random moments and let it run to its end each time.

    Returns:
        What was found after each kill: ``whole``, or what was lost.
    """
    began = time.monotonic()
    code, error = run(subject.arguments(scratch / "whole" / "out"))
    lasts = time.monotonic() - began
    if code:
        raise RuntimeError(f"{subject.name} cannot run: {error}")
    found = []
    for number in range(kills):
        out = scratch / str(number // 2) / "out"  # every second time over what is there
        code, _ = run(subject.arguments(out), kill_after=chance.uniform(0, 1.1 * lasts))
        found.append(_judge(subject, out, "ended before" if code == 0 else "whole"))
    return found


def _judge(subject: Subject, out: Path, word: str) -> str:
    try:
        subject.check(out)
        code, error = run(subject.arguments(out))
        if code:
            return f"does not go on: {error.strip().splitlines()[-1]}"
        subject.check(out)
        subject.finished(out)
    except (VcedgeError, OSError, ValueError, RuntimeError, KeyError, EOFError) as exc:
        return f"lost: {exc}"
    return word


@contextmanager
def small_disk(place: Path, kilobytes: int) -> Iterator[Path]:
    """A disk of some kilobytes, in memory."""
    place.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
    subprocess.run(mount, check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill_often(subject: Subject, fills: int, scratch: Path) -> list[str]:
    """Run a command on disks of several sizes, all too small but for the last."""
    out = scratch / "measure" / "out"
    run(subject.arguments(out))
    needed = sum(path.stat().st_size for path in out.parent.rglob("*") if path.is_file()) / 1024
    found = []
    for number in range(fills):
        kilobytes = max(4, round(needed * (number + 0.5) / fills / 4) * 4)
        with small_disk(scratch / f"disk{number}", kilobytes) as disk:
            code, error = run(subject.arguments(disk / "out"))
            lines = [line for line in error.splitlines() if line.startswith("vcedge: ")]
            told = code == 2 and len(lines) == 1 and "No space left on device" in lines[0]
            if code and (not told or "Traceback" in error):
                found.append(f"told badly ({code}): {error.strip()[-200:]}")
                continue
            try:
                subject.check(disk / "out")
            except (VcedgeError, OSError, ValueError, RuntimeError, KeyError, EOFError) as exc:
                found.append(f"lost: {exc}")
                continue
            found.append("told" if code else "fits")
    return found


def main() -> int:
    """Kill and fill, print the counts, write them."""
    arguments, rows, value = parse_arguments(), [], {}
    lost = 0
    with TemporaryDirectory() as scratch:
        inputs = Path(scratch) / "inputs"
        write_inputs(inputs)
        for subject in make_subjects(inputs):
            if arguments.only not in (None, subject.name):
                continue
            chance = random.Random(arguments.seed)
            folder = Path(scratch) / subject.name
            kills = kill_often(subject, arguments.kills, folder, chance)
            fills = fill_often(subject, arguments.fills, folder / "full")
            value[subject.name] = {"kills": Counter(kills), "full disks": Counter(fills)}
            bad = [
                word
                for word in (*kills, *fills)
                if word not in ("whole", "ended before", "told", "fits")
            ]
            lost += len(bad)
            counts = (kills.count("whole"), kills.count("ended before"), fills.count("told"))
            rows.append((subject.name, *map(str, counts), str(fills.count("fits")), str(len(bad))))
    columns = ("command", "killed, whole", "ended before", "full, told", "fits", "lost")
    open_console().print(make_table(columns, rows))
    write_json(arguments.json, value)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
