"""Several objects: J&F on composites of held-out objects that cross, by number of objects."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vcedge.commands.tables import make_table, open_console
from vcedge.doctor.machine import describe_machine
from vcedge.evaluation.composites import (
    OCCLUDED,
    Composite,
    CompositeSettings,
    composite_set,
    render_composite,
)
from vcedge.evaluation.davis import DavisScore, SequenceScore, list_sequences, score_sequence
from vcedge.evaluation.tracking import MaskTracker, follow_masks
from vcedge_runtime.errors import VcedgeError
from vcedge_runtime.files import write_json
from vcedge_runtime.model.bundle import DEFAULT_MODEL, Bundle
from vcedge_runtime.tracker import Tracker

COLUMNS = ("model", "K", "J&F", "J", "F", "objects", "frames", "occluded")


@dataclass(frozen=True)
class Row:
    """One model on the composites of one number of objects.

    Attributes:
        model: as the command line names it.
        objects: K, of each composite.
        score: of all composites.
        occluded: share of all objects' frames in which they are occluded, 0-1.
    """

    model: str
    objects: int
    score: DavisScore
    occluded: float

    @property
    def cells(self) -> tuple[str, ...]:
        """The table's, under ``COLUMNS``."""
        score = self.score
        figures = (score.j_and_f, score.region.mean, score.boundary.mean)
        counts = (len(score.objects), score.frames)
        texts = (*(f"{figure:.3f}" for figure in figures), *map(str, counts))
        return (self.model, str(self.objects), *texts, f"{self.occluded:.0%}")

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "model": self.model,
            "objects": self.objects,
            "j_and_f": self.score.j_and_f,
            "j": asdict(self.score.region),
            "f": asdict(self.score.boundary),
            "occluded": self.occluded,
            "clips": [
                {"name": clip.name, "j_and_f": [each.j_and_f for each in clip.objects]}
                for clip in self.score.sequences
            ],
        }


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="JPEGImages and Annotations")
    parser.add_argument("--model", action="append", help="may be given several times")
    parser.add_argument("--size", type=int, help="working size; the model's default otherwise")
    parser.add_argument("--objects", default="2,3,4", help="numbers of objects")
    parser.add_argument("--clips", type=int, default=4, help="composites of each number of objects")
    parser.add_argument("--frames", type=int, default=CompositeSettings.length, help="of a clip")
    parser.add_argument("--sequences", help="names, separated by commas; all otherwise")
    parser.add_argument("--seed", type=int, default=0, help="of the composites")
    parser.add_argument("--threads", type=int, default=0, help="of an engine; 0 lets it choose")
    parser.add_argument("--json", type=Path, default=Path("composites.json"))
    return parser.parse_args()


def score_clips(
    trackers: Sequence[MaskTracker], clips: Iterator[Composite]
) -> tuple[list[DavisScore], list[dict[str, Any]]]:
    """Track and score composites with every tracker.

    Returns:
        A score per tracker, and what is to be known of each composite.
    """
    scores: list[list[SequenceScore]] = [[] for _ in trackers]
    facts = []
    for clip in clips:
        name = "+".join(clip.recipe.names)
        occluded = clip.occluded.tolist()
        facts.append({"name": name, **asdict(clip.recipe), "occluded": occluded})
        for tracker, found in zip(trackers, scores, strict=True):
            masks = follow_masks(tracker, clip.frames, clip.masks[0])
            found.append(score_sequence(clip.masks, masks, name=name, binary=False))
        told = ", ".join(f"{found[-1].j_and_f:.3f}" for found in scores)
        print(f"{name}: J&F {told}; occluded {clip.occluded.mean():.0%}", file=sys.stderr)
    return [DavisScore(tuple(found)) for found in scores], facts


def main() -> None:
    """Run the benchmark."""
    arguments = parse_arguments()
    models: list[str] = arguments.model or [DEFAULT_MODEL]
    settings = CompositeSettings(length=arguments.frames)
    chosen = arguments.sequences.split(",") if arguments.sequences else None
    names = list_sequences(arguments.root, chosen)
    wanted = {
        objects: composite_set(names, objects, arguments.clips, arguments.seed)
        for objects in map(int, arguments.objects.split(","))
    }
    bundles = [Bundle.open(model) for model in models]
    value: dict[str, Any] = {
        "models": {
            model: {"name": bundle.name, "size": arguments.size or bundle.composition.size}
            for model, bundle in zip(models, bundles, strict=True)
        },
        "machine": describe_machine().to_json(),
        "settings": asdict(settings),
        "occluded_from": OCCLUDED,
        "composites": [],
        "rows": [],
    }
    rows: list[Row] = []
    with ExitStack() as stack:
        trackers = [
            stack.enter_context(
                Tracker.open(b, size=arguments.size, threads=arguments.threads, backend="cpu")
            )
            for b in bundles
        ]
        for objects, recipes in wanted.items():
            clips = (render_composite(arguments.root, recipe, settings) for recipe in recipes)
            scores, facts = score_clips(trackers, clips)
            occluded = float(np.mean([fact["occluded"] for fact in facts]))
            pairs = zip(models, scores, strict=True)
            rows += [Row(model, objects, score, occluded) for model, score in pairs]
            value["composites"] += facts
            value["rows"] = [row.to_json() for row in rows]
            # After every number of objects, so that a run that is stopped has given something.
            write_json(arguments.json, value)
    table = make_table(COLUMNS, [row.cells for row in rows], markdown=True)
    open_console(markdown=True).print(table)


if __name__ == "__main__":
    try:
        main()
    except VcedgeError as exc:
        sys.exit(f"composites.py: {exc}")
