"""Files that appear whole or not at all: written under a partial name, then renamed."""

from __future__ import annotations

from pathlib import Path

from vcedge_runtime.errors import OutputError


def partial_path(path: Path) -> Path:
    """Name the file to write in place of another: hidden, in its folder, of its kind."""
    return path.with_name(f".{path.stem}.part{path.suffix}")


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole; an older one of that name is replaced.

    Raises:
        OutputError: the file cannot be written; nothing is left of it.
    """
    partial = partial_path(path)
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as exc:
        raise unwritable(path, exc) from exc
    finally:
        discard(partial)


class PartialText:
    """A text file that grows line by line and gets its name when it is closed.

    Args:
        path: the file; lines end as they are given.

    Attributes:
        written: whether anything was.

    Raises:
        OutputError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._partial = path, partial_path(path)
        self.written = False
        try:
            self._file = self._partial.open("w", newline="", encoding="utf-8")
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
            raise unwritable(self._path, exc) from exc
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
                self._partial.replace(self._path)
        except OSError as exc:
            raise unwritable(self._path, exc) from exc
        finally:
            discard(self._partial)


def discard(partial: Path) -> None:
    """Remove a partial file as far as the disk lets us; its loss harms nobody."""
    try:
        partial.unlink(missing_ok=True)
    except OSError:
        return


def unwritable(path: Path, cause: OSError) -> OutputError:
    """Explain to the user why a file cannot be written."""
    reason = cause.strerror or cause
    return OutputError(
        f"{path} cannot be written ({reason}); free the place or choose another --out"
    )
