"""What ``vcedge bench`` says of graphs, of boards that are not here, and of power."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from vcedge.bench.power import PowerReading
from vcedge.bench.profiling import Profile
from vcedge.bench.roofline import BOARDS, LIMITS, predict
from vcedge.bench.work import BYTES_OF
from vcedge.commands.tables import make_table
from vcedge_runtime.model.bundle import PRECISIONS

SHOWN_PRECISION = "fp16"
"""Of the rows of single graphs: what such a board is run in (our choice)."""
COUNTED = (
    f"Milliseconds are those of a frame, for single graphs in {SHOWN_PRECISION.upper()}. GMAC: "
    "counted of convolutions and matrix products. MB: inputs, outputs and weights of every run."
)


def prediction_table(profile: Profile, *, markdown: bool = False) -> Table:
    """Lay out each graph's work, its time here, and its predicted time on each board."""
    shown = [predict(profile.graphs, board, SHOWN_PRECISION) for board in BOARDS]
    rows = [
        (
            graph.name,
            "not counted" if graph.macs is None else f"{graph.macs / 1e9:.2f}",
            f"{graph.values * BYTES_OF[SHOWN_PRECISION] / 1e6:.1f}",
            f"{graph.milliseconds:.1f}",
            *(_milliseconds(prediction.graphs_ms[graph.name]) for prediction in shown),
        )
        for graph in profile.graphs
    ]
    here = sum(graph.milliseconds for graph in profile.graphs)
    for precision in PRECISIONS:
        totals = [predict(profile.graphs, board, precision).total_ms for board in BOARDS]
        measured = f"{here:.1f}" if precision == PRECISIONS[0] else ""
        rows.append((f"all in {precision}", "", "", measured, *map(_milliseconds, totals)))
    boards = [f"{board.name} predicted" for board in BOARDS]
    columns = ("graph", "GMAC", "MB", "ms here", *boards)
    return make_table(columns, rows, markdown=markdown)


def describe_limits(profile: Profile) -> str:
    """Say what a prediction leaves out, with the time of it here."""
    unknown = [graph.name for graph in profile.graphs if graph.macs is None]
    left = f" Not counted, and left out: {', '.join(unknown)}." if unknown else ""
    return (
        f"{LIMITS}{left} {COUNTED} The rest of the tracking runs in Python and OpenCV on the "
        f"board's CPU and is not predicted: {profile.outside_graphs_ms:.1f} ms a frame here."
    )


def predictions_to_json(profile: Profile) -> dict[str, Any]:
    """Return all boards and precisions as plain JSON values, marked as a prediction."""
    return {
        "note": describe_limits(profile),
        "boards": [
            predict(profile.graphs, board, precision).to_json()
            for board in BOARDS
            for precision in PRECISIONS
        ],
    }


def describe_power(power: PowerReading | None) -> str:
    """Watts and joules in words."""
    if power is None:
        return "not measured: found no INA3221, tegrastats, NVML or nvidia-smi that tells it"
    return (
        f"{power.mean_watts:.1f} W on average, {power.peak_watts:.1f} W at most, "
        f"{power.joules_per_frame:.2f} J a frame, idle draw included; {power.source}, "
        f"{power.samples} samples in {power.seconds:.1f} s"
    )


def _milliseconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"
