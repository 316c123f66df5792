"""What a video's results hang on, as one digest, and which results are there by it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from vcedge.fleet.table import DONE, Row
from vcedge_runtime.errors import SourceError
from vcedge_runtime.files import make_folder, write_whole
from vcedge_runtime.reading import read_bounded
from vcedge_runtime.video.outputs import MASKS_NAME
from vcedge_runtime.video.pictures import match_files
from vcedge_runtime.video.traces import Traces, stands_whole

STORE_NAME = ".vcedge-batch"
"""Folder, in that of the results, of what is known of them."""
CHUNK = 2**20
MOST_ROW = 2**20
"""Bytes of a row (our choice)."""


def digest_facts(facts: Mapping[str, Any]) -> str:
    """Digest what JSON can say, whatever its order."""
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_source(path: str | Path) -> str:
    """Digest what a source holds: a file's bytes, whatever its name; of images, their names too.

    Raises:
        SourceError: it cannot be read.
    """
    place = Path(path)
    try:
        if place.is_file():
            return _digest_file(place)
        files = sorted(place.iterdir()) if place.is_dir() else match_files(place)
        held = {file.name: _digest_file(file) for file in files if file.is_file()}
    except OSError as exc:
        raise SourceError(
            f"received {path}, which cannot be read ({exc.strerror}); expected a video file, or a "
            "folder or glob of images"
        ) from exc
    return digest_facts(held)


class Finished:
    """Rows of the videos that are done, by the digest of what their results hang on.

    Each is a file of its own, so that nothing is held for a hundred thousand of them, and that
    processes of several machines can write them.

    Args:
        out: the folder of the results.
    """

    def __init__(self, out: str | Path) -> None:
        self._out = Path(out)

    def find(self, digest: str, row: Row) -> Row | None:
        """Find the row of a video that was done before and whose results stand as they were.

        Args:
            digest: what its results hang on.
            row: how it is called now.
        """
        try:
            told = json.loads(read_bounded(self._place(digest), MOST_ROW))
            found = Row(**told)
            folder = self._out / found.results
            traces = Traces.of_folder(folder, "--out", (MASKS_NAME,))
            whole = folder.parent == self._out and stands_whole(traces)
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return None
        return replace(found, line=row.line, video=row.video) if whole else None

    def note(self, digest: str, row: Row) -> None:
        """Keep the row of a video that is done.

        Raises:
            OutputError: it cannot be written.
        """
        if row.state != DONE:
            return
        place = self._place(digest)
        make_folder(place.parent)
        write_whole(place, json.dumps(asdict(row)).encode())

    def _place(self, digest: str) -> Path:
        return self._out / STORE_NAME / digest[:2] / f"{digest}.json"


def _digest_file(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            found.update(data)
    return found.hexdigest()
