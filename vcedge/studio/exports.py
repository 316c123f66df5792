"""What the studio hands out: masks, the overlay, labels for data sets; each one file."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vcedge.studio.datasets import Write, find_writers
from vcedge.studio.records import Labels, Record
from vcedge.studio.session import Session
from vcedge.studio.working import Stop
from vcedge_runtime.closing import Closing
from vcedge_runtime.errors import OutputError
from vcedge_runtime.files import explaining
from vcedge_runtime.video.frame import Frame
from vcedge_runtime.video.palette import encode_label_png
from vcedge_runtime.video.sinks import OverlayVideo


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


def write_masks(session: Session, path: Path, stop: Stop) -> None:
    """Write a zip with a folder of palette PNG, as DAVIS has them: ``vcedge eval davis`` scores it.

    Raises:
        OutputError: it cannot be written, or there is no mask.
    """
    folder = session.footage.name
    with explaining(path), zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for frame, labels, _ in each_frame(session, stop, with_images=False):
            archive.writestr(f"{folder}/{frame.name}.png", encode_label_png(labels))


def write_overlay(session: Session, path: Path, stop: Stop) -> None:
    """Write an MP4 with the objects drawn in, from the first frame with a mask to the last.

    Raises:
        OutputError: it cannot be written, or there is no mask.
    """
    with OverlayVideo(path, session.footage.fps) as sink:
        for frame, labels, record in each_frame(session, stop):
            known = {each.id for each in session.objects}
            scores = {number: score for number, score in record.scores.items() if number in known}
            sink.write(frame, labels, scores)


def each_frame(
    session: Session, stop: Stop, *, with_images: bool = True
) -> Iterator[tuple[Frame, Labels, Record]]:
    """Yield the frames that have a mask, and tell the page how far that is.

    Args:
        session: whose frames.
        stop: asked between two frames.
        with_images: whether the frames' images are needed; otherwise they are without a pixel.

    Raises:
        OutputError: there is no mask.
    """
    frames = [index for index in session.records.frames() if index in session.footage.span]
    if not frames:
        raise OutputError("there is no mask yet; draw an object and track it first")
    for done, index in enumerate(frames):
        record = session.records.find(index)
        if stop():
            raise OutputError("stopped; nothing was written")
        if record is not None:
            read = session.footage.read if with_images else session.footage.name_frame
            frame = read(index)
            yield frame, session.records.labels_of(record), record
        session.events.publish("export", done=done + 1, total=len(frames))


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
