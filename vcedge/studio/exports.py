"""What the studio hands out: masks, the overlay, labels for data sets; each one file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vcedge.studio.session import Session
from vcedge.studio.working import Stop
from vcedge.studio.writing import write_coco, write_masks, write_overlay, write_yolo
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


EXPORTS = {
    "masks": ExportKind(".zip", write_masks, "Masks", "A palette PNG a frame, as DAVIS has them"),
    "overlay": ExportKind(".mp4", write_overlay, "Overlay", "A video with the objects drawn in"),
    "coco": ExportKind(".json", write_coco, "COCO", "Instances, with categories by your names"),
    "yolo": ExportKind(".zip", write_yolo, "YOLO", "Pictures and outlines, ready to train on"),
}
"""What can be written, by the word in its address."""


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
            name: one of ``EXPORTS``.

        Raises:
            OutputError: there is no such kind.
        """
        kind = EXPORTS.get(name)
        if kind is None:
            raise OutputError(f"received {name!r}; expected one of {sorted(EXPORTS)}")

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
        kind = EXPORTS[name]
        return Path(self._folder.name) / f"{self._session.footage.name}-{name}{kind.suffix}"

    def close(self) -> None:
        """Stop what writes them, and remove the files."""
        self._session.worker.stop()
        self._folder.cleanup()
