"""The folder that a run writes into: whose it is, what of it is ours, and who writes to it now."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vcedge_runtime.closing import Closing
from vcedge_runtime.errors import OutputError
from vcedge_runtime.files import GrowingText, remove_drafts, unwritable
from vcedge_runtime.locking import LOCK_NAME, Lock, refuse_locked
from vcedge_runtime.video.pictures import match_files

MASKS_NAME = "masks"
RECORD_NAME = ".vcedge-run.ndjson"
"""What a run wrote: a line a file, with its size and time once it is whole; the last one counts."""


def require_free(
    folder: str | Path,
    *,
    overwrite: bool = False,
    inputs: Sequence[str | Path] = (),
    names: Sequence[str] = (),
    beside: bool = False,
) -> None:
    """Refuse an output folder that would lose something; change nothing.

    Args:
        folder: where results are to go.
        overwrite: what an earlier run wrote may be removed; whatever else lies there stays.
        inputs: files, folders and globs that the run reads.
        names: of the files that it will write.
        beside: see ``OutputFolder``.

    Raises:
        OutputError: the folder holds something and ``overwrite`` is not set; an input lies where
            results go; a file would be replaced that no run wrote; another process writes there; or
            it cannot be listed.
    """
    traces = _Traces(Path(folder), beside)
    refuse_locked(traces.lock, traces.folder)
    _refuse_loss(traces, overwrite, inputs, names)


@dataclass(frozen=True)
class _Traces:
    """Where the record and the lock of an output folder stand."""

    folder: Path
    beside: bool

    @property
    def record(self) -> Path:
        return self._place(RECORD_NAME)

    @property
    def lock(self) -> Path:
        return self._place(LOCK_NAME)

    def _place(self, name: str) -> Path:
        folder = self.folder
        return folder.parent / f".{folder.name}{name}" if self.beside else folder / name


def _refuse_loss(
    traces: _Traces, overwrite: bool, inputs: Sequence[str | Path], names: Sequence[str] = ()
) -> None:
    """Refuse a folder that would lose something; see ``require_free``."""
    folder, own = traces.folder, (traces.record, traces.lock)
    try:
        if not folder.is_dir() or all(path in own for path in folder.iterdir()):
            return
        if not overwrite:
            raise OutputError(
                f"received an existing folder {folder}, which is not empty; "
                "pass --overwrite or choose another --out"
            )
        former = set(_find_written(traces))
        _refuse_inputs(folder, former, inputs)
        for path in (folder / name for name in names):
            if path not in former:
                _refuse_existing(path)
    except OSError as exc:
        raise unwritable(folder, exc) from exc


class OutputFolder(Closing):
    """The folder that a run writes into, which no other process writes to meanwhile.

    Args:
        folder: where the results go; made with its parents where it is missing.
        overwrite: remove what an earlier run wrote, as its record tells; whatever else lies there
            stays, and what was changed since.
        inputs: files, folders and globs that the run reads.
        beside: the record stands beside the folder instead of in it, where others take whatever the
            folder holds for a result.

    Attributes:
        path: of the folder.
        written: of each of its files and folders, how many files are whole, and their bytes.

    Raises:
        OutputError: as ``require_free``, or it cannot be made or written.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        overwrite: bool = False,
        inputs: Sequence[str | Path] = (),
        beside: bool = False,
    ) -> None:
        self.path = Path(folder)
        self.written: dict[str, tuple[int, int]] = {}
        self._traces = traces = _Traces(self.path, beside)
        _refuse_loss(traces, overwrite, inputs)
        with ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                _require_permission(self.path)
                stack.enter_context(Lock(traces.lock, self.path))
                # Another run may have ended meanwhile.
                _refuse_loss(traces, overwrite, inputs)
                _clear(traces)
            except OSError as exc:
                raise unwritable(self.path, exc) from exc
            self._record = GrowingText(traces.record)
            stack.callback(self._record.close)
            self._stack = stack.pop_all()

    def claim(self, path: str | Path) -> None:
        """Refuse to replace a file; what an earlier run wrote is gone by now.

        Raises:
            OutputError: it is there.
        """
        _refuse_existing(path)

    def note(self, path: str | Path, whole: str | Path | None = None) -> None:
        """Record a file of the run before it has its name.

        Args:
            path: its name, in this folder or one below it.
            whole: where it stands once nothing is written to it any more; None before that.

        Raises:
            OutputError: the record cannot be written.
        """
        name = os.path.relpath(path, self.path).replace(os.sep, "/")
        facts = {} if whole is None else _facts_of(os.lstat(whole))
        line = {"file": name, **facts}
        self._record.write(json.dumps(line, separators=(",", ":")) + "\n")
        if facts:
            place = name.partition("/")[0]
            files, size = self.written.get(place, (0, 0))
            self.written[place] = files + 1, size + facts["size"]

    def close(self) -> None:
        """Let others write to it; the record stays, if it tells of something."""
        if not self._record.closed and not _tells_of_something(self._traces):
            self._traces.record.unlink(missing_ok=True)
        self._stack.close()


class GrowingFile(GrowingText):
    """A text of a run that grows line by line; see ``GrowingText``.

    Args:
        path: the file.
        output: the run's folder, which records it; None to empty what has its name.

    Raises:
        OutputError: it cannot be opened, or something has its name that no run wrote.
    """

    def __init__(self, path: Path, output: OutputFolder | None = None) -> None:
        self._output = output
        if output is not None:
            output.claim(path)
            output.note(path)
        super().__init__(path)

    def close(self) -> None:
        """Finish the file; where it is empty, there is none."""
        opened = not self.closed
        super().close()
        if opened and self._output is not None and self.written:
            self._output.note(self.path, self.path)


def prepare_output(folder: str | Path, *, overwrite: bool = False) -> Path:
    """Make an output folder ready, for who neither records what he writes nor keeps others out.

    Args:
        folder: see ``OutputFolder``.
        overwrite: likewise.

    Returns:
        The folder.

    Raises:
        OutputError: likewise.
    """
    with OutputFolder(folder, overwrite=overwrite) as output:
        return output.path


def _require_permission(folder: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(
            f"received {folder}, which may not be written; expected a folder of your own; "
            "change its permissions or choose another --out"
        )


def _refuse_existing(path: str | Path) -> None:
    if os.path.lexists(path):
        raise OutputError(
            f"received {path}, which this run would replace, and which vcedge did not write or was "
            "changed since; move it away or choose another --out"
        )


def _refuse_inputs(folder: Path, former: set[Path], inputs: Sequence[str | Path]) -> None:
    """Refuse inputs that would be removed, by whatever name, and those where masks go."""
    removed = {_identity(path) for path in former}
    masks = (folder / MASKS_NAME).resolve()
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            inside = path.resolve() == masks
            files = list(path.iterdir())
        else:
            files = [path] if path.exists() else match_files(path)
            inside = any(parent.resolve() == masks for parent in {file.parent for file in files})
        if inside or not removed.isdisjoint(map(_identity, files)):
            raise OutputError(
                f"received {given} of the output folder {folder}; choose another --out"
            )


def _identity(path: Path) -> tuple[int, int] | None:
    """What is the same for one file by several names; None where nothing is there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _facts_of(found: os.stat_result) -> dict[str, int]:
    return {"size": found.st_size, "mtime_ns": found.st_mtime_ns}


def _find_written(traces: _Traces) -> Iterator[Path]:
    """Yield what the last run wrote to a folder and nobody changed since, as its record tells."""
    for name, facts in _read_record(traces.record).items():
        path = traces.folder / name
        # A record may come from anywhere: behind a link lie files of others.
        if path.parent != traces.folder and path.parent.is_symlink():
            continue
        with suppress(OSError, ValueError):
            found = path.lstat()
            own = {name: value for name, value in _facts_of(found).items() if name in facts}
            if stat.S_ISREG(found.st_mode) and own == facts:
                yield path


def _tells_of_something(traces: _Traces) -> bool:
    """Whether a file of the record is there; a long record need not be held for it."""
    return any(os.path.lexists(traces.folder / name) for name, _ in _read_lines(traces.record))


def _read_record(path: Path) -> dict[str, dict[str, int]]:
    """What the record says of each file; the last line counts."""
    return dict(_read_lines(path))


def _read_lines(path: Path) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield the record's lines; those that are none, and names that lead out, are passed over."""
    with suppress(OSError), path.open("rb") as lines:
        for line in lines:
            with suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
                facts: dict[str, Any] = json.loads(line)
                name = Path(facts.pop("file"))
                if not name.is_absolute() and name.parent in (Path(), Path(MASKS_NAME)):
                    yield str(name), facts


def _clear(traces: _Traces) -> None:
    """Remove what earlier runs wrote, whole or not, and nothing else."""
    folder, masks = traces.folder, traces.folder / MASKS_NAME
    places = [folder] + [masks] * (masks.is_dir() and not masks.is_symlink())
    for path in _find_written(traces):
        path.unlink(missing_ok=True)
    for place in places:
        remove_drafts(place)
    with suppress(OSError):
        masks.rmdir()
