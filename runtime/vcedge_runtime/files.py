"""Files and folders that appear whole or not at all: written under another name, then renamed."""

from __future__ import annotations

import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vcedge_runtime.errors import OutputError

STEM, SUFFIX = 40, 16
"""Most characters of a name that its drafts take over, so that theirs is never too long."""


class Draft:
    """A file or folder under the name that it has until it is whole.

    Args:
        path: as it will be named.

    Attributes:
        path: as given.
        place: where it is written: hidden, beside its path, with the same suffix; every draft has
            another.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.place = path.parent / _name_draft(path, secrets.token_hex(4))

    def keep(self, *, synced: bool = False) -> None:
        """Give it its name, in place of what has it.

        Args:
            synced: a file's content is on the disk before its name is, whenever the power fails.

        Raises:
            OSError: it cannot be; what has the name keeps it.
        """
        if synced:
            with self.place.open("rb+") as file:
                os.fsync(file.fileno())
        if not (self.place.is_dir() and self.path.is_dir()):
            self.place.replace(self.path)
            return
        former = Draft(self.path)
        self.path.replace(former.place)
        try:
            self.place.replace(self.path)
        except OSError:
            former.place.replace(self.path)
            raise
        former.discard()

    def discard(self) -> None:
        """Remove what is written as far as the disk lets us; its loss harms nobody."""
        _remove(self.place)


def list_drafts(path: Path) -> list[Path]:
    """What runs that were killed left of a file or folder."""
    before, _, after = _name_draft(path, "\0").partition("\0")
    return sorted(path.parent.glob(glob.escape(before) + 8 * "?" + glob.escape(after)))


@contextmanager
def writing_whole(path: Path, *, synced: bool = False) -> Iterator[Path]:
    """Give the place to write a file at; it gets its name when the block ends well.

    Args:
        path: the file; an older one of that name is replaced.
        synced: see ``Draft.keep``.

    Raises:
        OutputError: it cannot be written; nothing is left of it, whatever the block fails by.
    """
    draft = Draft(path)
    try:
        yield draft.place
        draft.keep(synced=synced)
    except OSError as exc:
        raise unwritable(path, exc) from exc
    finally:
        draft.discard()


@contextmanager
def writing_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to write into, as ``writing_whole`` does; parents are made.

    What earlier runs that were killed left of it is removed.
    """
    for left in list_drafts(path):
        _remove(left)
    with writing_whole(path) as place:
        place.mkdir(parents=True)
        yield place


def write_whole(path: Path, data: bytes, *, synced: bool = False) -> None:
    """Write a file whole; see ``writing_whole``."""
    with writing_whole(path, synced=synced) as place:
        place.write_bytes(data)


class GrowingText:
    """A text file that grows line by line and gets its name when it is closed.

    Args:
        path: the file; lines end as they are given.

    Attributes:
        written: whether anything was.

    Raises:
        OutputError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._draft = Draft(path)
        self.written = False
        try:
            self._file = self._draft.place.open("w", newline="", encoding="utf-8")
        except OSError as exc:
            raise unwritable(path, exc) from exc

    def write(self, text: str) -> None:
        """Write on.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            self._file.write(text)
        except OSError as exc:
            raise unwritable(self._draft.path, exc) from exc
        self.written = True

    def close(self) -> None:
        """Finish the file and give it its name; where nothing was written, there is none.

        Raises:
            OutputError: it cannot be finished.
        """
        if self._file.closed:
            return
        try:
            self._file.close()
            if self.written:
                self._draft.keep()
        except OSError as exc:
            raise unwritable(self._draft.path, exc) from exc
        finally:
            self._draft.discard()


def unwritable(path: Path, cause: OSError) -> OutputError:
    """Explain to the user why a file or folder cannot be written."""
    reason = cause.strerror or cause
    return OutputError(f"{path} cannot be written ({reason}); free the place or choose another")


def _name_draft(path: Path, token: str) -> str:
    suffix = path.suffix if len(path.suffix) <= SUFFIX else ""
    return f".{path.stem[:STEM]}.{token}.part{suffix}"


def _remove(path: Path) -> None:
    with suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
