"""Files of others, read whole within bounds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vcedge_runtime.reading import read_bounded


def count_open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_bounded(path, 5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_bounded(path, 4)


@pytest.mark.parametrize("piped", [False, True])
def test_a_folder_is_refused_and_nothing_stays_open(tmp_path: Path, piped: bool) -> None:
    before = count_open_files()
    for _ in range(3):
        with pytest.raises(IsADirectoryError):
            read_bounded(tmp_path, 5, piped=piped)
    assert count_open_files() == before


def test_a_pipe_that_nobody_writes_to_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="it is no file"):
        read_bounded(tmp_path / "pipe", 5)
