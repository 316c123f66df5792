"""The tables of what needs training: every row trained at one budget with several seeds, scored.

Each row of ``training_rows.json`` is ``vcedge train`` with its options, and with those that follow
``--`` for all rows, such as ``-- --steps 3000 --sizes 1.0:128``; a row that several tables have is
trained once. A run that was stopped goes on where it stood, and what was scored stays. Its
weights are scored in PyTorch on the masked videos by halves, in place with five references, with
plain windows and with the row's own sampler; with ``--root`` on a DAVIS folder too. It wants no
attention: start it at low priority, once for each seed on as many cores, with one folder for all.
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
from vcedge.evaluation.masked import deal_halves, list_videos, read_clip, score_clip, tell_gain
from vcedge.evaluation.rows import read_tables
from vcedge.models.weights import load_weights
from vcedge_export.plan import ExportOptions
from vcedge_export.planning import open_modules, plan_export
from vcedge_runtime.errors import VcedgeError
from vcedge_runtime.files import write_json
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.model.composition import Composition
from vcedge_runtime.sampling.clusters import ClusterSettings
from vcedge_runtime.tracker import Tracker

TABLES = Path(__file__).with_name("training_rows.json")
IN_PLACE = {"memory": "references", "alignment": "none"}
"""Parts that no row chooses."""
PLAIN = "plain windows"
COLUMNS = (
    *("table", "row", "windows", "J&F", "first half", "second half"),
    *("over the first row (standard error)", "seeds", "DAVIS", "paper"),
)


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
    parser.add_argument("--size", type=int, default=256, help="working size of the scores")
    parser.add_argument("--frames", type=int, default=40, help="of a masked video, at most")
    parser.add_argument("--objects", type=int, default=4)
    parser.add_argument("--cache", type=Path, default=Path("vcedge-out/frames"))
    parser.add_argument("--out", type=Path, default=Path("training-rows"))
    parser.add_argument("budget", nargs="*", help="after --: options of every row's training")
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
    words: list[object] = [row.method, *arguments.budget, *row.options]
    for videos in arguments.videos:
        words += ["--videos", videos]
    words += ["--seed", seed, "--cache", arguments.cache, "--out", out]
    words += ["--resume"] if (out / "checkpoint.pt").exists() else []
    train_command.main([str(word) for word in words], standalone_mode=False)
    return weights


def open_trackers(row: TrainingRow, weights: Path, size: int) -> dict[str, Tracker]:
    """Trackers on the weights in PyTorch, with plain windows and with the row's sampler."""
    samplers: dict[str, Any] = {PLAIN: "window"}
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


def read_scores(
    rows: Sequence[TrainingRow], seeds: Sequence[int], out: Path
) -> dict[str, list[dict[str, Any]]]:
    """What is scored of every training, a seed after the other."""
    reports = {row.key: [out / f"{row.key}-{seed}.json" for seed in seeds] for row in rows}
    return {
        key: [json.loads(path.read_text()) for path in paths if path.exists()]
        for key, paths in reports.items()
    }


def average_videos(done: Sequence[Mapping[str, Any]], windows: str) -> list[float]:
    """J&F of each video, over the seeds."""
    videos = [list(one[windows]["videos"].values()) for one in done]
    means: list[float] = np.mean(videos, axis=0).tolist()
    return means


def lay_out(
    rows: Sequence[TrainingRow], scores: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Iterator[tuple[str, ...]]:
    """The table's rows: means over the seeds that are done, and over the table's first row."""
    first: dict[str, Sequence[Mapping[str, Any]]] = {}
    for row in rows:
        done = scores[row.key]
        before = first.setdefault(row.table, done)
        for name in done[0] if done else ():
            halves = np.mean([one[name]["halves"] for one in done], axis=0)
            davis = [one[name]["davis"] for one in done if "davis" in one[name]]
            videos = average_videos(done, name)
            beside = average_videos(before, name if name in before[0] else PLAIN)
            yield (
                *(row.table, row.name, name, f"{np.mean(videos):.3f}"),
                *(f"{half:.3f}" for half in halves),
                tell_gain(videos, beside),
                " ".join(f"{one[name]['j_and_f']:.3f}" for one in done),
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
    # A seed of every row before the next, so that a run that is stopped has whole tables.
    for seed in seeds:
        for row in rows:
            report = arguments.out / f"{row.key}-{seed}.json"
            if not report.exists():
                found = score(row, train(row, seed, arguments), arguments)
                write_json(report, found)
    scores = read_scores(rows, seeds, arguments.out)
    open_console(markdown=True).print(
        make_table(COLUMNS, list(lay_out(rows, scores)), left=3, markdown=True)
    )


if __name__ == "__main__":
    try:
        main()
    except VcedgeError as exc:
        sys.exit(f"training_rows.py: {exc}")
