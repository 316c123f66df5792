"""Files that can be written at a run's end alone, and grow on the disk until then."""

from __future__ import annotations

import shutil
from abc import abstractmethod
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from vcedge_runtime.closing import Closing
from vcedge_runtime.files import explaining, writing_whole
from vcedge_runtime.stopping import finish_first
from vcedge_runtime.video.outputs import Output
from vcedge_runtime.video.sinks import NO_STATES, Labels, Scores, Sink, States
from vcedge_runtime.video.sources import Frame


class Spool(Closing):
    """Text that grows in a file without a name, which is gone when the process is.

    Args:
        path: of the file that it will be a part of, and beside which it lies.
        between: stands between two pieces.

    Attributes:
        pieces: how many there are.

    Raises:
        OutputError: nothing can be written there.
    """

    def __init__(self, path: Path, between: str = "") -> None:
        self.pieces = 0
        self._path = path
        self._between = between
        with explaining(path):
            # Without a buffer: a full disk is noticed at once.
            self._file = TemporaryFile(buffering=0, dir=path.parent)  # noqa: SIM115 - closed later

    def add(self, text: str) -> None:
        """Write a piece.

        Raises:
            OutputError: it cannot be written.
        """
        rest = memoryview(f"{self._between if self.pieces else ''}{text}".encode())
        with explaining(self._path):
            while rest:
                rest = rest[self._file.write(rest) :]
        self.pieces += 1

    def copy_to(self, file: BinaryIO) -> None:
        """Write all of it into a file."""
        self._file.seek(0)
        shutil.copyfileobj(self._file, file)

    def close(self) -> None:
        """Forget it; closing twice does no harm."""
        self._file.close()


class SpooledFile(Sink):
    """A file that has its name, whole, once the sink is closed; memory holds none of it.

    Args:
        path: the file.
        output: the run's place, which records it; None to replace what has its name.

    Raises:
        OutputError: it cannot be written, or something has its name that no run wrote.
    """

    def __init__(self, path: str | Path, output: Output | None = None) -> None:
        self.path = Path(path)
        self._output = output
        if output is not None:
            output.claim(self.path)
        self._frames = 0
        self._spools: list[Spool] = []

    def write(
        self, frame: Frame, labels: Labels, scores: Scores, states: States = NO_STATES
    ) -> None:
        """Keep the objects of a frame; where they cannot be written, no file is left."""
        try:
            self._add(frame, labels, scores)
        except BaseException:
            # Part of a frame would be a frame without its objects.
            self._discard()
            raise
        self._frames += 1

    def close(self) -> None:
        """Put the file together and give it its name; where no frame was written, there is none."""
        if not self._frames:
            self._discard()
            return
        on_done = partial(self._output.note, self.path) if self._output else lambda place: None
        try:
            with finish_first(), writing_whole(self.path, on_done=on_done) as place:
                self._fill(place)
        finally:
            self._discard()

    @abstractmethod
    def _add(self, frame: Frame, labels: Labels, scores: Scores) -> None:
        """Spool what the file tells of a frame."""

    @abstractmethod
    def _parts(self) -> Iterator[str | Spool]:
        """Yield what the file is put together of."""

    def _fill(self, place: Path) -> None:
        with place.open("wb") as file:
            for part in self._parts():
                if isinstance(part, Spool):
                    part.copy_to(file)
                else:
                    file.write(part.encode())

    def _open_spool(self, between: str = "") -> Spool:
        self._spools.append(Spool(self.path, between))
        return self._spools[-1]

    def _discard(self) -> None:
        self._frames = 0
        for spool in self._spools:
            spool.close()
