"""What a run leaves at the place that it writes to: the record of its files, and the lock."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vcedge_runtime.locking import LOCK_NAME

RECORD_NAME = ".vcedge-run.ndjson"
"""What a run wrote: a line a file, with its size and time once it is whole; the last one counts."""


@dataclass(frozen=True)
class Traces:
    """Where the record and the lock of an output stand.

    Attributes:
        folder: in which its files are.
        record: the record.
        lock: the lock.
        below: names of folders in it that files may be in.
        option: what chose it.
    """

    folder: Path
    record: Path
    lock: Path
    below: tuple[str, ...]
    option: str

    @classmethod
    def of_folder(
        cls, folder: Path, option: str, below: Sequence[str] = (), *, beside: bool = False
    ) -> Traces:
        """Say where those of a folder stand: in it, or beside it."""
        record, lock = (folder / name for name in (RECORD_NAME, LOCK_NAME))
        if beside:
            record, lock = _place_beside(folder)
        return cls(folder, record, lock, tuple(below), option)

    @classmethod
    def of_file(cls, path: Path, option: str) -> Traces:
        """Say where those of a file stand: beside it."""
        return cls(path.parent, *_place_beside(path), (), option)


def facts_of(found: os.stat_result) -> dict[str, int]:
    """What the record tells of a file: whoever changes it, changes that."""
    return {"size": found.st_size, "mtime_ns": found.st_mtime_ns}


def find_written(traces: Traces) -> Iterator[Path]:
    """Yield what the last run wrote to a folder and nobody changed since, as its record tells."""
    for name, facts in _read_record(traces).items():
        path = traces.folder / name
        # A record may come from anywhere: behind a link lie files of others.
        if path.parent != traces.folder and path.parent.is_symlink():
            continue
        with suppress(OSError, ValueError):
            found = path.lstat()
            own = {name: value for name, value in facts_of(found).items() if name in facts}
            if stat.S_ISREG(found.st_mode) and own == facts:
                yield path


def list_recorded(traces: Traces) -> list[Path]:
    """List all that the last run wrote to a folder, as its record tells, changed since or not."""
    return [traces.folder / name for name in _read_record(traces)]


def stands_whole(traces: Traces) -> bool:
    """Whether a run wrote something to a folder, and all of it stands as it was written."""
    told = _read_record(traces)
    return bool(told) and len({*find_written(traces)}) == len(told)


def tells_of_something(traces: Traces) -> bool:
    """Whether a file of the record is there; a long record need not be held for it."""
    return any(os.path.lexists(traces.folder / name) for name, _ in _read_lines(traces))


def _place_beside(path: Path) -> tuple[Path, Path]:
    """Name the record and the lock of what lies in a folder of others."""
    record, lock = (path.parent / f".{path.name}{name}" for name in (RECORD_NAME, LOCK_NAME))
    return record, lock


def _read_record(traces: Traces) -> dict[str, dict[str, int]]:
    """What the record says of each file; the last line counts."""
    return dict(_read_lines(traces))


def _read_lines(traces: Traces) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield the record's lines; those that are none, and names that lead out, are passed over."""
    places = [Path(), *map(Path, traces.below)]
    with suppress(OSError), traces.record.open("rb") as lines:
        for line in lines:
            with suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
                facts: dict[str, Any] = json.loads(line)
                name = Path(facts.pop("file"))
                if not name.is_absolute() and name.parent in places:
                    yield str(name), facts
