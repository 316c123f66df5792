"""Accuracy against speed: J&F of every sequence and frames a second, by working size."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vcedge.bench.ceilings import measure_ceilings
from vcedge.commands.tables import make_table, open_console
from vcedge.doctor.machine import describe_machine
from vcedge.evaluation.davis import DavisScore, SequenceScore, list_sequences
from vcedge.evaluation.davis_run import track_and_score
from vcedge_runtime.errors import VcedgeError
from vcedge_runtime.files import write_json
from vcedge_runtime.model.bundle import DEFAULT_MODEL, Bundle
from vcedge_runtime.timing import STAGES as TRACKING
from vcedge_runtime.tracker import Tracker

WARM_UP = 3
"""Frames of each sequence whose time does not count."""


@dataclass(frozen=True)
class Point:
    """One working size.

    Attributes:
        score: of all sequences.
        tracking_ms: every counted frame's milliseconds, from decoded frame to full-size mask.
        memory_bytes: the most that the tracker held.
    """

    score: DavisScore
    tracking_ms: tuple[float, ...]
    memory_bytes: int

    @property
    def frames_per_second(self) -> float:
        """All counted frames over all their time."""
        return 1000 * len(self.tracking_ms) / sum(self.tracking_ms)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        score = self.score
        return {
            "j_and_f": score.j_and_f,
            "j": asdict(score.region),
            "f": asdict(score.boundary),
            "sequences": {sequence.name: sequence.j_and_f for sequence in score.sequences},
            "frames_per_second": self.frames_per_second,
            "memory_bytes": self.memory_bytes,
            "tracking_ms": list(self.tracking_ms),
        }


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="JPEGImages and Annotations")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--sizes", default="192,256,320,384,480", help="beside the default")
    parser.add_argument("--sequences", help="names, separated by commas; all otherwise")
    parser.add_argument("--no-edges", action="store_true", help="masks blind to the frame")
    parser.add_argument("--window", help="as vcedge track has it; the model's own otherwise")
    parser.add_argument("--threads", type=int, default=0, help="of an engine; 0 lets it choose")
    parser.add_argument("--json", type=Path, default=Path("speed_accuracy.json"))
    return parser.parse_args()


def score_size(root: Path, names: list[str], tracker: Tracker) -> Point:
    """Track and score every sequence."""

    def tell(score: SequenceScore) -> None:
        print(f"{tracker.size} {score.name}: J&F {score.j_and_f:.3f}", file=sys.stderr)

    found = track_and_score(root, names, tracker, tell)
    times: list[float] = []
    for report in found.reports:
        stages = [list(report.timings_ms[stage])[WARM_UP:] for stage in TRACKING]
        times += np.sum(stages, axis=0).tolist()
    return Point(found.score, tuple(times), found.memory_bytes)


def lay_out(points: Mapping[int, Point], default: int) -> list[tuple[str, ...]]:
    """Make the table's rows, one a working size."""
    return [
        (
            f"{size} (default)" if size == default else str(size),
            f"{point.score.j_and_f:.3f}",
            f"{point.score.region.mean:.3f}",
            f"{point.score.boundary.mean:.3f}",
            f"{point.frames_per_second:.2f}",
            f"{np.median(point.tracking_ms):.1f}",
            f"{np.percentile(point.tracking_ms, 90):.1f}",
            f"{point.memory_bytes / 1e6:.1f}",
            *(f"{sequence.j_and_f:.3f}" for sequence in point.score.sequences),
        )
        for size, point in points.items()
    ]


def main() -> None:
    """Run the benchmark."""
    arguments = parse_arguments()
    bundle = Bundle.open(arguments.model)
    default = bundle.composition.size
    wanted = sorted({default, *map(int, arguments.sizes.split(","))})
    chosen = arguments.sequences.split(",") if arguments.sequences else None
    names = list_sequences(arguments.root, chosen)
    machine, points = describe_machine(), dict[int, Point]()
    ceilings = measure_ceilings(arguments.threads or machine.cores)
    for size in wanted:
        parts = {"edges": False if arguments.no_edges else None, "window": arguments.window}
        options = {"overrides": parts, "threads": arguments.threads, "backend": "cpu"}
        with Tracker.open(bundle, size=size, **options) as tracker:
            points[size] = score_size(arguments.root, names, tracker)
    columns = ("size", "J&F", "J", "F", "frames/s", "median ms", "p90", "MB", *names)
    table = make_table(columns, lay_out(points, default), markdown=True)
    open_console(markdown=True).print(table)
    value = {
        "model": bundle.name,
        "sha256": {name: graph.sha256 for name, graph in bundle.graphs.items()},
        "default_size": default,
        "edges": bundle.composition.edges and not arguments.no_edges,
        "window": arguments.window,
        "sequences": names,
        "machine": machine.to_json(),
        "ceilings": asdict(ceilings),
        "sizes": {str(size): point.to_json() for size, point in points.items()},
    }
    write_json(arguments.json, value)


if __name__ == "__main__":
    try:
        main()
    except VcedgeError as exc:
        sys.exit(f"speed_accuracy.py: {exc}")
