"""The tables of what needs training: every row trained at one budget with several seeds, scored.

Each row of ``training_rows.json`` is ``vcedge train`` with its options; a row that several tables
have is trained once. A run that was stopped goes on where it stood, and what was scored stays. Its
weights are scored in PyTorch on the masked videos by halves, in place with five references, with
plain windows and with the row's own sampler; with ``--root`` on a DAVIS folder too. It wants no
attention: start it at low priority and read its JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vcedge.commands.tables import make_table, open_console
from vcedge.commands.train import command as train_command
from vcedge.evaluation.davis import list_sequences
from vcedge.evaluation.davis_run import track_and_score
from vcedge.evaluation.masked import deal_halves, list_videos, read_clip, score_clip
from vcedge.evaluation.rows import read_tables
from vcedge.models.weights import load_weights
from vcedge_export.plan import ExportOptions
from vcedge_export.planning import open_modules, plan_export
from vcedge_runtime.errors import VcedgeError
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.model.composition import Composition
from vcedge_runtime.sampling.clusters import ClusterSettings
from vcedge_runtime.tracker import Tracker

TABLES = Path(__file__).with_name("training_rows.json")
IN_PLACE = {"memory": "references", "alignment": "none"}
"""Parts that no row chooses."""


@dataclass(frozen=True)
class TrainingRow:
    """One row of a table.

    Attributes:
        table: its table's name.
        name: what is different.
        method: of ``vcedge train``.
        options: its own, for the command line.
        paper: the paper's figure as text, empty where it has none.
    """

    table: str
    name: str
    method: str
    options: tuple[str, ...]
    paper: str

    @property
    def key(self) -> str:
        """What rows that are one training share; a folder's name."""
        return "_".join([self.method, *(o.lstrip("-") for o in self.options)])

    @property
    def sampler(self) -> ClusterSettings | None:
        """Its sampler in training; None for plain windows."""
        options = list(self.options)
        given = {
            name: int(options[options.index(f"--{name}") + 1])
            for name in ("clusters", "reach")
            if f"--{name}" in options
        }
        return ClusterSettings(**given) if "clusters" in given else None


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=Path, action="append", required=True)
    parser.add_argument("--masked", type=Path, required=True, help="videos and masks")
    parser.add_argument("--root", type=Path, help="JPEGImages and Annotations, scored too")
    parser.add_argument("--tables", type=Path, default=TABLES)
    parser.add_argument("--only", help="names of tables, separated by commas; all otherwise")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--sizes", default="1.0:128")
    parser.add_argument("--start", help="weights to begin with; random ones otherwise")
    parser.add_argument("--size", type=int, default=256, help="working size of the scores")
    parser.add_argument("--frames", type=int, default=40, help="of a masked video, at most")
    parser.add_argument("--objects", type=int, default=4)
    parser.add_argument("--cache", type=Path, default=Path("vcedge-out/frames"))
    parser.add_argument("--out", type=Path, default=Path("training-rows"))
    return parser.parse_args()


def read_training_rows(path: Path, only: Sequence[str] | None) -> list[TrainingRow]:
    """Read the wanted tables; see ``read_tables``."""
    return [
        TrainingRow(table, row["name"], row["method"], tuple(row["options"]), row["paper"])
        for table, row in read_tables(path, only)
    ]


def train(row: TrainingRow, seed: int, arguments: argparse.Namespace) -> Path:
    """Train a row, or go on with it; returns its weights."""
    out = arguments.out / f"{row.key}-{seed}"
    weights = out / "weights.safetensors"
    if weights.exists():
        return weights
    words: list[object] = [row.method, *row.options]
    for videos in arguments.videos:
        words += ["--videos", videos]
    words += ["--steps", arguments.steps, "--sizes", arguments.sizes, "--seed", seed]
    words += ["--cache", arguments.cache, "--out", out]
    words += ["--from", arguments.start] if arguments.start else []
    words += ["--resume"] if (out / "checkpoint.pt").exists() else []
    train_command.main([str(word) for word in words], standalone_mode=False)
    return weights


def open_trackers(row: TrainingRow, weights: Path, size: int) -> dict[str, Tracker]:
    """Trackers on the weights in PyTorch, with plain windows and with the row's sampler."""
    samplers: dict[str, Any] = {"plain windows": "window"}
    if row.sampler:
        samplers["its sampler"] = row.sampler
    found = {}
    for name, sampler in samplers.items():
        parts = {**IN_PLACE, "sampler": sampler}
        model = plan_export(load_weights(weights), ExportOptions(overrides=parts))
        assert isinstance(model.composition, Composition)
        bundle = Bundle(Path(), row.method, model.profile, model.composition, {})
        found[name] = Tracker(bundle, open_modules(model), size=size)
    return found


def score(row: TrainingRow, weights: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """J&F on both halves of the masked videos, and on the DAVIS folder where one is given."""
    found: dict[str, Any] = {}
    for name, tracker in open_trackers(row, weights, arguments.size).items():
        scores = {
            video: score_clip(tracker, read_clip(arguments.masked, video, arguments.frames)).j_and_f
            for video in list_videos(arguments.masked, None, arguments.objects)
        }
        halves = [float(np.mean([scores[v] for v in half])) for half in deal_halves(list(scores))]
        own = {"halves": halves, "j_and_f": float(np.mean(list(scores.values()))), "videos": scores}
        if arguments.root:
            names = list_sequences(arguments.root)
            own["davis"] = track_and_score(arguments.root, names, tracker).score.j_and_f
        found[name] = own
    return found


def lay_out(
    rows: Sequence[TrainingRow], scores: Mapping[str, Any], seeds: Sequence[int]
) -> Iterator[tuple[str, ...]]:
    """The table's rows: means over the seeds that are done, and each of them."""
    for row in rows:
        done = [scores[key] for seed in seeds if (key := f"{row.key}-{seed}") in scores]
        for name in done[0] if done else ():
            each = [one[name]["j_and_f"] for one in done]
            halves = np.mean([one[name]["halves"] for one in done], axis=0)
            davis = [one[name]["davis"] for one in done if "davis" in one[name]]
            yield (
                *(row.table, row.name, name, f"{np.mean(each):.3f}"),
                *(f"{half:.3f}" for half in halves),
                " ".join(f"{figure:.3f}" for figure in each),
                f"{np.mean(davis):.3f}" if davis else "",
                row.paper,
            )


def main() -> None:
    """Train and score all rows."""
    arguments = parse_arguments()
    rows = read_training_rows(
        arguments.tables, arguments.only.split(",") if arguments.only else None
    )
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    arguments.out.mkdir(parents=True, exist_ok=True)
    report = arguments.out / "scores.json"
    scores: dict[str, Any] = json.loads(report.read_text()) if report.exists() else {}
    # A seed of every row before the next, so that a run that is stopped has whole tables.
    for seed in seeds:
        for row in rows:
            key = f"{row.key}-{seed}"
            if key not in scores:
                scores[key] = score(row, train(row, seed, arguments), arguments)
                report.write_text(json.dumps(scores, indent=1) + "\n")
    columns = (
        "table",
        "row",
        "windows",
        "J&F",
        "first half",
        "second half",
        "seeds",
        "DAVIS",
        "paper",
    )
    lines = list(lay_out(rows, scores, seeds))
    open_console(markdown=True).print(make_table(columns, lines, left=3, markdown=True))


if __name__ == "__main__":
    try:
        main()
    except VcedgeError as exc:
        sys.exit(f"training_rows.py: {exc}")
