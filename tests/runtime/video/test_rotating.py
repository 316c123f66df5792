"""Logs of bounded size: which files there are, and what becomes of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vcedge_runtime.errors import OutputError
from vcedge_runtime.video import rotating
from vcedge_runtime.video.outputs import RECORD_NAME, OutputFolder
from vcedge_runtime.video.rotating import Rotation, open_lines

LINE = "x" * 99 + "\n"


@pytest.fixture
def rotation(monkeypatch: pytest.MonkeyPatch) -> Rotation:
    """Ten lines a file, two full ones kept."""
    monkeypatch.setattr(rotating, "LEAST_BYTES", 1)
    return Rotation(1000, keep=2)


def count_lines(folder: Path) -> dict[str, int]:
    return {
        path.name: path.read_text().count(LINE)
        for path in sorted(folder.iterdir())
        if path.name != RECORD_NAME
    }


def write(folder: Path, rotation: Rotation | None, lines: int) -> dict[str, tuple[int, int]]:
    """Write lines; returns what the run says that it wrote."""
    with OutputFolder(folder, overwrite=True) as output:
        text = open_lines(folder / "a.ndjson", output, rotation)
        for _ in range(lines):
            text.write(LINE)
        text.close()
        text.close()
        return output.written


@pytest.mark.parametrize(
    ("lines", "files"),
    [
        (1, {"a.ndjson": 1}),
        (10, {"a.ndjson": 10}),
        (11, {"a.00001.ndjson": 10, "a.ndjson": 1}),
        (45, {"a.00003.ndjson": 10, "a.00004.ndjson": 10, "a.ndjson": 5}),
        (0, {}),
    ],
)
def test_full_logs_are_numbered_and_the_oldest_removed(
    tmp_path: Path, rotation: Rotation, lines: int, files: dict[str, int]
) -> None:
    write(tmp_path / "out", rotation, lines)
    assert count_lines(tmp_path / "out") == files


def test_without_a_rotation_there_is_one_file(tmp_path: Path) -> None:
    write(tmp_path / "out", None, 45)
    assert count_lines(tmp_path / "out") == {"a.ndjson": 45}


def test_every_file_is_counted_once_under_its_name(tmp_path: Path, rotation: Rotation) -> None:
    written = write(tmp_path / "out", rotation, 25)
    full = len(LINE) * 10
    assert written == {
        "a.00001.ndjson": (1, full),
        "a.00002.ndjson": (1, full),
        "a.ndjson": (1, full // 2),
    }


def test_a_later_run_takes_away_all_of_them(tmp_path: Path, rotation: Rotation) -> None:
    write(tmp_path / "out", rotation, 45)
    write(tmp_path / "out", rotation, 1)
    assert count_lines(tmp_path / "out") == {"a.ndjson": 1}


def test_a_full_log_is_recorded_before_it_has_its_name(
    tmp_path: Path, rotation: Rotation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(path: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", rotation, 11)
    record = (tmp_path / "out" / RECORD_NAME).read_text().splitlines()
    assert json.loads(record[-1]) == {"file": "a.00001.ndjson"}


def test_a_file_of_somebody_elses_is_not_replaced(tmp_path: Path, rotation: Rotation) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.00001.ndjson").write_text("mine")
    with pytest.raises(OutputError, match=r"a\.00001\.ndjson, which this run would replace"):
        write(tmp_path / "out", rotation, 11)
    assert (tmp_path / "out" / "a.00001.ndjson").read_text() == "mine"


def test_a_line_that_is_larger_than_a_file_has_one_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotating, "LEAST_BYTES", 1)
    write(tmp_path / "out", Rotation(10), 3)
    assert set(count_lines(tmp_path / "out").values()) == {1}


@pytest.mark.parametrize(("size", "keep"), [(10, 1), (10**6, -1)])
def test_a_rotation_that_keeps_nothing_is_refused(size: int, keep: int) -> None:
    with pytest.raises(OutputError, match="expected 0 or more, of at least 65536 bytes"):
        Rotation(size, keep)
