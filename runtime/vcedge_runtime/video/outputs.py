"""The places that a run writes to: whose they are, what there is ours, and who writes there now."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

from vcedge_runtime.closing import Closing
from vcedge_runtime.errors import OutputError
from vcedge_runtime.files import GrowingText, list_drafts, remove_drafts, unwritable, write_whole
from vcedge_runtime.locking import Lock, refuse_locked
from vcedge_runtime.video.pictures import match_files
from vcedge_runtime.video.traces import (
    RECORD_NAME,
    Traces,
    facts_of,
    find_written,
    list_recorded,
    tells_of_something,
)

__all__ = [
    "MASKS_NAME",
    "RECORD_NAME",
    "GrowingFile",
    "Output",
    "OutputFile",
    "OutputFolder",
    "prepare_output",
    "require_free",
    "require_free_file",
    "write_noted",
]

MASKS_NAME = "masks"


def require_free(
    folder: str | Path,
    *,
    overwrite: bool = False,
    inputs: Sequence[str | Path] = (),
    names: Sequence[str] = (),
    filled: Sequence[str] = (),
    beside: bool = False,
    below: Sequence[str] = (MASKS_NAME,),
    option: str = "--out",
) -> None:
    """Refuse an output folder that would lose something; change nothing.

    Args:
        folder: where results are to go.
        overwrite: what an earlier run wrote may be removed; whatever else lies there stays.
        inputs: files, folders and globs that the run reads.
        names: of the files that it will write.
        filled: of folders in it that it will write to: what an earlier run wrote there, and
            somebody changed since, may be in the way.
        beside: see ``OutputFolder``.
        below: likewise.
        option: likewise.

    Raises:
        OutputError: the folder holds something and ``overwrite`` is not set; an input lies where
            results go; a file would be replaced that no run wrote; another process writes there; or
            it cannot be listed.
    """
    traces = Traces.of_folder(Path(folder), option, below, beside=beside)
    refuse_locked(traces.lock, traces.folder)
    _refuse_loss(traces, overwrite, inputs, names, filled)


def require_free_file(path: Path, *, overwrite: bool = False, option: str = "--out") -> None:
    """Refuse a file that would replace something; change nothing.

    Args:
        path: see ``OutputFile``.
        overwrite: likewise.
        option: likewise.

    Raises:
        OutputError: likewise, but for what cannot be written.
    """
    traces = Traces.of_file(path, option)
    refuse_locked(traces.lock, path)
    _refuse_replacing(traces, path, overwrite)


def _refuse_loss(
    traces: Traces,
    overwrite: bool,
    inputs: Sequence[str | Path],
    names: Sequence[str] = (),
    filled: Sequence[str] = (),
) -> None:
    """Refuse a folder that would lose something; see ``require_free``."""
    folder, own = traces.folder, (traces.record, traces.lock)
    try:
        if not folder.is_dir() or all(path in own for path in folder.iterdir()):
            return
        if not overwrite:
            raise OutputError(
                f"received an existing folder {folder}, which is not empty; "
                f"pass --overwrite or choose another {traces.option}"
            )
        former = set(find_written(traces))
        _refuse_inputs(traces, former, inputs)
        places = [folder / name for name in filled]
        inside = [path for path in list_recorded(traces) if path.parent in places]
        for path in (*(folder / name for name in names), *inside):
            if path not in former:
                _refuse_existing(path, traces.option)
    except OSError as exc:
        raise unwritable(folder, exc) from exc


def _refuse_replacing(traces: Traces, path: Path, overwrite: bool) -> None:
    """Refuse a file that stands there; see ``require_free_file``."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    except OSError as exc:
        raise unwritable(path, exc) from exc
    if stat.S_ISDIR(found.st_mode):
        raise OutputError(
            f"received {path}, which is a folder; expected a file's name; "
            f"choose another {traces.option}"
        )
    if not overwrite:
        raise OutputError(
            f"received an existing file {path}; pass --overwrite or choose another {traces.option}"
        )
    if path not in find_written(traces):
        _refuse_existing(path, traces.option)


class Output(Closing):
    """A place that a run writes to, which no other process writes to meanwhile.

    Attributes:
        path: of the place.
        written: of each of its files and folders, how many files are whole, and their bytes.
    """

    path: Path
    written: dict[str, tuple[int, int]]
    _traces: Traces
    _record: GrowingText
    _stack: ExitStack

    def claim(self, path: str | Path) -> None:
        """Refuse to replace a file; what an earlier run wrote is gone by now.

        Raises:
            OutputError: it is there.
        """
        _refuse_existing(path, self._traces.option)

    def note(self, path: str | Path, whole: str | Path | None = None) -> None:
        """Record a file of the run before it has its name.

        Args:
            path: its name, in this place or one below it.
            whole: where it stands once nothing is written to it any more; None before that.

        Raises:
            OutputError: the record cannot be written.
        """
        name = os.path.relpath(path, self._traces.folder).replace(os.sep, "/")
        facts = {} if whole is None else facts_of(os.lstat(whole))
        line = {"file": name, **facts}
        self._record.write(json.dumps(line, separators=(",", ":")) + "\n")
        if facts:
            place = name.partition("/")[0]
            files, size = self.written.get(place, (0, 0))
            self.written[place] = files + 1, size + facts["size"]

    def close(self) -> None:
        """Let others write to it; the record stays, if it tells of something."""
        if not self._record.closed and not tells_of_something(self._traces):
            self._traces.record.unlink(missing_ok=True)
        self._stack.close()

    def _open(self, folder: Path, check: Callable[[], None], clear: Callable[[], None]) -> None:
        """Take the place for this process: make its folder, lock it, clear it, begin the record."""
        self.written = {}
        check()
        with ExitStack() as stack:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                _require_permission(folder, self._traces.option)
                stack.enter_context(Lock(self._traces.lock, self.path))
                # Another run may have ended meanwhile.
                check()
                clear()
            except OSError as exc:
                raise unwritable(self.path, exc) from exc
            self._record = GrowingText(self._traces.record)
            stack.callback(self._record.close)
            self._stack = stack.pop_all()


class OutputFolder(Output):
    """The folder that a run writes into; see ``Output``.

    Args:
        folder: where the results go; made with its parents where it is missing.
        overwrite: remove what an earlier run wrote, as its record tells; whatever else lies there
            stays, and what was changed since.
        inputs: files, folders and globs that the run reads.
        beside: the record stands beside the folder instead of in it, where others take whatever the
            folder holds for a result.
        below: names of the folders in it that the run writes into.
        option: of the command line, which chose it.

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
        below: Sequence[str] = (MASKS_NAME,),
        option: str = "--out",
    ) -> None:
        self.path = Path(folder)
        self._traces = traces = Traces.of_folder(self.path, option, below, beside=beside)
        check = partial(_refuse_loss, traces, overwrite, inputs)
        self._open(self.path, check, partial(_clear, traces))

    def close(self) -> None:
        """Let others write to it; folders in it that nothing was written to are taken away."""
        _remove_empty(self._traces)
        super().close()


class OutputFile(Output):
    """A file that a run writes at a place of its own; see ``Output``.

    Its record stands beside it, hidden.

    Args:
        path: the file; its folder is made with its parents where it is missing.
        overwrite: remove it, if an earlier run wrote it and nobody changed it since.
        option: of the command line, which chose it.

    Raises:
        OutputError: a file stands there and ``overwrite`` is not set, or no run wrote it; or it
            cannot be written.
    """

    def __init__(self, path: Path, *, overwrite: bool = False, option: str = "--out") -> None:
        self.path = path
        self._traces = traces = Traces.of_file(path, option)
        check = partial(_refuse_replacing, traces, path, overwrite)
        self._open(path.parent, check, partial(_clear_file, path))


class GrowingFile(GrowingText):
    """A text of a run that grows line by line; see ``GrowingText``.

    Args:
        path: the file.
        output: the run's place, which records it; None to empty what has its name.

    Raises:
        OutputError: it cannot be opened, or something has its name that no run wrote.
    """

    def __init__(self, path: Path, output: Output | None = None) -> None:
        self._output = output
        if output is not None:
            output.claim(path)
            output.note(path)
        super().__init__(path)

    def close(self) -> None:
        """Finish the file; where it is empty, there is none."""
        opened = not self.closed
        self.leave()
        if opened and self._output is not None and self.written:
            self._output.note(self.path, self.path)

    def leave(self) -> None:
        """Finish the file and record nothing: it gets another name."""
        super().close()


def write_noted(path: str, data: bytes, output: Output | None = None) -> None:
    """Write a file of a run, whole or not at all.

    Args:
        path: the file; text, as ``files.Draft`` says.
        data: what it holds.
        output: the run's place, which records it; None to replace what has its name.

    Raises:
        OutputError: it cannot be written, or something has its name that no run wrote.
    """
    if output is None:
        write_whole(path, data)
        return
    output.claim(path)
    write_whole(path, data, on_done=partial(output.note, path))


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


def _require_permission(folder: Path, option: str) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(
            f"received {folder}, which may not be written; expected a folder of your own; "
            f"change its permissions or choose another {option}"
        )


def _refuse_existing(path: str | Path, option: str) -> None:
    if os.path.lexists(path):
        raise OutputError(
            f"received {path}, which this run would replace, and which vcedge did not write or was "
            f"changed since; move it away or choose another {option}"
        )


def _refuse_inputs(traces: Traces, former: set[Path], inputs: Sequence[str | Path]) -> None:
    """Refuse inputs that would be removed, by whatever name, and those where results go."""
    removed = {_identity(path) for path in former}
    taken = {(traces.folder / name).resolve() for name in traces.below}
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            inside = path.resolve() in taken
            files = list(path.iterdir())
        else:
            files = [path] if path.exists() else match_files(path)
            inside = any(parent.resolve() in taken for parent in {file.parent for file in files})
        if inside or not removed.isdisjoint(map(_identity, files)):
            raise OutputError(
                f"received {given} of the output folder {traces.folder}; choose another "
                f"{traces.option}"
            )


def _identity(path: Path) -> tuple[int, int] | None:
    """What is the same for one file by several names; None where nothing is there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _clear(traces: Traces) -> None:
    """Remove what earlier runs wrote, whole or not, and nothing else."""
    below = [traces.folder / name for name in traces.below]
    own = [place for place in below if place.is_dir() and not place.is_symlink()]
    for path in find_written(traces):
        path.unlink(missing_ok=True)
    for place in (traces.folder, *own):
        remove_drafts(place)
    _remove_empty(traces)


def _remove_empty(traces: Traces) -> None:
    for name in traces.below:
        with suppress(OSError):
            (traces.folder / name).rmdir()


def _clear_file(path: Path) -> None:
    """Remove a file that an earlier run wrote, whole or not."""
    for left in (path, *list_drafts(path)):
        left.unlink(missing_ok=True)
