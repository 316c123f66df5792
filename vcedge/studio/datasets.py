"""Labels for data sets, COCO and YOLO: the studio asks here which it can write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from vcedge.studio.session import Session
from vcedge.studio.working import Stop

Write = Callable[[Session, Path, Stop], None]


def find_writers() -> Mapping[str, tuple[str, Write]]:
    """What can be written, by a short name: the file's suffix, and what writes it."""
    return {}
