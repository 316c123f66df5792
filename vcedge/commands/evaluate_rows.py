"""What ``vcedge eval`` shows of a score: rows of a table, also as CSV."""

from __future__ import annotations

import csv as csv_text
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from vcedge.commands.tables import make_table
from vcedge.evaluation import badja as badja_protocol
from vcedge.evaluation.youtube_score import HoldoutScore
from vcedge_runtime.files import write_whole


def count_videos(console: Console, total: int) -> Callable[[str], None]:
    """Print each video's name as it is done."""
    done = iter(range(1, total + 1))
    return lambda name: console.out(f"{next(done)}/{total} {name}", highlight=False)


def report_rows(
    console: Console,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    csv: Path | None,
    *,
    left: int = 1,
) -> None:
    """Print a table, and write it where the user wants it."""
    console.print(make_table(columns, rows, left=left))
    if csv is not None:
        text = io.StringIO(newline="")
        stripped = ([cell.strip() for cell in row] for row in rows)
        csv_text.writer(text, lineterminator="\n").writerows([columns, *stripped])
        write_whole(csv, text.getvalue().encode())
        console.out(f"wrote {csv}", highlight=False)


def write_percent(values: Sequence[float] | Any) -> list[str]:
    """Shares as percent, without the sign."""
    return [f"{100 * value:.1f}" for value in values]


def list_badja_rows(
    method: str, scores: Sequence[badja_protocol.BadjaScore]
) -> list[tuple[str, ...]]:
    """A row for each sequence of a method, and one for the mean of several."""
    at = badja_protocol.THRESHOLDS.index(0.2)
    rows = []
    for score in scores:
        figures = (*score.later.pooled, score.later.mean[at], score.every.pooled[at])
        median = f"{score.median_error:.3f}"
        rows.append((method, score.name, str(score.later.points), *write_percent(figures), median))
    if len(scores) > 1:
        later, every = badja_protocol.average(scores)
        points = str(sum(score.later.points for score in scores))
        rows.append(
            (method, "mean", points, "", *write_percent([later]), "", *write_percent([every]), "")
        )
    return rows


def list_holdout_rows(score: HoldoutScore) -> list[tuple[str, ...]]:
    """A row for each group of categories, and one for their mean."""
    rows = [
        (
            group.name,
            str(group.objects),
            *write_percent([group.j_and_f, group.region, group.boundary]),
        )
        for group in score.groups
    ]
    return [*rows, ("mean of the groups", "", *write_percent([score.overall]), "", "")]
