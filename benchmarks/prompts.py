"""First masks against the truth, by what was said and by kind; GrabCut; tracking from a box."""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge.commands.tables import make_table, open_console
from vcedge.doctor.machine import describe_machine
from vcedge.evaluation.davis import list_sequences
from vcedge.evaluation.davis_folders import find_frames, find_mask_folders
from vcedge.evaluation.davis_run import track_and_score
from vcedge.training.object_sources import load_stills
from vcedge.training.prompt_corpus import is_held_out
from vcedge_runtime.errors import VcedgeError
from vcedge_runtime.files import write_json
from vcedge_runtime.model.bundle import PROMPT_MODEL
from vcedge_runtime.prompts.drawing import box_of, find_correction, find_middle, jitter_box
from vcedge_runtime.prompts.planes import Click, Corners
from vcedge_runtime.prompts.segmenter import GRABCUT, PromptSegmenter
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.masks import VOID
from vcedge_runtime.video.overlay import draw_overlay
from vcedge_runtime.video.palette import read_label_png
from vcedge_runtime.video.pictures import list_masks
from vcedge_runtime.video.sources import open_source

Labels = NDArray[np.uint8]
JITTER = 0.1
"""How far each edge of a rough box is off at most, as a share of the box's side."""
CLICKS = 3
SMALLEST, MOST = 100, 4
"""Pixels of an object that is asked for at least, and objects of one still, the largest first."""
SEQUENCES, REGIONS = "sequences", "regions, no objects"
GROUPS = {
    "animal instances": "animals",
    "binary": "cut-outs",
    "binary horse": "horses",
    "components": REGIONS,
    "instances": "things and people (COCO)",
    "instances of persons": "people",
    "one person instance": "people",
    "parts of one person": "people",
    "regions": REGIONS,
}
"""What the table calls a kind of still, by how its kind begins; the longest that fits counts."""
TILE_WH, ROW = (240, 180), 8


class Case(NamedTuple):
    """An object of a picture.

    Attributes:
        name: of the picture.
        group: of the table.
        image: (H, W, 3) uint8 BGR.
        truth: (H, W) uint8, 1 the object, 255 where nothing is known.
    """

    name: str
    group: str
    image: Labels
    truth: Labels

    @property
    def box(self) -> Corners:
        """The box that just holds it."""
        return box_of(np.asarray(self.truth == 1, np.uint8))


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="JPEGImages and Annotations")
    parser.add_argument(
        "--stills", type=Path, help="pictures with masks, of which some are held out"
    )
    parser.add_argument("--model", default=PROMPT_MODEL)
    parser.add_argument("--no-grabcut", action="store_true", help="leave the baseline out")
    parser.add_argument("--track", help="model that tracks from a box and from the true mask")
    parser.add_argument("--size", type=int, help="its working size")
    parser.add_argument("--limit", type=int, help="objects at most, for a quick look")
    parser.add_argument("--threads", type=int, default=0, help="of an engine; 0 lets it choose")
    parser.add_argument("--sheets", type=Path, help="folder for pictures of the worst masks")
    parser.add_argument("--json", type=Path, default=Path("prompts.json"))
    return parser.parse_args()


def read_sequences(root: Path) -> Iterator[Case]:
    """The first frame of each sequence."""
    folders = find_mask_folders(root)
    for name in list_sequences(root):
        mask = read_label_png(list_masks(folders[name])[0])
        with open_source(find_frames(root, name)) as video:
            image = next(iter(video)).image
        yield Case(name, SEQUENCES, image, np.asarray(mask > 0, np.uint8))


def read_held_out(root: Path) -> Iterator[Case]:
    """The objects of the stills that no training saw."""
    for still in load_stills(root, is_held_out):
        areas = np.bincount(still.ids.ravel(), minlength=2)[1:]
        for label in (np.argsort(-areas, kind="stable")[:MOST] + 1).tolist():
            if areas[label - 1] >= SMALLEST:
                truth = np.asarray(still.ids == label, np.uint8)
                yield Case(still.name, name_group(still.kind), still.image, truth)


def name_group(kind: str) -> str:
    """What the table calls a kind of still."""
    return GROUPS[max((each for each in GROUPS if kind.startswith(each)), key=len)]


def ask(
    segmenter: PromptSegmenter, case: Case, box: Corners | None, clicks: Sequence[Click] = ()
) -> NDArray[np.bool_]:
    """The mask of an object that is asked for; empty where nothing was found."""
    boxes = {} if box is None else {1: (box[0], box[1], box[2] - box[0], box[3] - box[1])}
    said = {1: list(clicks)} if clicks else {}
    return np.asarray(segmenter.segment(case.image, boxes, said, required=False) == 1)


def score_mask(mask: NDArray[np.bool_], truth: Labels) -> float:
    """IoU where the truth is known."""
    known = truth != VOID
    union = ((mask | (truth == 1)) & known).sum()
    return float((mask & (truth == 1)).sum() / union)


def measure_case(segmenter: PromptSegmenter, case: Case) -> dict[str, float]:
    """IoU of an object's mask for each way to ask for it, the same in every run."""
    seed = hashlib.sha256(f"{case.name} {int((case.truth == 1).sum())}".encode()).digest()[:8]
    rng = np.random.default_rng(int.from_bytes(seed, "big"))
    frame_hw = (case.truth.shape[0], case.truth.shape[1])
    rough = jitter_box(rng, case.box, JITTER, frame_hw)
    found = {
        "box": score_mask(ask(segmenter, case, case.box), case.truth),
        "rough box": score_mask(ask(segmenter, case, rough), case.truth),
    }
    clicks, mask = list[Click](), np.zeros(frame_hw, bool)
    for number in range(1, CLICKS + 1):
        known = find_correction(mask, case.truth) if clicks else find_middle(case.truth == 1)
        clicks += [] if known is None else [known]
        mask = ask(segmenter, case, None, clicks)
        found[f"click {number}"] = score_mask(mask, case.truth)
    return found


def measure_time(segmenter: PromptSegmenter, cases: Sequence[Case]) -> dict[str, float]:
    """Median milliseconds of a box and of a click on the largest pictures."""
    largest = sorted(cases, key=lambda case: -case.truth.size)[:8]
    spent: dict[str, list[float]] = {"box": [], "click 1": []}
    for case in largest * 2:
        middle = find_middle(case.truth == 1)
        for way, box, clicks in (("box", case.box, []), ("click 1", None, [middle])):
            began = time.perf_counter()
            ask(segmenter, case, box, [click for click in clicks if click is not None])
            spent[way].append(1000 * (time.perf_counter() - began))
    return {way: float(np.median(times)) for way, times in spent.items()}


def summarise(
    cases: Sequence[Case], scores: Sequence[Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """Mean IoU by group and way; at last that of all stills but those of no objects."""
    whole = [case.group not in (SEQUENCES, REGIONS) for case in cases]
    chosen = {
        name: [case.group == name for case in cases]
        for name in dict.fromkeys(case.group for case in cases)
    }
    if any(whole):
        chosen["stills, all objects"] = whole
    table = {}
    for name, belongs in chosen.items():
        own = [row for row, mine in zip(scores, belongs, strict=True) if mine]
        means = {way: float(np.mean([row[way] for row in own])) for way in own[0]}
        table[name] = {"objects": len(own), **means}
    return table


def measure_model(
    segmenter: PromptSegmenter, cases: Sequence[Case]
) -> tuple[list[tuple[str, ...]], dict[str, Any]]:
    """Rows of the table, and all figures, of one way to make masks."""
    scores = [measure_case(segmenter, case) for case in cases]
    table, times = summarise(cases, scores), measure_time(segmenter, cases)
    rows = [
        (segmenter.name, group, *(f"{v:.3f}" if w != "objects" else f"{v}" for w, v in row.items()))
        for group, row in table.items()
    ]
    rows.append((segmenter.name, "ms at the largest", "", *_lay_out_times(times)))
    each = [
        {"picture": case.name, "group": case.group, **row}
        for case, row in zip(cases, scores, strict=True)
    ]
    return rows, {"iou": table, "median_ms": times, "objects": each}


def _lay_out_times(times: Mapping[str, float]) -> tuple[str, ...]:
    return f"{times['box']:.0f}", "", f"{times['click 1']:.0f}", *[""] * (CLICKS - 1)


def track_from_boxes(
    segmenter: PromptSegmenter, arguments: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """J&F of every sequence from its true first mask and from its box's; and a step's time."""

    def make_first(frame: Labels, truth: Labels) -> Labels:
        case = Case("", SEQUENCES, frame, np.asarray(truth > 0, np.uint8))
        mask = ask(segmenter, case, case.box)
        if not mask.any():  # nothing was found: the box itself
            left, top, right, bottom = map(int, case.box)
            mask[top:bottom, left:right] = True
        return np.asarray(mask, np.uint8) * np.uint8(truth.max())

    found = {}
    names = list_sequences(arguments.root)
    options: dict[str, Any] = {"size": arguments.size, "threads": arguments.threads}
    for way, change in (("true mask", None), ("box", make_first)):
        with Tracker.open(arguments.track, backend="cpu", **options) as tracker:
            tracked = track_and_score(arguments.root, names, tracker, change_first=change)
            scores = {each.name: each.j_and_f for each in tracked.score.sequences}
        steps = [sum(times) for report in tracked.reports for times in _steps_of(report.timings_ms)]
        mean = {"mean": tracked.score.j_and_f, "median step, ms": float(np.median(steps))}
        found[way] = {**scores, **mean}
    return found


def _steps_of(timings_ms: Mapping[str, Sequence[float]]) -> Iterator[tuple[float, ...]]:
    """Each step's stages but decoding and writing."""
    stages = [list(v) for k, v in timings_ms.items() if k not in ("decode", "write")]
    yield from zip(*stages, strict=True)


def draw_sheets(segmenter: PromptSegmenter, cases: Sequence[Case], folder: Path) -> None:
    """Write contact sheets of the worst masks and of the sequences, by box and by one click."""
    folder.mkdir(parents=True, exist_ok=True)
    for way in ("box", "click"):
        tiles = []
        for case in cases:
            middle = find_middle(case.truth == 1)
            clicks = [middle] if way == "click" and middle is not None else []
            mask = ask(segmenter, case, None if clicks else case.box, clicks)
            score = score_mask(mask, case.truth)
            tiles.append((score, draw_tile(case, mask, score, clicks)))
        worst = sorted(tiles, key=lambda tile: tile[0])[: 6 * ROW]
        for name, shown in (("worst", worst), ("first", tiles[: 6 * ROW])):
            write_sheet(folder / f"{name}-{way}.png", [tile for _, tile in shown])


def draw_tile(case: Case, mask: NDArray[np.bool_], score: float, clicks: Sequence[Click]) -> Labels:
    """What was found, the truth's outline in white, and what was said."""
    picture = draw_overlay(case.image, np.asarray(mask, np.uint8))
    truth = np.asarray(case.truth == 1, np.uint8)
    outlines, _ = cv2.findContours(truth, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, (255, 255, 255), 1)
    for click in clicks:
        cv2.circle(picture, (round(click.x), round(click.y)), 4, (0, 255, 255), cv2.FILLED)
    tile = np.asarray(cv2.resize(picture, TILE_WH, interpolation=cv2.INTER_AREA), np.uint8)
    cv2.putText(tile, f"{score:.2f}", (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 255, 255), 1)
    return tile


def write_sheet(path: Path, tiles: Sequence[Labels]) -> None:
    """Write tiles in rows of ``ROW``."""
    blank = np.zeros((TILE_WH[1], TILE_WH[0], 3), np.uint8)
    shown = [*tiles, *[blank] * (-len(tiles) % ROW)]
    rows = [np.hstack(shown[at : at + ROW]) for at in range(0, len(shown), ROW)]
    cv2.imwrite(str(path), np.vstack(rows))


def main() -> None:
    """Run the benchmark."""
    arguments = parse_arguments()
    cases = list(read_sequences(arguments.root))
    if arguments.stills:
        cases += read_held_out(arguments.stills)
    cases = cases[: arguments.limit]
    value: dict[str, Any] = {"machine": describe_machine().to_json()}
    rows: list[tuple[str, ...]] = []
    for name in (arguments.model, *([] if arguments.no_grabcut else [GRABCUT])):
        with PromptSegmenter.open(name, threads=arguments.threads) as segmenter:
            own, value[segmenter.name] = measure_model(segmenter, cases)
            rows += own
    ways = [f"click {number}" for number in range(1, CLICKS + 1)]
    console = open_console(markdown=True)
    columns = ("model", "of", "objects", "box", "rough box", *ways)
    console.print(make_table(columns, rows, left=2, markdown=True))
    with PromptSegmenter.open(arguments.model, threads=arguments.threads) as segmenter:
        if arguments.track:
            value["tracking"] = tracked = track_from_boxes(segmenter, arguments)
            lines = [(way, *(f"{v:.3f}" for v in row.values())) for way, row in tracked.items()]
            heads = ("J&F from", *tracked["box"])
            console.print(make_table(heads, lines, left=1, markdown=True))
        if arguments.sheets:
            draw_sheets(segmenter, cases, arguments.sheets)
    write_json(arguments.json, value)


if __name__ == "__main__":
    try:
        main()
    except VcedgeError as exc:
        sys.exit(f"prompts.py: {exc}")
