"""Files that tell the shapes of named objects: masks, or outlines."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path

from vcedge_runtime.video.categories import Categories
from vcedge_runtime.video.outputs import Output
from vcedge_runtime.video.spooling import SpooledFile


class ShapesFile(SpooledFile):
    """A file of named objects' shapes; it stands there, whole, once the sink is closed.

    Args:
        path: the file.
        names: of the objects, by id; several may have one. The others are ``object``.
        tolerance: None for masks; else outlines of at most so many pixels off, one for each part,
            whose holes are cut into it by slits.
        output: the run's place, which records it; None to replace what has its name.

    Raises:
        OutputError: it cannot be written, something has its name that no run wrote, or a name is
            none.
    """

    def __init__(
        self,
        path: str | Path,
        names: Mapping[int, str] | None = None,
        *,
        tolerance: float | None = None,
        output: Output | None = None,
    ) -> None:
        super().__init__(path, output)
        self._categories = Categories(names)
        self._tolerance = tolerance
        self._open_spools()

    @abstractmethod
    def _open_spools(self) -> None:
        """Open what grows until the end."""
