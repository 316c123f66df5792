"""Objects that leave and come back: empty masks meanwhile, and how soon they are found."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from vcedge.commands.tables import make_table, open_console
from vcedge.doctor.machine import describe_machine
from vcedge.evaluation.composites import composite_set
from vcedge.evaluation.davis import list_sequences
from vcedge.evaluation.returns import SOON, ReturnScore, render_return, score_return
from vcedge.evaluation.tracking import follow_masks
from vcedge_runtime.errors import VcedgeError
from vcedge_runtime.files import write_json
from vcedge_runtime.model.bundle import DEFAULT_MODEL
from vcedge_runtime.tracker import Tracker

COLUMNS = ("model", "clips", "absent", "empty", "found soon", "found", "IoU before", "IoU after")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="JPEGImages and Annotations")
    parser.add_argument("--model", action="append", help="may be given several times")
    parser.add_argument("--window", action="append", help="as vcedge track has it; may be repeated")
    parser.add_argument("--size", type=int, help="working size; the model's default otherwise")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--sequences", help="names, separated by commas; all otherwise")
    parser.add_argument("--seed", type=int, default=0, help="of the clips")
    parser.add_argument("--threads", type=int, default=0, help="of an engine; 0 lets it choose")
    parser.add_argument("--json", type=Path, default=Path("returns.json"))
    return parser.parse_args()


def add_up(way: str, scores: list[ReturnScore]) -> dict[str, Any]:
    """The row of a model, and of its window."""
    absent = sum(score.absent for score in scores)
    return {
        "model": way,
        "clips": len(scores),
        "absent": absent,
        "empty": sum(score.empty for score in scores) / absent,
        "found_soon": float(np.mean([score.found_soon for score in scores])),
        "found": float(np.mean([score.found is not None for score in scores])),
        "before": float(np.mean([score.before for score in scores])),
        "after": float(np.mean([score.after for score in scores])),
        "scores": [asdict(score) for score in scores],
    }


def main() -> None:
    """Run the benchmark."""
    arguments = parse_arguments()
    models: list[str] = arguments.model or [DEFAULT_MODEL]
    windows: list[str | None] = arguments.window or [None]
    ways = {" ".join(filter(None, way)): way for way in product(models, windows)}
    chosen = arguments.sequences.split(",") if arguments.sequences else None
    names = list_sequences(arguments.root, chosen)
    recipes = composite_set(names, 2, arguments.clips, arguments.seed)
    scores: dict[str, list[ReturnScore]] = {way: [] for way in ways}
    value: dict[str, Any] = {"machine": describe_machine().to_json(), "within": SOON, "clips": []}
    with ExitStack() as stack:
        options = {"size": arguments.size, "threads": arguments.threads, "backend": "cpu"}
        trackers = {
            way: stack.enter_context(Tracker.open(model, overrides={"window": window}, **options))
            for way, (model, window) in ways.items()
        }
        for recipe in recipes:
            clip = render_return(arguments.root, recipe)
            value["clips"].append({**asdict(recipe), "away": clip.away, "back": clip.back})
            for way, tracker in trackers.items():
                masks = follow_masks(tracker, clip.frames, clip.masks[0])
                scores[way].append(score_return(clip, list(masks)))
            told = "; ".join(
                f"{score[-1].empty}/{score[-1].absent} empty, found after {score[-1].found}"
                for score in scores.values()
            )
            print(f"{'+'.join(recipe.names)}: {told}", file=sys.stderr)
            # After every clip, so that a run that is stopped has given something.
            value["rows"] = [add_up(way, found) for way, found in scores.items()]
            write_json(arguments.json, value)
    rows = [
        (
            row["model"],
            str(row["clips"]),
            str(row["absent"]),
            *(f"{row[name]:.0%}" for name in ("empty", "found_soon", "found")),
            *(f"{row[name]:.3f}" for name in ("before", "after")),
        )
        for row in value["rows"]
    ]
    open_console(markdown=True).print(make_table(COLUMNS, rows, markdown=True))


if __name__ == "__main__":
    try:
        main()
    except VcedgeError as exc:
        sys.exit(f"returns.py: {exc}")
