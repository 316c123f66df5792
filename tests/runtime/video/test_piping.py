"""A pipe in the place of a file: all that comes is written, or told, and nobody ever waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from vcedge_runtime.errors import OutputError
from vcedge_runtime.video.piping import PipedFile


def write(file: PipedFile, data: bytes) -> None:
    """Write as a library does."""
    with Path(file.place).open("wb", buffering=0) as pipe:
        file.let_go()
        rest = memoryview(data)
        while rest:
            rest = rest[pipe.write(rest) :]


def test_what_a_library_writes_stands_in_the_draft(tmp_path: Path) -> None:
    data = bytes(range(256)) * 20_000
    with PipedFile(tmp_path / "a.rrd") as file:
        write(file, data)
    file.check()
    assert file.draft.place.read_bytes() == data
    file.draft.keep()
    assert [path.name for path in tmp_path.iterdir()] == ["a.rrd"]


def test_a_full_disk_is_told_and_keeps_no_library_waiting(
    tmp_path: Path, limited_files: None
) -> None:
    with PipedFile(tmp_path / "a.rrd") as file:
        write(file, bytes(3_000_000))
    with pytest.raises(OutputError, match=r"a\.rrd cannot be written \(File too large\)"):
        file.check()


def test_a_library_that_writes_nothing_leaves_an_empty_draft(tmp_path: Path) -> None:
    file = PipedFile(tmp_path / "a.rrd")
    file.close()
    file.close()
    file.check()
    assert file.draft.place.read_bytes() == b""


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        PipedFile(tmp_path / "none" / "a.rrd")
