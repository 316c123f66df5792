"""Mean, recall and decay, their averages, and the two ways they are written down."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from vcedge.commands.tables import make_table
from vcedge.evaluation.davis import DavisScore, ObjectScore, SequenceScore, Statistics
from vcedge.evaluation.davis_score import CSV_HEADER, ROW_HEADINGS
from vcedge_runtime.errors import OutputError


def official_decay(values: list[float]) -> float:
    """Follow the official code, which keeps the edges of the quarters in uint8."""
    edges = (np.round(np.linspace(1, len(values), 5) + 1e-10) - 1).astype(np.uint8)
    bins = [values[int(edges[i]) : int(edges[i + 1]) + 1] for i in range(4)]
    return sum(bins[0]) / len(bins[0]) - sum(bins[3]) / len(bins[3])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=256))
def test_statistics_equal_the_official_ones_up_to_256_frames(values: list[float]) -> None:
    found = Statistics.over_frames(np.array(values))
    # Sums in another order differ in the last bits.
    assert found.mean == pytest.approx(sum(values) / len(values), abs=1e-12)
    assert found.recall == pytest.approx(sum(v > 0.5 for v in values) / len(values), abs=1e-12)
    assert found.decay == pytest.approx(official_decay(values), abs=1e-12)


def test_decay_compares_true_quarters_beyond_256_frames() -> None:
    values = np.repeat([1.0, 0.5, 0.5, 0.25], 250)
    # The quarters share their edges, so one frame of 251 belongs to the neighbour.
    assert Statistics.over_frames(values).decay == pytest.approx(0.75, abs=0.005)


def test_half_is_not_recalled() -> None:
    assert Statistics.over_frames(np.array([0.5, 0.50001, 0.2, 1.0])).recall == 0.5


def object_score(object_id: int, region: float, boundary: float) -> ObjectScore:
    return ObjectScore(
        object_id, Statistics(region, region, 0.5), Statistics(boundary, boundary, -0.25)
    )


@pytest.fixture
def score() -> DavisScore:
    one = SequenceScore("alone", 10, (object_score(1, 1.0, 0.8),))
    two = SequenceScore("pair", 20, (object_score(1, 0.2, 0.4), object_score(2, 0.0, 0.0)))
    return DavisScore((one, two))


def test_a_sequence_is_the_mean_of_its_objects(score: DavisScore) -> None:
    pair = score.sequences[1]
    assert pair.region == Statistics(0.1, 0.1, 0.5)
    assert pair.j_and_f == pytest.approx(0.15)


def test_the_whole_is_the_mean_over_objects_and_not_over_sequences(score: DavisScore) -> None:
    assert score.region.mean == pytest.approx(0.4)
    assert score.boundary.mean == pytest.approx(0.4)
    assert score.j_and_f == pytest.approx(0.4)
    assert score.boundary.decay == pytest.approx(-0.25)


def test_the_csv_has_a_row_overall_then_sequences_then_objects(
    score: DavisScore, tmp_path: Path
) -> None:
    score.write_csv(tmp_path / "davis.csv")
    assert b"\r" not in (tmp_path / "davis.csv").read_bytes()
    with (tmp_path / "davis.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == CSV_HEADER
    assert [row[:5] for row in rows] == [
        ["global", "", "", "3", "30"],
        ["sequence", "alone", "", "1", "10"],
        ["sequence", "pair", "", "2", "20"],
        ["object", "alone", "1", "1", "10"],
        ["object", "pair", "1", "1", "20"],
        ["object", "pair", "2", "1", "20"],
    ]
    assert [float(cell) for cell in rows[4][5:]] == [0.3, 0.2, 0.2, 0.5, 0.4, 0.4, -0.25]
    assert [path.name for path in tmp_path.iterdir()] == ["davis.csv"]


def test_a_csv_that_cannot_be_written_is_an_output_error(score: DavisScore, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        score.write_csv(tmp_path / "absent" / "davis.csv")


def render(score: DavisScore, objects: bool) -> str:
    console = Console(width=80, no_color=True)
    with console.capture() as capture:
        console.print(make_table(ROW_HEADINGS, list(score.rows(objects=objects))))
    return capture.get()


def test_the_table_fits_eighty_columns_and_ends_with_the_mean(score: DavisScore) -> None:
    lines = [line.split() for line in render(score, objects=False).splitlines() if line.strip()]
    assert " ".join(lines[-1]) == "3 objects 30 0.400 0.400 0.400 0.500 0.400 0.400 -0.250"
    assert ["pair", "20", "0.150"] in [line[:3] for line in lines]


def test_the_table_shows_the_objects_of_a_sequence_with_several(score: DavisScore) -> None:
    text = render(score, objects=True)
    assert text.count("pair/1") == 1
    assert text.count("pair/2") == 1
