"""Labels for training, COCO and YOLO, with categories by the objects' names."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from vcedge.studio.session import Session
from vcedge.studio.working import Stop
from vcedge.studio.writing import fill_sink
from vcedge_runtime.files import explaining
from vcedge_runtime.video.sinks import Sink

_ROOM = "vcedge_runtime.video"


def find_writers() -> Mapping[str, tuple[str, Callable[[Session, Path, Stop], None]]]:
    """What can be written here, by a short name: the file's suffix, and what writes it."""
    writers = {"coco": (".json", write_coco), "yolo": (".zip", write_yolo)}
    return {name: made for name, made in writers.items() if find_spec(f"{_ROOM}.{name}")}


def write_coco(session: Session, path: Path, stop: Stop) -> None:
    """Write COCO instances.

    Raises:
        OutputError: it cannot be written, or there is no mask.
    """
    fill_sink(_open_sink("coco", "CocoFile", path, session), session, stop)


def write_yolo(session: Session, path: Path, stop: Stop) -> None:
    """Write a zip of pictures and outlines, as YOLO trains on them.

    Raises:
        OutputError: it cannot be written, or there is no mask.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as name:
        folder = Path(name)
        fill_sink(_open_sink("yolo", "YoloFolder", folder, session), session, stop)
        with explaining(path), zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(folder.rglob("*")):
                archive.write(file, file.relative_to(folder))


def _open_sink(module: str, name: str, path: Path, session: Session) -> Sink:
    kind = getattr(import_module(f"{_ROOM}.{module}"), name)
    sink: Sink = kind(path, {each.id: each.name for each in session.objects})
    return sink
