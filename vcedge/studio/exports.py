"""What the studio hands out: masks, the overlay, labels for data sets; each one file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vcedge.studio.datasets import find_writers
from vcedge.studio.session import Session
from vcedge.studio.working import Stop
from vcedge.studio.writing import write_masks, write_overlay
from vcedge_runtime.closing import Closing
from vcedge_runtime.errors import OutputError

Write = Callable[[Session, Path, Stop], None]


@dataclass(frozen=True)
class ExportKind:
    """A file that can be written.

    Attributes:
        suffix: ends the file's name.
        write: writes it.
        title: what the page calls it.
        about: what is in it, in a line.
    """

    suffix: str
    write: Write
    title: str
    about: str


def list_kinds() -> Mapping[str, ExportKind]:
    """What can be written here, by the word in its address."""
    masks = ExportKind(".zip", write_masks, "Masks", "A palette PNG a frame, as DAVIS has them")
    overlay = ExportKind(".mp4", write_overlay, "Overlay", "A video with the objects drawn in")
    kinds = {"masks": masks, "overlay": overlay}
    for name, (suffix, write) in find_writers().items():
        about = "Labels for training, categories by your names"
        kinds[name] = ExportKind(suffix, write, name.upper(), about)
    return kinds


class Exports(Closing):
    """Files that were written, the last one of each kind, until the studio closes.

    Args:
        session: what is exported.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._folder = tempfile.TemporaryDirectory(prefix="vcedge-studio-")

    def start(self, name: str) -> None:
        """Write a file in the session's worker, and tell the page when it is there.

        Args:
            name: one of ``list_kinds``.

        Raises:
            OutputError: there is no such kind.
        """
        kind = list_kinds().get(name)
        if kind is None:
            raise OutputError(f"received {name!r}; expected one of {sorted(list_kinds())}")

        def work(stop: Stop) -> None:
            path = self.path(name)
            path.unlink(missing_ok=True)
            try:
                kind.write(self._session, path, stop)
            except BaseException:
                path.unlink(missing_ok=True)
                raise
            self._session.events.publish("exported", name=name, file=path.name)

        self._session.export(work)

    def path(self, name: str) -> Path:
        """Where the file of a kind is, or will be."""
        kind = list_kinds()[name]
        return Path(self._folder.name) / f"{self._session.footage.name}-{name}{kind.suffix}"

    def close(self) -> None:
        """Remove the files."""
        self._folder.cleanup()
