"""Run-time settings chosen by halves: what is best on one half of masked videos, told of the other.

Rows come from a file like ``ablations.json``, whose first row is what is there today. Videos are
dealt to two halves in turn, in the order of their names' sha256 and source by source, so that a
source is in both. One video is tracked by all rows before the next, whose keys are encoded once.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vcedge.commands.tables import make_table, open_console
from vcedge.doctor.machine import describe_machine
from vcedge.evaluation.masked import deal_halves, list_videos, read_clip, score_clip, tell_gain
from vcedge.evaluation.rows import KeepingEncoder, Row, open_keeping_engines, read_rows
from vcedge_runtime.errors import VcedgeError
from vcedge_runtime.files import write_json
from vcedge_runtime.model.bundle import DEFAULT_LABEL_MODEL, Bundle
from vcedge_runtime.tracker import Tracker


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--masked", type=Path, required=True, help="videos and masks")
    parser.add_argument("--model", default=DEFAULT_LABEL_MODEL)
    parser.add_argument("--tables", type=Path, required=True, help="JSON of tables and rows")
    parser.add_argument("--only", help="names of tables, separated by commas; all otherwise")
    parser.add_argument("--videos", help="names, separated by commas; all otherwise")
    parser.add_argument("--size", type=int, default=256, help="working size")
    parser.add_argument("--frames", type=int, default=40, help="of a video, at most")
    parser.add_argument(
        "--objects", type=int, default=4, help="videos with more of them are left out"
    )
    parser.add_argument("--threads", type=int, default=0, help="of an engine; 0 lets it choose")
    parser.add_argument("--json", type=Path, default=Path("halves.json"))
    return parser.parse_args()


def score_video(
    root: Path, name: str, rows: Sequence[Row], bundle: Bundle, arguments: argparse.Namespace
) -> list[float]:
    """J&F of each row on one video."""
    clip = read_clip(root, name, arguments.frames)
    engines = open_keeping_engines(bundle, arguments.threads)
    found = []
    for row in rows:
        tracker = Tracker(row.change(bundle), engines, size=arguments.size)
        found.append(score_clip(tracker, clip).j_and_f)
    for engine in engines.values():
        if not isinstance(engine, KeepingEncoder):
            engine.close()
    return found


def choose_by_halves(
    scores: Mapping[str, Sequence[float]], rows: Sequence[Row]
) -> dict[str, dict[str, Any]]:
    """What is best on each half, and what it gives on the other beside the first row there."""
    halves = dict(zip(("first", "second"), deal_halves(list(scores)), strict=True))
    means = {
        half: np.mean([scores[name] for name in names], axis=0) for half, names in halves.items()
    }
    chosen = {}
    for half, other in (("first", "second"), ("second", "first")):
        best = int(np.argmax(means[half]))
        chosen[f"chosen on the {half}"] = {
            "row": rows[best].name,
            "table": rows[best].table,
            "there": float(means[half][best]),
            "on the other": float(means[other][best]),
            "today's on the other": float(means[other][0]),
        }
    return chosen


def lay_out(scores: Mapping[str, Sequence[float]], rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """The table's rows: the mean of each half, of all, and over today's with its standard error."""
    halves = deal_halves(list(scores))
    every = np.array(list(scores.values()))
    lines = []
    for at, row in enumerate(rows):
        own = [np.mean([scores[name][at] for name in half]) for half in halves]
        figures = (*own, every[:, at].mean())
        lines.append(
            (
                row.table,
                row.name,
                *(f"{f:.3f}" for f in figures),
                tell_gain(every[:, at], every[:, 0]),
            )
        )
    return lines


def main() -> None:
    """Run the benchmark."""
    arguments = parse_arguments()
    bundle = Bundle.open(arguments.model)
    rows = read_rows(arguments.tables, arguments.only.split(",") if arguments.only else None)
    wanted = arguments.videos.split(",") if arguments.videos else None
    scores: dict[str, list[float]] = {}
    if arguments.json.exists():
        # A run that was stopped goes on, where it has the same rows.
        before = json.loads(arguments.json.read_text())
        if before["rows"] == [row.name for row in rows] and before["size"] == arguments.size:
            scores = before["videos"]
    for name in list_videos(arguments.masked, wanted, arguments.objects):
        if name in scores:
            continue
        scores[name] = score_video(arguments.masked, name, rows, bundle, arguments)
        print(name, " ".join(f"{score:.3f}" for score in scores[name]), file=sys.stderr)
        value = {
            "model": bundle.name,
            "size": arguments.size,
            "frames": arguments.frames,
            "machine": describe_machine().to_json(),
            "rows": [row.name for row in rows],
            "videos": scores,
        }
        if len(scores) > 1:
            value["choice"] = choose_by_halves(scores, rows)
        write_json(arguments.json, value)
    columns = ("table", "row", "first half", "second half", "all", "over today's (standard error)")
    open_console(markdown=True).print(
        make_table(columns, lay_out(scores, rows), left=2, markdown=True)
    )
    for told, choice in choose_by_halves(scores, rows).items():
        figures = (choice[name] for name in ("there", "on the other", "today's on the other"))
        print(told, choice["row"], *(f"{figure:.3f}" for figure in figures), sep=" | ")


if __name__ == "__main__":
    try:
        main()
    except VcedgeError as exc:
        sys.exit(f"halves.py: {exc}")
