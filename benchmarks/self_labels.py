"""Masks that a model made itself beside the true ones: what is kept, and how right it is."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcedge.commands.tables import make_table, open_console
from vcedge.doctor.machine import describe_machine
from vcedge.evaluation.davis import list_sequences
from vcedge.evaluation.davis_folders import find_frames, find_mask_folders
from vcedge.training.self_labels import SelfLabels, SelfLabelSettings, label_video
from vcedge_runtime.errors import VcedgeError
from vcedge_runtime.files import write_json
from vcedge_runtime.model.bundle import DEFAULT_MODEL, PROMPT_MODEL
from vcedge_runtime.prompts.segmenter import PromptSegmenter
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.masks import VOID
from vcedge_runtime.video.palette import read_label_png
from vcedge_runtime.video.pictures import list_masks
from vcedge_runtime.video.sources import open_source

COLUMNS = ("sequence", "frames", "kept", "objects", "IoU", "of the first", "agreed")


@dataclass(frozen=True)
class Score:
    """What was kept of a sequence.

    Attributes:
        name: of the sequence.
        frames: it has.
        kept: frames with masks.
        objects: that were found.
        overlap: mean IoU, over the frames that are kept, of the true object with the found one
            that covers most of it, void left out; None where nothing is kept.
        first: that of the first frame that is kept.
        agreed: of both ways.
    """

    name: str
    frames: int
    kept: int = 0
    objects: int = 0
    overlap: float | None = None
    first: float | None = None
    agreed: float | None = None


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="JPEGImages and Annotations")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--first-masks", default=PROMPT_MODEL)
    parser.add_argument("--size", type=int, default=256, help="working size")
    parser.add_argument("--sequences", help="names, separated by commas; all otherwise")
    parser.add_argument("--threads", type=int, default=0, help="of an engine; 0 lets it choose")
    parser.add_argument("--json", type=Path, default=Path("self-labels.json"))
    return parser.parse_args()


def score(name: str, labels: SelfLabels | None, truth: list[NDArray[np.uint8]]) -> Score:
    """Hold what was found against one true object, whatever its id."""
    if labels is None:
        return Score(name, len(truth))
    true = np.stack(truth[labels.first : labels.first + len(labels.masks)]) > 0
    common = np.bincount(labels.masks[true], minlength=256)
    common[[0, VOID]] = 0
    found = labels.masks == common.argmax()
    known = labels.masks != VOID
    union = (known & (found | true)).sum((1, 2))
    overlaps = np.where(union, (known & found & true).sum((1, 2)) / np.maximum(union, 1), 1.0)
    facts = (float(overlaps.mean()), float(overlaps[0]), labels.agreed)
    return Score(name, len(truth), len(labels.masks), labels.objects, *facts)


def main() -> None:
    """Run the benchmark."""
    arguments = parse_arguments()
    chosen = arguments.sequences.split(",") if arguments.sequences else None
    folders = find_mask_folders(arguments.root)
    scores = []
    options: dict[str, Any] = {"size": arguments.size, "threads": arguments.threads}
    with (
        PromptSegmenter.open(arguments.first_masks, threads=arguments.threads) as finder,
        Tracker.open(arguments.model, backend="cpu", **options) as tracker,
    ):
        for name in list_sequences(arguments.root, chosen):
            with open_source(find_frames(arguments.root, name)) as source:
                frames = [frame.image for frame in source]
            masks = list_masks(folders[name])
            found = label_video(frames, tracker, finder, SelfLabelSettings())
            scores.append(score(name, found, [read_label_png(path) for path in masks]))
            print(scores[-1], file=sys.stderr)
    rows = [
        [f"{fact:.3f}" if isinstance(fact, float) else str(fact) for fact in asdict(each).values()]
        for each in scores
    ]
    open_console(markdown=True).print(make_table(COLUMNS, rows, markdown=True))
    value = {"machine": describe_machine().to_json(), "scores": [asdict(each) for each in scores]}
    write_json(arguments.json, value)


if __name__ == "__main__":
    try:
        main()
    except VcedgeError as exc:
        sys.exit(f"self_labels.py: {exc}")
