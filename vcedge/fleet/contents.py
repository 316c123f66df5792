"""What a video's results hang on, as one digest, and which results are there by it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from vcedge.fleet.table import Row
from vcedge_runtime.errors import SourceError
from vcedge_runtime.files import make_folder, write_whole, writing_folder
from vcedge_runtime.locking import LOCK_NAME
from vcedge_runtime.reading import read_bounded, sha256_of
from vcedge_runtime.video.outputs import MASKS_NAME, RECORD_NAME
from vcedge_runtime.video.pictures import match_files
from vcedge_runtime.video.traces import Traces, stands_whole

STORE_NAME = ".vcedge-batch"
"""Folder, in that of the results, of what is known of them."""
MARK_NAME = ".vcedge-batch.json"
"""File, in a folder of results, that says of what they are."""
MOST_FACTS = 2**20
"""Bytes of what is known of a video (our choice)."""


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
            return sha256_of(place)
        files = sorted(place.iterdir()) if place.is_dir() else match_files(place)
        held = {file.name: sha256_of(file) for file in files if file.is_file()}
    except OSError as exc:
        raise SourceError(
            f"received {path}, which cannot be read ({exc.strerror}); expected a video file, or a "
            "folder or glob of images"
        ) from exc
    return digest_facts(held)


class Finished:
    """Which videos are done, by the digest of what their results hang on.

    The folder of a video's results says of what they are; that folder is found by the digest too,
    whatever the video is called by now. Nothing is held for a hundred thousand of them, and
    processes of several machines can write them.

    Args:
        out: the folder of the folders of results.
        names: files or folders that each of them has besides what its record lists.
    """

    def __init__(self, out: str | Path, names: Sequence[str] = ()) -> None:
        self._out, self._names = Path(out), tuple(names)

    def find(self, digest: str, row: Row) -> Row | None:
        """Find the row of a video that was done before and whose results stand as they were.

        Those that stand under another name are linked under the video's own.

        Args:
            digest: what its results hang on.
            row: how it is called now.

        Raises:
            OutputError: they cannot be linked.
        """
        own = self._out / row.results
        found = self._read(own, digest)
        if found is None:
            found = self._take_over(own, digest)
            if found is not None:
                self.note(digest, replace(found, results=row.results))
        if found is None:
            return None
        return replace(found, line=row.line, video=row.video, results=row.results)

    def note(self, digest: str, row: Row) -> None:
        """Say of the results of a video that is done of what they are.

        Raises:
            OutputError: it cannot be written.
        """
        folder, place = self._out / row.results, self._place(digest)
        facts = {"digest": digest, "record": _digest_record(folder), "row": asdict(row)}
        write_whole(folder / MARK_NAME, json.dumps(facts).encode())
        make_folder(place.parent)
        write_whole(place, json.dumps({"results": row.results}).encode())

    def _read(self, folder: Path, digest: str) -> Row | None:
        """The row of a folder's results, if they are of this and stand as they were."""
        try:
            facts = json.loads(read_bounded(folder / MARK_NAME, MOST_FACTS))
            same = (facts["digest"], facts["record"]) == (digest, _digest_record(folder))
            found = Row.from_json(facts["row"])
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None
        # Where other files alone were asked for, there is no record.
        traces = Traces.of_folder(folder, "--out", (MASKS_NAME,))
        whole = stands_whole(traces) if facts["record"] else bool(self._names)
        exported = all((folder / name).exists() for name in self._names)
        return found if same and whole and exported else None

    def _take_over(self, own: Path, digest: str) -> Row | None:
        """Link results that stand under another name; None where there are none."""
        try:
            name = str(json.loads(read_bounded(self._place(digest), MOST_FACTS))["results"])
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None
        other = self._out / name
        leads_out = Path(name).name != name or name.startswith(".")
        if leads_out or own.exists() or self._read(other, digest) is None:
            return None
        with suppress(_ChangedError), writing_folder(own) as place:
            ignored = shutil.ignore_patterns(LOCK_NAME, "*.part", "*.part.*")
            shutil.copytree(other, place, copy_function=_link, dirs_exist_ok=True, ignore=ignored)
            found = self._read(place, digest)
            if found is None:
                raise _ChangedError  # another video's results were just written there
            return found
        return None

    def _place(self, digest: str) -> Path:
        return self._out / STORE_NAME / digest[:2] / f"{digest}.json"


class _ChangedError(Exception):
    """Results are no longer what they were a moment ago."""


def _link(source: str, place: str) -> None:
    """Have a file under a second name, or a copy of it where the disk knows no such thing.

    Records, which are hidden, are copied: the next run empties its own where it stands.
    """
    try:
        if not Path(place).name.startswith("."):
            os.link(source, place)
            return
    except OSError:
        pass
    shutil.copy2(source, place)


def _digest_record(folder: Path) -> str:
    """Digest what a run wrote to a folder, with the time of each file; empty for nothing."""
    place = folder / RECORD_NAME
    return sha256_of(place) if place.exists() else ""
