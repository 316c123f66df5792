"""Ablations: J&F of a bundle with other parts at run time, ours beside the papers'."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vcedge.commands.tables import make_table, open_console
from vcedge.doctor.machine import describe_machine
from vcedge.evaluation.davis import SequenceScore, list_sequences
from vcedge.evaluation.davis_run import TrackedScore, track_and_score
from vcedge_runtime.buffers import Buffer
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vcedge_runtime.errors import EvaluationError, VcedgeError
from vcedge_runtime.model.bundle import DEFAULT_LABEL_MODEL, Bundle
from vcedge_runtime.tracker import Tracker

TABLES = Path(__file__).with_name("ablations.json")


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        table: its table's name.
        name: what is different.
        parts: of the composition, as the bundle's manifest writes them; the bundle's otherwise.
        paper: the paper's figure as text, empty where it has none.
    """

    table: str
    name: str
    parts: Mapping[str, Any]
    paper: str

    def change(self, bundle: Bundle) -> Bundle:
        """Return the bundle with this row's parts."""
        changed = bundle.composition.exchange(**self.parts)
        return replace(bundle, composition=changed)


class KeepingEncoder:
    """An encoder that runs once a frame, however many rows want its key.

    Args:
        engine: the encoder.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._keys: dict[bytes, dict[str, Buffer]] = {}
        self.spec = engine.spec

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        """See ``Engine.run``."""
        mark = hashlib.blake2b()
        for name in sorted(inputs):
            mark.update(inputs[name].tobytes())
        kept = self._keys.get(mark.digest())
        if kept is None:
            self._engine.run(inputs, out)
            self._keys[mark.digest()] = {name: value.copy() for name, value in out.items()}
            return
        for name, value in kept.items():
            out[name][...] = value

    def close(self) -> None:
        """Stay open: the next row goes on with it."""


def open_engines(bundle: Bundle, threads: int) -> dict[str, Engine]:
    """Open every graph of a bundle, a key encoder as one that keeps what it made.

    SRNet's encoder is not kept: its features of one frame take as much as a thousand keys.
    """
    engines: dict[str, Engine] = {
        name: OnnxRuntimeEngine(bundle.read_graph(name), graph.spec, threads=threads)
        for name, graph in bundle.graphs.items()
    }
    kept = {name: KeepingEncoder(e) for name, e in engines.items() if name == "encoder"}
    return {**engines, **kept}


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


def read_rows(path: Path, only: list[str] | None) -> list[Row]:
    """Read the wanted tables.

    Raises:
        EvaluationError: a table that is not there.
    """
    tables = json.loads(path.read_text())
    missing = set(only or ()) - set(tables)
    if missing:
        raise EvaluationError(f"received tables {sorted(missing)}; {path} has {sorted(tables)}")
    return [
        Row(table, row["name"], row.get("parts", {}), str(row.get("paper", "")))
        for table in only or tables
        for row in tables[table]
    ]


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
    engines = open_engines(bundle, arguments.threads)
    chosen = arguments.sequences.split(",") if arguments.sequences else None
    names = list_sequences(arguments.root, chosen)
    rows = read_rows(arguments.tables, arguments.only.split(",") if arguments.only else None)
    lines, report = [], []
    for row in rows:
        found = measure(row, bundle, engines, names, arguments)
        own = [f"{sequence.j_and_f:.3f}" for sequence in found.score.sequences]
        lines.append((row.table, row.name, f"{found.score.j_and_f:.3f}", row.paper, *own))
        entry = {"table": row.table, "name": row.name, "parts": row.parts, "paper": row.paper}
        scores = {s.name: s.j_and_f for s in found.score.sequences}
        report.append(
            {**entry, "j_and_f": found.score.j_and_f, "sequences": scores, "ms": median_ms(found)}
        )
        value = {"model": bundle.name, "machine": describe_machine().to_json(), "rows": report}
        # After every row, so that a run that is stopped has given something.
        arguments.json.write_text(json.dumps(value, indent=1) + "\n")
    table = make_table(("table", "row", "J&F", "paper", *names), lines, left=2, markdown=True)
    open_console(markdown=True).print(table)


if __name__ == "__main__":
    try:
        main()
    except VcedgeError as exc:
        sys.exit(f"ablation.py: {exc}")
