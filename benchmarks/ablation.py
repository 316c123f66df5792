"""Ablations: J&F of a bundle with other parts at run time, ours beside the papers'."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vcedge.commands.tables import make_table, open_console
from vcedge.doctor.machine import describe_machine
from vcedge.evaluation.davis import SequenceScore, list_sequences
from vcedge.evaluation.davis_run import TrackedScore, track_and_score
from vcedge.evaluation.rows import Row, open_keeping_engines, read_rows
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.errors import VcedgeError
from vcedge_runtime.files import write_json
from vcedge_runtime.model.bundle import DEFAULT_LABEL_MODEL, Bundle
from vcedge_runtime.tracker import Tracker

TABLES = Path(__file__).with_name("ablations.json")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="JPEGImages and Annotations")
    parser.add_argument("--model", default=DEFAULT_LABEL_MODEL)
    parser.add_argument("--tables", type=Path, default=TABLES, help="JSON of tables and rows")
    parser.add_argument("--only", help="names of tables, separated by commas; all otherwise")
    parser.add_argument("--sequences", help="names, separated by commas; all otherwise")
    parser.add_argument("--size", type=int, help="working size; the bundle's own otherwise")
    parser.add_argument("--threads", type=int, default=0, help="of an engine; 0 lets it choose")
    parser.add_argument("--json", type=Path, default=Path("ablation.json"))
    return parser.parse_args()


def measure(
    row: Row,
    bundle: Bundle,
    engines: Mapping[str, Engine],
    names: list[str],
    arguments: argparse.Namespace,
) -> TrackedScore:
    """Track and score all sequences with one row's parts; the engines stay open."""

    def tell(score: SequenceScore) -> None:
        print(f"{row.table}, {row.name}, {score.name}: {score.j_and_f:.3f}", file=sys.stderr)

    tracker = Tracker(row.change(bundle), engines, size=arguments.size)
    return track_and_score(arguments.root, names, tracker, tell)


def median_ms(found: TrackedScore) -> dict[str, float]:
    """Median milliseconds of each stage over all frames; no encoder, which most rows never run."""
    stages: dict[str, list[float]] = {}
    for report in found.reports:
        for stage, times in report.timings_ms.items():
            if stage == "encode":
                continue
            stages.setdefault(stage, []).extend(times)
    return {stage: float(np.median(times)) for stage, times in stages.items()}


def main() -> None:
    """Run the benchmark."""
    arguments = parse_arguments()
    bundle = Bundle.open(arguments.model)
    engines = open_keeping_engines(bundle, arguments.threads)
    chosen = arguments.sequences.split(",") if arguments.sequences else None
    names = list_sequences(arguments.root, chosen)
    rows = read_rows(arguments.tables, arguments.only.split(",") if arguments.only else None)
    lines, report = [], []
    for row in rows:
        found = measure(row, bundle, engines, names, arguments)
        score = found.score
        own = [f"{sequence.j_and_f:.3f}" for sequence in score.sequences]
        means = [f"{m:.3f}" for m in (score.region.mean, score.boundary.mean, score.j_and_f)]
        lines.append((row.table, row.name, *means, row.paper, *own))
        entry = {"table": row.table, "name": row.name, "parts": row.parts, "paper": row.paper}
        scores = {s.name: s.j_and_f for s in score.sequences}
        means = {"j": score.region.mean, "f": score.boundary.mean, "j_and_f": score.j_and_f}
        report.append({**entry, **means, "sequences": scores, "ms": median_ms(found)})
        value = {"model": bundle.name, "machine": describe_machine().to_json(), "rows": report}
        # After every row, so that a run that is stopped has given something.
        write_json(arguments.json, value)
    table = make_table(
        ("table", "row", "J", "F", "J&F", "paper", *names), lines, left=2, markdown=True
    )
    open_console(markdown=True).print(table)


if __name__ == "__main__":
    try:
        main()
    except VcedgeError as exc:
        sys.exit(f"ablation.py: {exc}")
