"""The table: whole at every moment, and one row a video in the end."""

from __future__ import annotations

import csv
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from vcedge.fleet.table import COLUMNS, DONE, FAILED, Row, Table


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_stands_in_the_file_when_it_was_added(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    with Table(path) as table:
        assert read(path) == []
        table.add(Row(2, "a, b.mp4", "a", DONE, 12, 1.5, 0.25, 'said "so",\n  twice'))
        (row,) = read(path)
    assert tuple(row) == COLUMNS
    assert row["video"] == "a, b.mp4"
    assert (row["frames"], row["seconds"], row["score"]) == ("12", "1.500", "0.2500")
    assert row["message"] == 'said "so", twice'


def test_in_the_end_there_is_one_row_a_video_in_the_order_of_the_manifest(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    with Table(path) as table:
        for line in (3, 1, 2):
            table.add(Row(line, f"{line}.mp4", str(line), FAILED))
    with Table(path, keep=True) as table:
        table.add(Row(1, "1.mp4", "1", DONE))
        assert [row["results"] for row in read(path)] == ["1", "2", "3", "1"]
        table.settle(through=False)
    assert [(r["line"], r["state"]) for r in read(path)] == [
        ("1", DONE),
        ("2", FAILED),
        ("3", FAILED),
    ]


def test_rows_of_videos_that_are_no_longer_there_go_with_a_whole_run(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    with Table(path) as table:
        table.add(Row(1, "old.mp4", "old", DONE))
    with Table(path, keep=True) as table:
        table.add(Row(1, "new.mp4", "new", DONE))
        table.settle(through=True)
    assert [row["results"] for row in read(path)] == ["new"]


def test_a_row_that_was_cut_short_is_gone_with_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    with Table(path) as table:
        table.add(Row(1, "a.mp4", "a", DONE))
    with path.open("ab") as file:
        file.write(b"2,b.mp4,b,do")
    with Table(path, keep=True) as table:
        table.add(Row(3, "c.mp4", "c", DONE))
    assert [row["results"] for row in read(path)] == ["a", "c"]


@given(message=st.text(max_size=40), video=st.text(st.characters(codec="utf-8"), max_size=20))
def test_whatever_a_row_says_the_table_can_be_read_again(message: str, video: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "results.csv")
        with Table(path) as table:
            table.add(Row(1, video, "first", DONE, message=message))
            table.add(Row(2, "b.mp4", "second", DONE))
            table.settle(through=True)
        assert [row["results"] for row in read(path)] == ["first", "second"]
