"""Files and folders that appear whole or not at all: written under another name, then renamed."""

from __future__ import annotations

import glob
import json
import os
import re
import secrets
import shutil
import stat
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import OutputError
from vcedge_runtime.locking import Lock

STEM, SUFFIX = 40, 16
"""Most characters of a name that its drafts take over, so that theirs is never too long."""
OnDone = Callable[[str], None]
"""Is told where a whole file stands right before it gets its name."""
_DRAFT = re.compile(rf"\..{{0,{STEM}}}\.[0-9a-f]{{16}}\.part(\..{{1,{SUFFIX - 1}}})?", re.DOTALL)


class Draft:
    """A file or folder under the name that it has until it is whole.

    Python keeps every part of a ``Path`` until it tidies up, so that a name a frame would show in
    the memory of a long run; in here names are text.

    Args:
        path: as it will be named; a link stays, and what it leads to is replaced.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = os.path.realpath(path) if os.path.islink(path) else os.fspath(path)
        folder, name = os.path.split(self._path)
        self._place = os.path.join(folder, _name_draft(name, secrets.token_hex(4)))

    def __fspath__(self) -> str:
        """Where it is written: hidden, beside its path, by another name for every draft."""
        return self._place

    @property
    def path(self) -> Path:
        """As it will be named."""
        return Path(self._path)

    @property
    def place(self) -> Path:
        """Where it is written; see ``__fspath__``."""
        return Path(self._place)

    def keep(self, *, synced: bool = False) -> None:
        """Give it its name, in place of what has it.

        Args:
            synced: a file's content is on the disk before its name is, whenever the power fails.

        Raises:
            OSError: it cannot be; what has the name keeps it.
        """
        if synced:
            with open(self._place, "rb+") as file:
                os.fsync(file.fileno())
        if not (os.path.isdir(self._place) and os.path.isdir(self._path)):
            os.replace(self._place, self._path)
            return
        former = Draft(self._path)
        os.replace(self._path, former)
        try:
            os.replace(self._place, self._path)
        except OSError:
            os.replace(former, self._path)
            raise
        former.discard()

    def discard(self) -> None:
        """Remove what is written as far as the disk lets us; its loss harms nobody."""
        _remove(self._place)


def list_drafts(path: Path) -> list[Path]:
    """What runs that were killed left of a file or folder."""
    before, _, after = _name_draft(path.name, "\0").partition("\0")
    return sorted(path.parent.glob(glob.escape(before) + 8 * "?" + glob.escape(after)))


def remove_drafts(folder: Path) -> None:
    """Remove the files that runs that were killed left in a folder, which one process writes.

    Raises:
        OSError: they cannot be listed or removed.
    """
    for path in [*folder.iterdir()]:
        if _DRAFT.fullmatch(path.name) is not None and not path.is_dir():
            path.unlink(missing_ok=True)


@contextmanager
def writing_whole(
    path: Path, *, synced: bool = False, on_done: OnDone = lambda place: None
) -> Iterator[Path]:
    """Give the place to write a file at; it gets its name when the block ends well.

    Args:
        path: the file; an older one of that name is replaced. What is no file, such as a device or
            a pipe, is written to as it is.
        synced: see ``Draft.keep``.
        on_done: told where the whole file stands right before it gets its name.

    Raises:
        OutputError: it cannot be written; nothing is left of it, whatever the block fails by.
    """
    with _drafting(path, synced, on_done) as place:
        yield Path(place)


@contextmanager
def _drafting(path: str | Path, synced: bool, on_done: OnDone) -> Iterator[str | Path]:
    draft = Draft(path)
    try:
        if _is_device(path):
            yield path
            return
        yield os.fspath(draft)
        on_done(os.fspath(draft))
        draft.keep(synced=synced)
    except OSError as exc:
        raise unwritable(path, exc) from exc
    finally:
        draft.discard()


@contextmanager
def writing_folder(path: Path, ours: Collection[str] = ()) -> Iterator[Path]:
    """Give an empty folder to write into, as ``writing_whole`` does; parents are made.

    One process at a time writes it. What earlier runs that were killed left of it is removed.

    Args:
        path: the folder.
        ours: names of what an older folder of that name may hold, which is removed with it.

    Raises:
        OutputError: it cannot be written, another process writes it, or the older one holds
            something else.
    """
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(Lock(path.parent / _name_lock(path), path))
            for left in list_drafts(path):
                _remove(left)
            _refuse_foreign(path, ours)
        except OSError as exc:
            raise unwritable(path, exc) from exc
        place = stack.enter_context(writing_whole(path))
        place.mkdir()
        yield place
        # Something may have come meanwhile.
        _refuse_foreign(path, ours)


def write_whole(
    path: str | Path,
    data: bytes | memoryview,
    *,
    synced: bool = False,
    on_done: OnDone = lambda place: None,
) -> None:
    """Write a file whole; see ``writing_whole``."""
    with _drafting(path, synced, on_done) as place:
        _fill(place, data)


def write_json(path: str | Path, value: object) -> None:
    """Write plain JSON values for people and programs, indented; see ``writing_whole``."""
    write_whole(path, (json.dumps(value, indent=1) + "\n").encode())


def _fill(place: str | Path, data: bytes | memoryview) -> None:
    with open(place, "wb") as file:
        file.write(data)


def make_folder(folder: Path) -> None:
    """Make a folder with its parents, where it is missing.

    Raises:
        OutputError: it cannot be made.
    """
    with explaining(folder):
        folder.mkdir(parents=True, exist_ok=True)


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array as ``.npy``, whole, and on the disk before it has its name.

    Several processes may write the same one at the same time; what killed ones left is removed.

    Raises:
        OutputError: it cannot be written.
    """
    make_folder(path.parent)
    try:
        with writing_whole(path, synced=True) as place, place.open("wb") as file:
            # numpy writes to a plain file by itself, and then does not tell why it cannot.
            np.save(_Plain(file), array)
    except OutputError as exc:
        # Another process that was done took this one's for left over.
        if not (isinstance(exc.__cause__, FileNotFoundError) and path.exists()):
            raise
    for left in list_drafts(path):
        _remove(left)


class _Plain:
    """The ``write`` of a file and nothing else of it."""

    def __init__(self, file: BinaryIO) -> None:
        self.write = file.write


class GrowingText:
    """A text file that stands under its name and grows line by line, so that it can be followed.

    What is written at once is written whole or not at all.

    Args:
        path: the file, emptied where it is there; lines end as they are given.
        keep: go on behind what is there.

    Attributes:
        written: whether anything was.

    Raises:
        OutputError: it cannot be opened.
    """

    def __init__(self, path: Path, *, keep: bool = False) -> None:
        self.path = path
        self.written = False
        try:
            # Without a buffer: what is written is seen, and a full disk is noticed, at once.
            self._file = path.open("ab" if keep else "wb", buffering=0)
        except OSError as exc:
            raise unwritable(path, exc) from exc
        self._size = self._file.tell() if self._file.seekable() else 0

    @property
    def closed(self) -> bool:
        """Whether it is finished."""
        return self._file.closed

    def write(self, text: str) -> None:
        """Write on.

        Raises:
            OutputError: it cannot be written; what was written before stands.
        """
        data = text.encode()
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except BaseException as exc:
            with suppress(OSError):
                self._file.truncate(self._size)
                self._file.seek(self._size)
            if isinstance(exc, OSError):
                raise unwritable(self.path, exc) from exc
            raise
        self._size += len(data)
        self.written = True

    def close(self) -> None:
        """Finish the file; where it is empty, there is none.

        Raises:
            OutputError: it cannot be finished.
        """
        if self.closed:
            return
        try:
            self._file.close()
            if not self._size and not _is_device(self.path):
                self.path.unlink(missing_ok=True)
        except OSError as exc:
            raise unwritable(self.path, exc) from exc


def append_line(path: Path, line: str) -> None:
    """Write a line behind a file's others, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    text = GrowingText(path, keep=True)
    try:
        text.write(line + "\n")
    finally:
        text.close()


@contextmanager
def explaining(path: Path) -> Iterator[None]:
    """Make every error of the system in a block one of writing a file or folder.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        yield
    except OSError as exc:
        raise unwritable(path, exc) from exc


def unwritable(path: str | Path, cause: OSError) -> OutputError:
    """Explain to the user why a file or folder cannot be written."""
    reason = cause.strerror or cause
    return OutputError(f"{path} cannot be written ({reason}); free the place or choose another")


def _name_draft(name: str, token: str) -> str:
    stem, suffix = os.path.splitext(name)
    suffix = suffix if len(suffix) <= SUFFIX else ""
    return f".{stem[:STEM]}.{_checksum(name)}{token}.part{suffix}"


def _name_lock(path: Path) -> str:
    return f".{path.name[:STEM]}.{_checksum(path.name)}.lock"


def _checksum(name: str) -> str:
    """Eight digits that long names differ in which begin alike."""
    return f"{zlib.crc32(os.fsencode(name)):08x}"


def _is_device(path: str | Path) -> bool:
    """Whether something stands there that is neither a file nor a folder; links are followed."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    # Such as /dev/stdout, which may lead to a file that others write to as well.
    linked = os.path.islink(path) and Path(path).parts[1:2] in (("dev",), ("proc",))
    return linked or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _refuse_foreign(folder: Path, ours: Collection[str]) -> None:
    held = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    foreign = sorted(held - set(ours))
    if foreign:
        raise OutputError(
            f"received {folder}, which holds {foreign[0]}, which vcedge did not write; move it "
            "away or choose another --out"
        )


def _remove(path: str | Path) -> None:
    with suppress(OSError):
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
