"""A window that follows the objects beside whole frames: J&F, time a frame, windows that ran away.

On sequences as they are and enlarged to larger cameras' frames, on small objects, and on two to
sixteen objects near each other and far apart. Both track each frame in turn.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge.commands.bench_clip import enlarge
from vcedge.commands.tables import make_table, open_console
from vcedge.doctor.machine import describe_machine
from vcedge.evaluation.crowds import CrowdRecipe, render_crowd
from vcedge.evaluation.davis import DavisScore, SequenceScore, list_sequences, score_sequence
from vcedge.evaluation.davis_folders import find_frames, find_mask_folders
from vcedge.evaluation.in_turn import count_runaways, follow_in_turn
from vcedge_runtime.errors import VcedgeError
from vcedge_runtime.files import write_json
from vcedge_runtime.model.bundle import DEFAULT_MODEL
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.masks import VOID
from vcedge_runtime.video.palette import decode_labels, read_label_png
from vcedge_runtime.video.pictures import list_masks
from vcedge_runtime.video.sources import open_source

WARM_UP = 3
"""Frames of each clip whose time does not count."""
SMALL = (0.06, 0.19)
"""Longer side of a small object in frame heights: 0.1 to 1 % of the frame."""
LARGE = 0.25
"""That of an object in a crowd, where its place has room for it."""
KINDS = ("sequences", "cameras", "small", "crowds")
WHOLE, FOLLOW = "full", "follow"
COLUMNS = (
    *("set", "clips", "J&F full", "J&F follow", "ms full", "ms follow", "ratio"),
    *("ran away", "MB full", "MB follow"),
)

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Clip:
    """What both are given.

    Attributes:
        name: of the clip.
        frames: (H, W, 3) uint8, BGR; read once.
        truth: gives the (H, W) uint8 object ids of every frame, anew each time.
        every: one in so many frames is scored.
    """

    name: str
    frames: Iterable[Picture]
    truth: Callable[[], Iterator[Picture]]
    every: int = 1


@dataclass(frozen=True)
class Outcome:
    """Both on one clip.

    Attributes:
        name: of the clip.
        scores: by window.
        milliseconds: of every counted step, by window.
        memory_bytes: by window.
        ran_away: how often the window left an object that stayed in sight.
    """

    name: str
    scores: dict[str, SequenceScore]
    milliseconds: dict[str, list[float]]
    memory_bytes: dict[str, int]
    ran_away: int


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="JPEGImages and Annotations")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--size", type=int, help="working size; the model's default otherwise")
    parser.add_argument("--window", default=FOLLOW, help="beside full, as vcedge track has it")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--cameras", default="480,1080,2160", help="short sides")
    parser.add_argument(
        "--every", type=int, default=8, help="of a camera's frames, one in so many is scored"
    )
    parser.add_argument("--objects", default="2,4,8,16", help="numbers of objects of a crowd")
    parser.add_argument("--clips", type=int, default=8, help="of each kind that is rendered")
    parser.add_argument("--frames", type=int, default=40, help="of a clip that is rendered")
    parser.add_argument("--sequences", help="names, separated by commas; all otherwise")
    parser.add_argument("--seed", type=int, default=0, help="of the clips")
    parser.add_argument("--threads", type=int, default=0, help="of an engine; 0 lets it choose")
    parser.add_argument("--json", type=Path, default=Path("windows.json"))
    return parser.parse_args()


def list_sets(arguments: argparse.Namespace) -> Iterator[tuple[str, Iterator[Clip]]]:
    """Yield sets of clips by name; clips are opened and rendered when they are asked for."""
    root, kinds = arguments.root, arguments.kinds.split(",")
    names = list_sequences(root, arguments.sequences.split(",") if arguments.sequences else None)
    if "sequences" in kinds:
        yield "sequences", (open_sequence(root, name) for name in names)
    if "cameras" in kinds:
        for short in map(int, arguments.cameras.split(",")):
            clips = (open_sequence(root, name, short, arguments.every) for name in names)
            yield f"enlarged to {short}", clips
    rng = np.random.default_rng(arguments.seed)
    crowd = partial(draw_crowd, rng, names, arguments.frames)
    if "small" in kinds:
        sizes = np.geomspace(*SMALL, arguments.clips).tolist()
        yield "one small object", (render(root, crowd(1, size, 0.5)) for size in sizes)
    if "crowds" in kinds:
        for count in map(int, arguments.objects.split(",")):
            for where, spread in (("near", 0.35), ("far apart", 0.95)):
                draws = (crowd(count, LARGE, spread) for _ in range(arguments.clips))
                yield f"{count} objects, {where}", (render(root, recipe) for recipe in draws)


def open_sequence(root: Path, name: str, short: int = 0, every: int = 1) -> Clip:
    """A sequence, enlarged until its short side has so many pixels; 0 leaves it."""
    paths = list_masks(find_mask_folders(root)[name])
    binary = set(np.unique(read_label_png(paths[0])).tolist()) <= {0, VOID}

    def frames() -> Iterator[Picture]:
        with open_source(find_frames(root, name)) as video:
            for frame in video:
                yield enlarge(frame.image, short, cv2.INTER_CUBIC) if short else frame.image

    def truth() -> Iterator[Picture]:
        for path in paths:
            labels = read_label_png(path)
            ids = np.where(labels == VOID, np.uint8(binary), labels)
            yield enlarge(ids, short, cv2.INTER_NEAREST) if short else ids

    return Clip(name, frames(), truth, every)


def draw_crowd(
    rng: np.random.Generator,
    names: Sequence[str],
    length: int,
    count: int,
    size: float,
    spread: float,
) -> CrowdRecipe:
    """Draw a scene and the objects in it."""
    scene, *others = rng.permutation(len(names)).tolist()
    chosen = tuple(names[others[at % len(others)]] for at in range(count))
    return CrowdRecipe(names[scene], chosen, size, spread, int(rng.integers(2**31)), length)


def render(root: Path, recipe: CrowdRecipe) -> Clip:
    """Render a clip; its name says how much of the frame an object covers."""
    clip = render_crowd(root, recipe)
    name = f"{recipe.scene}+{'+'.join(recipe.names)} of {clip.share:.2%}"
    return Clip(name, clip.frames, lambda: iter(clip.masks))


def compare(trackers: Mapping[str, Tracker], clip: Clip) -> Outcome:
    """Track a clip by both, and score them."""
    found = follow_in_turn(trackers, clip.frames, next(clip.truth()))
    scores = {
        window: score_sequence(
            islice(clip.truth(), 0, None, clip.every),
            map(decode, followed.masks[:: clip.every]),
            name=clip.name,
            binary=False,
        )
        for window, followed in found.items()
    }
    ran_away = count_runaways(clip.truth(), map(decode, found[WHOLE].masks), found[FOLLOW].windows)
    return Outcome(
        clip.name,
        scores,
        {w: each.milliseconds[WARM_UP:] or each.milliseconds for w, each in found.items()},
        {window: followed.memory_bytes for window, followed in found.items()},
        ran_away,
    )


def decode(data: bytes) -> Picture:
    """Read a mask back."""
    return decode_labels(data, "a mask")


def add_up(name: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """A set's figures, of both windows."""
    row: dict[str, Any] = {"set": name, "clips": len(outcomes)}
    row["ran_away"] = sum(outcome.ran_away for outcome in outcomes)
    for window in (WHOLE, FOLLOW):
        score = DavisScore(tuple(outcome.scores[window] for outcome in outcomes))
        times = [ms for outcome in outcomes for ms in outcome.milliseconds[window]]
        row[window] = {
            "j_and_f": score.j_and_f,
            "j": score.region.mean,
            "f": score.boundary.mean,
            "median_ms": float(np.median(times)),
            "mean_ms": float(np.mean(times)),
            "memory_bytes": max(outcome.memory_bytes[window] for outcome in outcomes),
            "sequences": {o.name: o.scores[window].j_and_f for o in outcomes},
        }
    return row


def lay_out(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The table's row under ``COLUMNS``."""
    both = row[WHOLE], row[FOLLOW]
    ratio = both[1]["median_ms"] / both[0]["median_ms"]
    return (
        row["set"],
        str(row["clips"]),
        *(f"{each['j_and_f']:.3f}" for each in both),
        *(f"{each['median_ms']:.1f}" for each in both),
        f"{ratio:.2f}",
        str(row["ran_away"]),
        *(f"{each['memory_bytes'] / 1e6:.1f}" for each in both),
    )


def main() -> None:
    """Run the benchmark."""
    arguments = parse_arguments()
    value: dict[str, Any] = {"model": arguments.model, "window": arguments.window, "rows": []}
    value["machine"] = describe_machine().to_json()
    options = {"size": arguments.size, "threads": arguments.threads, "backend": "cpu"}
    with ExitStack() as stack:
        trackers = {
            name: stack.enter_context(
                Tracker.open(arguments.model, overrides={"window": window}, **options)
            )
            for name, window in ((WHOLE, WHOLE), (FOLLOW, arguments.window))
        }
        value["size"] = trackers[WHOLE].size
        for name, clips in list_sets(arguments):
            outcomes = []
            for clip in clips:
                outcomes.append(compare(trackers, clip))
                told = ", ".join(f"{s.j_and_f:.3f}" for s in outcomes[-1].scores.values())
                print(f"{name}: {clip.name}: J&F {told}", file=sys.stderr)
            value["rows"].append(add_up(name, outcomes))
            # After every set, so that a run that is stopped has given something.
            write_json(arguments.json, value)
    table = make_table(COLUMNS, [lay_out(row) for row in value["rows"]], markdown=True)
    open_console(markdown=True).print(table)


if __name__ == "__main__":
    try:
        main()
    except VcedgeError as exc:
        sys.exit(f"windows.py: {exc}")
