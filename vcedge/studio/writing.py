"""Masks, the overlay and labels for training as files, from what is known of the frames."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from vcedge.studio.records import Labels, Record
from vcedge.studio.session import Session
from vcedge.studio.working import Stop
from vcedge_runtime.errors import OutputError
from vcedge_runtime.files import explaining
from vcedge_runtime.video.coco import CocoFile
from vcedge_runtime.video.frame import Frame
from vcedge_runtime.video.palette import encode_label_png
from vcedge_runtime.video.sinks import OverlayVideo, Sink
from vcedge_runtime.video.yolo import YoloFolder


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
    fill_sink(OverlayVideo(path, session.footage.fps), session, stop)


def write_coco(session: Session, path: Path, stop: Stop) -> None:
    """Write COCO instances, categories by the objects' names.

    Raises:
        OutputError: it cannot be written, or there is no mask.
    """
    fill_sink(CocoFile(path, _name_objects(session)), session, stop)


def write_yolo(session: Session, path: Path, stop: Stop) -> None:
    """Write a zip of pictures and outlines, as YOLO trains on them.

    Raises:
        OutputError: it cannot be written, or there is no mask.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as name:
        folder = Path(name)
        fill_sink(YoloFolder(folder, _name_objects(session)), session, stop)
        with explaining(path), zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(folder.rglob("*")):
                archive.write(file, file.relative_to(folder))


def fill_sink(sink: Sink, session: Session, stop: Stop) -> None:
    """Hand every frame that has a mask to a sink, and close it.

    Raises:
        OutputError: it cannot be written, or there is no mask.
    """
    known = {each.id for each in session.objects}
    with sink:
        for frame, labels, record in each_frame(session, stop):
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
        if 100 * done // len(frames) != 100 * (done + 1) // len(frames):
            session.events.publish("export", done=done + 1, total=len(frames))


def _name_objects(session: Session) -> dict[int, str]:
    return {each.id: each.name for each in session.objects}
