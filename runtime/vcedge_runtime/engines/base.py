"""What every engine is: a graph that runs on named arrays and writes where it is told to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from vcedge_runtime.spec import GraphSpec

Buffer = NDArray[Any]
"""An array where the engine wants it; on the host, a C-contiguous numpy array."""


class Engine(Protocol):
    """A graph loaded by a back-end."""

    @property
    def spec(self) -> GraphSpec:
        """Names, dtypes and shapes of the graph."""

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        """Run once; outputs are written into ``out``, whose arrays the caller owns.

        Raises:
            EngineError: an array does not fit the spec, or the back-end failed.
        """

    def close(self) -> None:
        """Release what the back-end holds."""
