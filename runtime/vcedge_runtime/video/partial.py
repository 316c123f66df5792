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
